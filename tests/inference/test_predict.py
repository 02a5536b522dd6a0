"""Predictions of files, folders, patterns, videos and cameras, and what they look like."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared import BOX, CANVAS, SCHEMA, refused
from shared import sspl as command
from sspl.data.canvases import Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSource
from sspl.data.skipping import Skipped
from sspl.data.synthetic.render import render_face
from sspl.errors import DataError, SsplError
from sspl.faces.face import Face, Pixels
from sspl.faces.photographs import DetectSettings
from sspl.inference import sources as places
from sspl.inference.crops import crop_faces
from sspl.inference.drawing import LINE, Note, annotated, annotated_path, lines_about, shared
from sspl.inference.predict import FRAMES_AT_ONCE, PredictSettings, PredictSummary, predict
from sspl.inference.prediction_journal import PredictionJournal
from sspl.inference.scorers import TorchScorer, load_scorer
from sspl.inference.sources import Moving, Source, Stills
from sspl.models.bundle import AttributeModel
from sspl.models.decisions import Decisions
from sspl.models.scoring import face_probabilities

cv2 = pytest.importorskip("cv2")
NAMES = SCHEMA.names


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Eleven synthetic faces, one of them in a folder of its own."""
    folder = tmp_path / "faces"
    (folder / "album").mkdir(parents=True)
    for i in range(11):
        name = f"album/{i:02d}.png" if i == 10 else f"{i:02d}.png"
        Image.fromarray(render_face(4, i, 64).image).save(folder / name)
    return folder


@dataclass
class Flat:
    """Says of each canvas how red, green and blue it is, and remembers how many came at once."""

    attributes: tuple[str, ...] = ("Red", "Green", "Blue")
    decisions: Decisions = field(default_factory=lambda: Decisions(unsure={"Green": (0.3, 0.7)}))
    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    canvas: int = 8
    sizes: list[int] = field(default_factory=list)
    pictures: tuple[int, int] | None = None

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        return images.mean((1, 2)) / 255


def flat_pictures(folder: Path, count: int) -> Stills:
    """Pictures of which number i has red i / 100, green 0.5 and blue 1."""
    folder.mkdir()
    paths = tuple(folder / f"{i}.png" for i in range(count))
    for i, path in enumerate(paths):
        Image.new("RGB", (40, 30), (round(2.55 * i), 128, 255)).save(path)
    return Stills(str(folder), tuple(path.name for path in paths), paths)


class CornerFaces:
    """As many faces as the red of the first pixel says, each of 20 px, the larger ones later."""

    def detect(self, image: Pixels) -> list[Face]:
        count = round(image[0, 0, 0] / 2.55)
        return [Face((0.0, 0.0, 20.0 + i, 20.0), 0.5 + i / 100) for i in range(count)]


def look(
    sources: list[Source],
    out: Path,
    scorer: Any = None,
    policy: Any = "fail",
    annotate: Path | None = None,
    **settings: Any,
) -> PredictSummary:
    return predict(
        scorer or Flat(),
        sources,
        out,
        PredictSettings(**settings),
        Skipped(policy),
        annotate,
        make=CornerFaces,
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [1, 4, 128])
def test_overlapping_steps_say_what_the_plain_way_says(
    run: Path, model: AttributeModel, faces: Path, tmp_path: Path, batch_size: int
) -> None:
    data = parse_data_spec(f"folder:{faces}").open()
    canvases = Canvases([FaceSource(data, model.box)], model.canvas, None)
    wanted = face_probabilities(model, canvases, torch.device("cpu"), "fp32")
    out = tmp_path / "p.csv"
    look([Stills.of(data)], out, load_scorer(run, "cpu", "fp32"), batch_size=batch_size, threads=3)
    rows = table(out)
    assert [row["image"] for row in rows] == [*(f"{i:02d}.png" for i in range(10)), "album/10.png"]
    found = [[float(row[f"{name}_probability"]) for name in NAMES] for row in rows]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=6e-5)
    assert [[row[n] for n in NAMES] for row in rows] == [
        [str(int(p >= 0.5)) for p in face] for face in wanted
    ]


