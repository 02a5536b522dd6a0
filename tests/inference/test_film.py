"""Drawings on frames become one video, whole or not at all."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sspl.errors import SsplError
from sspl.inference import film
from sspl.inference.drawing import PANEL, annotated_path
from sspl.inference.film import join_frames, write_film

cv2 = pytest.importorskip("cv2", reason="needs the extra 'faces'")

SIZES = [(320, 240), (320, 240), (350, 300)]


def frames_of(folder: Path, name: str = "film.mp4") -> list[Path]:
    """Drawings of frames 0, 5 and 10: of growing grey, and of two sizes."""
    paths = [annotated_path(folder, name, frame) for frame in (0, 5, 10)]
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (60 * number, 60 * number, 200)).save(path)
    return paths


def entries_of(name: str = "film.mp4") -> list[dict[str, Any]]:
    still = {"image": "a.png", "frame": None, "seconds": None}
    taken = [{"image": name, "frame": f, "seconds": f / 20} for f in (0, 5, 10)]
    return [still, *taken, {"image": name, "frame": 11, "seconds": None, "error": "cut off"}]


def shown(path: Path) -> tuple[float, list[np.ndarray]]:
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        got, pixels = capture.read()
        if not got:
            return capture.get(cv2.CAP_PROP_FPS), found
        found.append(pixels[..., ::-1])


def test_frames_of_any_size_become_a_video_at_their_own_rate(tmp_path: Path) -> None:
    drawings = frames_of(tmp_path)
    assert join_frames(tmp_path, entries_of()) == drawings
    rate, frames = shown(tmp_path / "film.mp4.webm")
    assert rate == pytest.approx(4)  # A quarter of a second apart.
    assert [frame.shape for frame in frames] == [(300, 350, 3)] * 3
    for number, frame in enumerate(frames):
        assert np.abs(frame[150, 175].astype(int) - (60 * number, 60 * number, 200)).max() < 10
    # 320 x 240 fits into 350 x 300 as 350 x 262: a border above and below.
    assert np.abs(frames[0][[5, 295], 175].astype(int) - PANEL).max() < 14
    assert np.abs(frames[2][[5, 295], 175].astype(int) - (120, 120, 200)).max() < 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4", "film.mp4.webm"]
    assert sorted(p.name for p in (tmp_path / "film.mp4").iterdir()) == [
        "000000.jpg", "000005.jpg", "000010.jpg",
    ]  # fmt: skip


def test_a_single_frame_is_a_video_too(tmp_path: Path) -> None:
    first = frames_of(tmp_path)[:1]
    assert write_film(first, [0.0], tmp_path / "x.webm")
    assert len(shown(tmp_path / "x.webm")[1]) == 1


def test_without_a_writer_the_frames_stay_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames_of(tmp_path)
    closed = SimpleNamespace(isOpened=lambda: False)
    fake = SimpleNamespace(VideoWriter=lambda *_: closed, VideoWriter_fourcc=lambda *_: 0)
    monkeypatch.setattr(film, "opencv", lambda _: fake)
    with caplog.at_level(logging.WARNING):
        assert join_frames(tmp_path, entries_of()) == []
    assert f"film.mp4: OpenCV writes no video here; its frames are in {tmp_path}" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_what_was_there_stays_when_the_video_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: OpenCV writes on and says nothing."""
    frames_of(tmp_path)
    out = tmp_path / "film.mp4.webm"
    out.write_text("before")
    empty = SimpleNamespace(grab=lambda: False, release=lambda: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: empty)
    with pytest.raises(SsplError, match=r"cannot write .*film\.mp4\.webm: it ends too early"):
        join_frames(tmp_path, entries_of())
    assert out.read_text() == "before"
    assert len(list((tmp_path / "film.mp4").iterdir())) == 3