def test_every_kind_of_input_at_once(
    run: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    single = "faces/album/10.png"
    command("predict", run, "faces", "--out", "folder.csv")
    command("predict", run, "faces/**/*.png", single, "folder:faces", "--out", "all.csv")
    folder, found = table(Path("folder.csv")), table(Path("all.csv"))
    by_name = {f"faces/{row['image']}": row for row in folder}
    assert len(by_name) == 11
    names = [row["image"] for row in found]
    assert names == [*sorted(by_name), single, *by_name]
    for row in found:
        other = by_name[row["image"]]
        assert [row[n] for n in NAMES] == [other[n] for n in NAMES]
        # Faces share batches with others, which moves the last digits.
        for key in (f"{n}_probability" for n in NAMES):
            assert float(row[key]) == pytest.approx(float(other[key]), abs=1e-6)
    command("predict", run, single, "--out", "one.csv")
    assert [row["image"] for row in table(Path("one.csv"))] == [single]


def test_three_formats_hold_the_same(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    stills = flat_pictures(tmp_path / "flat", 60)
    for suffix in ("csv", "jsonl", "parquet"):
        look([stills], tmp_path / f"p.{suffix}", batch_size=8)
    rows = table(tmp_path / "p.csv")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    parquet = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(rows) == len(lines) == len(parquet) == 60
    for i, (row, line, entry) in enumerate(zip(rows, lines, parquet, strict=True)):
        # Green is always 128 / 255, in its band; red is 127 in picture 50 and 130 in the next.
        assert [row[n] for n in ("Red", "Green", "Blue")] == [str(int(i >= 51)), "", "1"]
        assert row["image"] == line["image"] == entry["image"] == f"{i}.png"
        for name, yes in (("Red", i >= 51), ("Green", None), ("Blue", True)):
            assert line["attributes"][name]["present"] is yes
            assert entry[name] is yes
            p = entry[f"{name}_probability"]
            assert float(row[f"{name}_probability"]) == p
            assert line["attributes"][name]["probability"] == p
        assert float(row["Red_probability"]) == pytest.approx(round(2.55 * i) / 255, abs=1e-15)


def test_faces_of_several_pictures_share_batches(tmp_path: Path) -> None:
    """Picture i has i faces: 0 + 1 + ... + 6 are 21."""
    stills = flat_pictures(tmp_path / "flat", 7)
    scorer = Flat()
    found = look(
        [stills],
        tmp_path / "p.csv",
        scorer,
        batch_size=4,
        detect="yes",
        detection=DetectSettings(min_size=20),
    )
    assert (found.faces, found.pictures, found.without) == (21, 7, 1)
    # Pictures 0 to 3 have 6 faces, 4 to 6 have 15.
    assert scorer.sizes == [4, 2, 4, 4, 4, 3]
    rows = table(tmp_path / "p.csv")
    assert [row["image"] for row in rows] == [f"{i}.png" for i in range(7) for _ in range(i)]
    assert [row["face"] for row in rows[-6:]] == list("012345")
    # The largest first: the last that the detector found.
    assert [row["right"] for row in rows[-6:]] == [f"{25.0 - i}" for i in range(6)]
    assert rows[-1]["score"] == "0.5"
    assert (tmp_path / "p.without_face.txt").read_text() == "0.png\n"
    assert "1 of 7 pictures without a face" in found.text()
    few = look(
        [stills],
        tmp_path / "q.csv",
        detect="yes",
        detection=DetectSettings(min_size=20, largest=True),
    )
    assert few.faces == 6
    assert {row["face"] for row in table(tmp_path / "q.csv")} == {"0"}
    assert look([stills], tmp_path / "r.csv", detect="yes").faces == 0


def test_found_faces_are_cut_in_the_frame_of_training(run: Path, faces: Path) -> None:
    image = Image.open(faces / "00.png").convert("RGB")
    points = np.array([(25.0, 30.0), (40.0, 31.0), (32.0, 38.0), (27.0, 45.0), (38.0, 46.0)])
    face = Face((10.0, 10.0, 54.0, 60.0), 0.9, points)
    (crop,) = crop_faces(image, [face], BOX, CANVAS)
    from sspl.data.images import image_canvas
    from sspl.faces.alignment import cut, place

    np.testing.assert_array_equal(crop.canvas, image_canvas(cut(image, place(face)), BOX, CANVAS))
    assert (crop.box, crop.score) == (face.box, 0.9)


def video(path: Path, frames: int) -> Path:
    """A film of grey frames, number i of grey 10 * i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("every", "most", "taken"), [(1, None, range(9)), (4, None, (0, 4, 8)), (2, 3, (0, 2, 4))]
)
def test_frames_of_a_video(tmp_path: Path, every: int, most: int | None, taken: Any) -> None:
    file = video(tmp_path / "film.avi", 9)
    source = Moving("film.avi", file, every, most)
    assert source.count() == len(taken)
    look([source], tmp_path / "p.csv", detect="no")
    rows = table(tmp_path / "p.csv")
    assert [int(row["frame"]) for row in rows] == list(taken)
    assert [float(row["seconds"]) for row in rows] == [i / 10 for i in taken]
    for row in rows:
        assert float(row["Red_probability"]) == pytest.approx(int(row["frame"]) / 25.5, abs=0.02)


def test_faces_are_searched_for_in_videos_but_not_in_stills(tmp_path: Path) -> None:
    """The detector of this file finds some faces in the second frame and none in the first."""
    film = Moving("film.avi", video(tmp_path / "film.avi", 2))
    stills = flat_pictures(tmp_path / "flat", 3)
    settings = DetectSettings(min_size=20)
    look([film, stills], tmp_path / "p.csv", detection=settings)
    rows = table(tmp_path / "p.csv")
    moving = [row for row in rows if row["frame"]]
    assert {row["frame"] for row in moving} == {"1"}
    found = len(moving)
    assert found in (3, 4)
    assert [(r["face"], r["left"], r["seconds"]) for r in rows[found:]] == [("", "", "")] * 3
    assert (tmp_path / "p.without_face.txt").read_text() == "film.avi, frame 0\n"
    look([film, stills], tmp_path / "q.csv", detection=settings, detect="yes")
    assert len(table(tmp_path / "q.csv")) == found + 0 + 1 + 2


class FakeCamera:
    """Gives grey frames until Ctrl-C is pressed at frame 40."""

    def __init__(self, place: object) -> None:
        self.place, self.number = place, -1

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.place == 2

    def get(self, what: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.number += 1
        if self.number == 40:
            raise KeyboardInterrupt
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((30, 40, 3), self.number, np.uint8)

    def release(self) -> None:
        pass


def test_a_camera_ends_with_an_interruption_and_keeps_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    camera = places.open_source("camera:2", pytest.fail)
    out = tmp_path / "p.jsonl"
    assert camera.endless
    assert camera.count() is None
    found = look([camera], out, detect="no", batch_size=4)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert found.faces == len(lines)
    # What was waiting for the network at that moment is lost, no more.
    assert 40 - 3 * 4 - 4 <= len(lines) <= 40
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert lines[5]["attributes"]["Red"]["probability"] == pytest.approx(5 / 255, abs=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]
    few = Moving("camera:2", 2, every=3, most=5)
    look([few], out, detect="no")
    assert [json.loads(line)["frame"] for line in out.read_text().splitlines()] == [0, 3, 6, 9, 12]
    with pytest.raises(DataError, match="camera:0: no camera that answers"):
        look([Moving("camera:0", 0)], out, detect="no")
    assert sorted(path.name for path in out.parent.iterdir()) == ["p.jsonl"]


class Interrupted(Flat):
    """Stops at the third batch."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        if len(self.sizes) == 2:
            raise KeyboardInterrupt
        return super().probabilities(images)


def test_an_interrupted_run_goes_on_and_ends_alike(tmp_path: Path) -> None:
    stills = flat_pictures(tmp_path / "flat", 20)
    look([stills], tmp_path / "whole.csv", batch_size=4)
    out, scorer = tmp_path / "p.csv", Interrupted()
    with pytest.raises(KeyboardInterrupt):
        look([stills], out, scorer, batch_size=4)
    assert not out.exists()
    partial = tmp_path / ".p.csv.partial"
    with partial.open("a") as file:
        file.write('{"image": "to')  # a line that a killed run did not finish
    rest = Flat()
    look([stills], out, rest, batch_size=4)
    assert sum(rest.sizes) == 20 - 8
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not partial.exists()
    again = Flat()
    look([stills], out, again, batch_size=4)
    assert sum(again.sizes) == 20


@pytest.mark.parametrize("change", ["model", "settings", "pictures"])
def test_what_another_prediction_left_is_not_gone_on_with(tmp_path: Path, change: str) -> None:
    stills = flat_pictures(tmp_path / "flat", 20)
    out = tmp_path / "p.csv"
    with pytest.raises(KeyboardInterrupt):
        look([stills], out, Interrupted(), batch_size=4)
    scorer = Flat()
    other = replace(stills, names=stills.names[:19], paths=stills.paths[:19])
    predict(
        scorer,
        [other if change == "pictures" else stills],
        out,
        PredictSettings(batch_size=5 if change == "settings" else 4),
        Skipped("fail"),
        model="other" if change == "model" else "",
    )
    assert sum(scorer.sizes) == (19 - 8 if change == "pictures" else 20)
    assert [row["image"] for row in table(out)] == list(
        (other if change == "pictures" else stills).names
    )


@pytest.mark.parametrize("change", ["other size", "same size", "touched", "copied", "gone", "new"])
def test_changed_pictures_are_looked_at_again_and_the_first_is_named(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight of twenty were looked at; then something happens to number 5."""
    stills = flat_pictures(tmp_path / "flat", 20)
    out, fifth = tmp_path / "p.csv", stills.paths[5]
    assert isinstance(fifth, Path)
    with pytest.raises(KeyboardInterrupt):
        look([stills], out, Interrupted(), batch_size=4)
    names = list(stills.names)
    if change in ("other size", "same size"):
        size = fifth.stat().st_size
        Image.new("RGB", (40, 30), (255, 128, 255)).save(fifth)
        with fifth.open("ab") as file:
            file.write(b"\0" * (size + (change == "other size") - fifth.stat().st_size))
        assert (fifth.stat().st_size == size) is (change == "same size")
    elif change == "touched":
        os.utime(fifth, (1, 1))
    elif change == "copied":
        for name in names:
            os.utime(tmp_path / "flat" / name, (1, 1))
    elif change == "gone":
        names.remove("5.png")
    else:
        names.insert(5, "50.png")
        Image.new("RGB", (40, 30), (99, 128, 255)).save(tmp_path / "flat" / "50.png")
    paths = tuple(tmp_path / "flat" / name for name in names)
    scorer, now = Flat(), Stills(stills.source, tuple(names), paths)
    look([now], out, scorer, batch_size=4)
    same = change in ("touched", "copied")
    assert sum(scorer.sizes) == len(names) - (8 if same else 5)
    assert ("5.png is not what it was" in caplog.text) is not same
    look([now], tmp_path / "fresh.csv", batch_size=4)
    assert out.read_bytes() == (tmp_path / "fresh.csv").read_bytes()


def test_a_changed_video_is_looked_at_again_and_a_touched_one_is_not(tmp_path: Path) -> None:
    film, out = video(tmp_path / "film.avi", 25), tmp_path / "p.csv"
    stills = flat_pictures(tmp_path / "flat", 4)
    for frames, left in ((25, 25 + 4 - 16), (20, 20 + 4)):
        with pytest.raises(KeyboardInterrupt):
            look([Moving("f", film), stills], out, Interrupted(), batch_size=8, detect="no")
        if frames != 25:
            video(film, frames)
        os.utime(film, (1, 1))
        scorer = Flat()
        look([Moving("f", film), stills], out, scorer, batch_size=8, detect="no")
        assert sum(scorer.sizes) == left
        assert len(table(out)) == frames + 4


class Edges:
    """Says of picture i what stands at place i of `values`, of each attribute."""

    attributes = ("Red", "Green", "Blue")
    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    canvas = 8
    pictures = None

    def __init__(self, values: list[float], decisions: Decisions) -> None:
        self.values, self.decisions, self.next = values, decisions, 0

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        found = self.values[self.next : self.next + len(images)]
        self.next += len(images)
        return np.repeat(np.array(found)[:, None], 3, axis=1)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_decision_is_that_of_the_number_that_is_read_back(tmp_path: Path, suffix: str) -> None:
    low, high = 0.3, 0.49999999999999994
    edges = [0.5, low, high, 1 / 3, 0.1 + 0.2]
    values = [0.0, 1.0, *edges]
    values += [float(np.nextafter(v, end)) for v in edges for end in (0.0, 1.0)]
    decisions = Decisions(thresholds={"Green": 1 / 3}, unsure={"Blue": (low, high)})
    stills = flat_pictures(tmp_path / "flat", len(values))
    out = tmp_path / f"p{suffix}"
    look([stills], out, Edges(values, decisions), batch_size=4, threads=1)
    rows: list[dict[str, Any]] = []
    if suffix == ".csv":
        said = {"1": True, "0": False, "": None}
        for line in table(out):
            rows.append({n: said[line[n]] for n in Edges.attributes})
            keys = [f"{n}_probability" for n in Edges.attributes]
            rows[-1] |= {key: float(line[key]) for key in keys}
    elif suffix == ".jsonl":
        for text in out.read_text().splitlines():
            found = json.loads(text)["attributes"]
            rows.append({n: found[n]["present"] for n in found})
            rows[-1] |= {f"{n}_probability": found[n]["probability"] for n in found}
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    assert len(rows) == len(values)
    for row, value in zip(rows, values, strict=True):
        red, green, blue = (row[f"{name}_probability"] for name in Edges.attributes)
        assert red == green == blue == value
        assert row["Red"] is (red >= 0.5)
        assert row["Green"] is (green >= 1 / 3)
        assert row["Blue"] is (None if low < blue < high else blue >= 0.5)


class Tape:
    """A video whose frames have given times, as OpenCV tells them."""

    def __init__(self, times: list[float], rate: float, count: float) -> None:
        self.times, self.properties = (
            times,
            {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_FRAME_COUNT: count},
        )
        self.at = -1

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.times)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((30, 40, 3), np.uint8)

    def get(self, what: int) -> float:
        if what == cv2.CAP_PROP_POS_MSEC:
            return self.times[self.at] * 1000
        return self.properties[what]

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("times", "rate", "seconds"),
    [
        ([0, 0.1, 0.2, 1.2, 2.2], 2.0, [0, 0.1, 0.2, 1.2, 2.2]),
        ([0.4, 0.5, 0.6], 10.0, [0.4, 0.5, 0.6]),
        ([0, 0, 0], 10.0, [0, 0.1, 0.2]),  # none given
        ([0, 0, 0], 0.0, [0, 0.04, 0.08]),  # nor a rate
        ([float("nan"), -1, 3.0, 2.0, 4.0], 10.0, [0, 0.1, 3.0, 3.1, 4.0]),
    ],
)
def test_seconds_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Any, rate: float, seconds: Any
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Tape(times, rate, len(times)))
    film = tmp_path / "film.mp4"
    film.write_bytes(b"x")
    assert [s.seconds for s in Moving("film", film).shots()] == pytest.approx(seconds)
    # The times of frames that are not taken count, too.
    every = [s.seconds for s in Moving("film", film, every=2).shots()]
    assert every == pytest.approx(seconds[::2])


@pytest.mark.parametrize(
    ("frames", "count", "rate", "missing"),
    [
        (50, 120, 10, 70), (97, 100, 10, 3), (98, 100, 10, 0), (990, 1000, 10, 0),
        (50, -1, 10, 0), (50, 0, 10, 0), (60, 50, 10, 0), (50, float("nan"), 10, 0),
        (50, 200, 40, 0),  # an estimate, of a length that the last frame reaches
    ],
)  # fmt: skip
def test_a_video_that_ends_too_early_says_how_many_frames_are_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frames: int,
    count: float,
    rate: float,
    missing: int,
) -> None:
    times = [i / 10 for i in range(frames)]
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Tape(times, rate, count))
    monkeypatch.setattr(Moving, "count", lambda _: None)
    film, out = tmp_path / "film.mp4", tmp_path / "p.csv"
    film.write_bytes(b"x")
    source = Moving("film", film)
    if missing:
        with pytest.raises(DataError, match=f"ends after {frames} .* {missing} are missing"):
            look([source], out, detect="no")
        assert not out.exists()
    rest = Flat()
    found = look([source], out, rest, policy="skip", detect="no")
    assert (found.faces, found.skipped) == (frames, int(bool(missing)))
    assert sum(rest.sizes) == (0 if missing else frames), "what was found is kept"
    # Whoever asks for a few frames alone misses none.
    assert look([Moving("film", film, most=40)], out, detect="no").faces == 40


def test_a_real_video_that_was_cut_off_is_told_from_a_whole_one(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(60):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    assert look([Moving("film", film)], tmp_path / "p.csv", detect="no").faces == 60
    content = film.read_bytes()
    middle, index = len(content) // 2, content.index(b"moov") - 4
    film.write_bytes(content[:middle] + b"\0" * (index - middle) + content[index:])
    with pytest.raises(DataError, match="are missing"):
        look([Moving("film", film)], tmp_path / "p.csv", detect="no")


def test_file_names_that_are_not_utf8_are_refused_or_left_out(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "l"
    folder.mkdir()
    good, bad = folder / "b.jpg", folder / os.fsdecode(b"caf\xe9.jpg")
    for path in (good, bad):
        try:
            Image.fromarray(render_face(4, 1, 64).image).save(path)
        except (OSError, UnicodeError):
            pytest.skip("this file system takes no such names")
    out = tmp_path / "p.csv"
    for given in ((good, bad), (folder / "*.jpg",)):
        sentence = refused("predict", run, *given, "--out", out)
        assert "caf\\xe9.jpg: the file name is not UTF-8" in sentence
        command("predict", run, *given, "--on-error", "skip", "--out", out)
        assert len(table(out)) == 1
        (left,) = table(tmp_path / "p.skipped.csv")
        assert left["image"].endswith("caf\\xe9.jpg")
    assert "can be used" in refused("predict", run, bad, "--on-error", "skip", "--out", out)


def test_an_unusable_picture_stops_the_run_until_it_is_mended(tmp_path: Path) -> None:
    stills = flat_pictures(tmp_path / "flat", 12)
    whole = stills.paths[7].read_bytes()
    stills.paths[7].write_bytes(whole[:30])
    out = tmp_path / "p.csv"
    with pytest.raises(DataError, match=r"7\.png"):
        look([stills], out, batch_size=3)
    stills.paths[7].write_bytes(whole)
    rest = Flat()
    look([stills], out, rest, batch_size=3)
    assert sum(rest.sizes) == 12 - 7
    assert len(table(out)) == 12


def test_skipped_pictures_are_listed(tmp_path: Path) -> None:
    stills = flat_pictures(tmp_path / "flat", 5)
    stills.paths[1].write_bytes(b"no picture")
    found = look([stills], tmp_path / "p.csv", policy="skip")
    assert (found.faces, found.pictures, found.skipped) == (4, 5, 1)
    (row,) = table(tmp_path / "p.skipped.csv")
    assert (row["source"], row["image"]) == (stills.source, "1.png")
    assert "not a picture" in row["reason"]
    only = replace(stills, names=("1.png",), paths=stills.paths[1:2])
    with pytest.raises(DataError, match="not one of its 1 faces can be used"):
        look([only], tmp_path / "q.csv", policy="skip")
    assert not (tmp_path / "q.csv").exists()


def test_a_long_video_without_faces_does_not_pile_up(tmp_path: Path) -> None:
    """Frames wait for company in a batch, but only so many of them."""
    waiting = []

    class Watching(Flat):
        def probabilities(self, images: np.ndarray) -> np.ndarray:
            waiting.append(len(images))
            return super().probabilities(images)

    from sspl.inference.predict import LookedShot, scored

    def pictures() -> Iterator[list[LookedShot]]:
        for i in range(40):
            shot = places.Shot("film", "film", frame=i)
            yield [LookedShot(shot, ()) for _ in range(FRAMES_AT_ONCE)]

    groups = [len(group) for group in scored(pictures(), Watching(), 128)]
    assert set(groups) == {4 * FRAMES_AT_ONCE}
    assert sum(groups) == 40 * FRAMES_AT_ONCE


def test_drawings(tmp_path: Path) -> None:
    stills = flat_pictures(tmp_path / "flat", 3)
    folder = tmp_path / "drawn"
    look(
        [stills],
        tmp_path / "p.csv",
        annotate=folder,
        detect="yes",
        detection=DetectSettings(min_size=20),
    )
    assert sorted(p.name for p in folder.iterdir()) == ["0.png.jpg", "1.png.jpg", "2.png.jpg"]
    drawn = np.asarray(Image.open(folder / "2.png.jpg")).astype(int)
    plain = np.asarray(Image.open(folder / "0.png.jpg")).astype(int)
    # Several faces need more room for their text.
    assert plain.shape == (320, 427, 3)
    assert drawn.shape == (640, 853, 3)
    assert np.abs(plain - plain[0, 0]).max() < 8
    # The box reaches from the corner to 20 px right and down, at 640 / 30 times the size.
    right = 20 * 640 // 30
    assert np.abs(drawn[200, right] - LINE).max() < 60
    assert np.abs(drawn[200, right + 120] - drawn[0, right + 120]).max() < 12
    film = Moving("a/film.avi", video(tmp_path / "film.avi", 2))
    look([film], tmp_path / "q.csv", annotate=folder, detect="no")
    assert [p.name for p in (folder / "a").iterdir()] == ["film.avi.webm"]


def test_lines_name_the_likeliest_and_mark_what_is_not_sure() -> None:
    names = ("Big_Nose", "Smiling", "Young", "Bald", "Bangs")
    probabilities, present = (0.7, 0.9, 0.5, 0.1, 0.8), (True, True, None, False, True)
    assert lines_about(names, probabilities, present, 3) == [
        "Smiling 90%",
        "Bangs 80%",
        "Big nose 70%",
    ]
    assert lines_about(names, probabilities, present, 9)[-1] == "Young? 50%"


def test_text_stays_on_the_picture_whatever_the_box() -> None:
    image = Image.new("RGB", (400, 400), (90, 90, 90))
    lines = ["Wearing Necktie 99%"] * 4
    white = [
        (np.asarray(annotated(image, [Note(tuple(map(float, box)), lines)])) == 255).all(2).sum()
        for box in (
            (0, 0, 399, 399),
            (350, 300, 399, 399),
            (-50, -50, 30, 30),
            (380, 10, 480, 60),
            (100, 100, 200, 200),
        )
    ]
    # Lines that are cut off have less white; the last box has room on all sides.
    assert min(white) > 0.95 * white[-1] > 100


def test_text_does_not_hide_another_face() -> None:
    """Below the first face lies the second; the text of each goes where neither is."""
    image = Image.new("RGB", (800, 800), (90, 90, 90))
    above, below = (300.0, 300.0, 400.0, 400.0), (300.0, 410.0, 400.0, 510.0)
    lines = ["Wearing Necktie 99%"] * 4
    drawn = np.asarray(annotated(image, [Note(above, lines), Note(below, lines)])).astype(int)
    for left, top, right, bottom in (above, below):
        inside = drawn[int(top) + 6 : int(bottom) - 6, int(left) + 6 : int(right) - 6]
        assert (inside == 90).all()
    assert ((drawn == 255).all(2)).sum() > 200


def test_shared_area_by_hand() -> None:
    assert shared((0, 0, 10, 10), (6, 7, 20, 20)) == 4 * 3
    assert shared((0, 0, 10, 10), (10, 0, 20, 20)) == 0
    assert shared((0, 0, 10, 10), (11, 12, 20, 20)) == 0


@pytest.mark.parametrize(
    ("name", "frame", "path"),
    [
        ("a/b.jpg", None, "d/a/b.jpg"),
        ("a/b.png", None, "d/a/b.png.jpg"),
        ("/etc/x/../b.jpg", None, "d/etc/x/b.jpg"),
        ("../../b.jpg", None, "d/b.jpg"),
        ("camera:0", 12, "d/camera_0/000012.jpg"),
    ],
)
def test_drawings_stay_in_their_folder(name: str, frame: int | None, path: str) -> None:
    assert annotated_path(Path("d"), name, frame) == Path(path)


def test_nothing_that_is_read_is_written_over(run: Path, faces: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in faces.rglob("*.png")}
    for folder in (faces, faces / "drawn", tmp_path):
        sentence = refused("predict", run, faces, "--out", tmp_path / "p.csv", "--annotate", folder)
        assert "lie in one another" in sentence
    labels = tmp_path / "labels.csv"
    labels.write_text("image,Smiling\n00.png,1\n")
    spec = f"csv:{labels},images={faces}"
    assert "is what is read" in refused("predict", run, spec, "--out", labels)
    assert labels.read_text() == "image,Smiling\n00.png,1\n"
    assert {p: p.read_bytes() for p in faces.rglob("*.png")} == before


def test_inputs_that_cannot_be_are_named(run: Path, faces: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "p.csv")
    assert "no such file" in refused("predict", run, tmp_path / "gone.jpg", *out)
    assert "no such file" in refused("predict", run, tmp_path / "gone.mp4", *out)
    assert "no picture fits this pattern" in refused("predict", run, f"{tmp_path}/*.jpg", *out)
    (tmp_path / "film.mp4").write_bytes(b"no film")
    assert "no video that can be read" in refused("predict", run, tmp_path / "film.mp4", *out)
    assert not list(tmp_path.glob("p.*"))
    sentence = refused("predict", run, faces, "--detect", "--min-score", 3, *out)
    assert "scores of yunet end at 1" in sentence


def test_missing_pyarrow_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    scorer = Flat()
    with pytest.raises(SsplError, match=r"pip install '\.\[parquet\]'"):
        look([flat_pictures(tmp_path / "flat", 2)], tmp_path / "p.parquet", scorer)
    assert scorer.sizes == []


def test_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SsplError, match="cannot write"),
        PredictionJournal(tmp_path / "file" / "p.csv", 1),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full here")
def test_a_full_disk_is_said_of_the_journal_when_closing_fails_too(tmp_path: Path) -> None:
    journal = PredictionJournal(tmp_path / "p.csv", {"a": 1})

    def note() -> None:
        with journal:
            journal._file.close()
            journal._file = Path("/dev/full").open("w")  # noqa: SIM115
            journal.add({"n": 0})
            journal.flush()

    told = r"cannot write .*\.p\.csv\.partial: No space left on device; free some space"
    with pytest.raises(SsplError, match=told):
        note()


@pytest.mark.real
def test_all_of_it_on_real_photographs(real_data: Path, run: Path, tmp_path: Path) -> None:
    """YuNet finds the middle faces of LFW's pictures, and a few go through the whole command."""
    few = tmp_path / "photos"
    few.mkdir()
    for path in sorted((real_data / "lfw" / "full_250").rglob("*.jpg"))[:6]:
        shutil.copy(path, few)
    command(
        "predict",
        run,
        few,
        "--detect",
        "--out",
        tmp_path / "p.csv",
        "--annotate",
        tmp_path / "drawn",
    )
    rows = table(tmp_path / "p.csv")
    assert len({row["image"] for row in rows}) == 6
    assert len(list((tmp_path / "drawn").iterdir())) == 6


def test_scorers_of_either_kind_describe_themselves(run: Path, model: AttributeModel) -> None:
    scorer = load_scorer(run, "cpu")
    assert isinstance(scorer, TorchScorer)
    assert (scorer.attributes, scorer.box, scorer.canvas) == (NAMES, BOX, CANVAS)
    assert scorer.decisions == model.decisions


def test_a_damaged_line_of_an_interrupted_run_is_named(tmp_path: Path) -> None:
    with PredictionJournal(tmp_path / "p.csv", {"a": 1}) as journal:
        for number in range(3):
            journal.add({"n": number})
        journal.flush()
    written = journal.path.read_bytes().splitlines(keepends=True)
    written[2] = b"no record\n"
    journal.path.write_bytes(b"".join(written))
    with (
        PredictionJournal(tmp_path / "p.csv", {"a": 1}) as again,
        pytest.raises(DataError, match=r"line 3: damaged; remove the file"),
    ):
        list(again.entries())
