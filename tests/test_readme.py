"""The README's steps, run as they stand there on drawn faces, but for sizes."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from shared import open_faces
from shared import sspl as command
from sspl.apps.labelling import app, start
from sspl.apps.labelling.desk import Desk
from sspl.apps.serving import shell
from sspl.data.synthetic import write_synthetic
from sspl.faces import photographs
from sspl.faces.face import Face, Pixels
from sspl.training import ready_heads

README: Final = Path(__file__).resolve().parents[1] / "README.md"
PHOTOGRAPHS: Final = 44
SMALLER: Final = {
    "parser": ("--no-average",),
    "pretrain": ("optim.epochs=1", "optim.batch_size=16"),
    "finetune": ("optim.epochs=1", "optim.batch_size=8"),
    "explain": ("--attributes", "Smiling"),
}
"""What is added to a command, by its first word, so that it is quick."""


def steps() -> list[list[str]]:
    """Return the words of each command of the section."""
    section = README.read_text(encoding="utf-8").partition("## Step by step")[2]
    block = re.search(r"```\n(.+?)```", section, re.S)
    assert block is not None
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


class OneFace:
    """A detector that takes the middle of every photograph for a face."""

    def detect(self, image: Pixels) -> list[Face]:
        height, width = image.shape[:2]
        return [Face((0.1 * width, 0.1 * height, 0.9 * width, 0.9 * height), 1.0)]


def diligent(truth: dict[str, int]) -> Callable[..., None]:
    """Return what stands for the page and whoever sits before it: every face gets its answers."""

    def run(desk: Desk, *address: Any) -> None:
        while faces := desk.round("tab"):
            for face in faces:
                name = desk.faces.names[face].replace("_0.jpg", ".jpg")
                desk.answer("tab", face, dict.fromkeys(desk.attributes, truth[name]))

    return run


def test_the_steps_go_through_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    write_synthetic(tmp_path / "drawn", PHOTOGRAPHS, seed=5, size=64)
    faces = open_faces("celeba", tmp_path / "drawn")
    column = faces.labels[:, faces.schema.index("Smiling")].tolist()
    monkeypatch.setattr(photographs, "make_detector", lambda *_: OneFace())
    monkeypatch.setattr(app, "make_app", lambda desk, *_: desk)
    monkeypatch.setattr(shell, "run_app", diligent(dict(zip(faces.names, column, strict=True))))
    monkeypatch.setattr(start, "_coach", lambda *_: None)
    monkeypatch.setattr(ready_heads, "DRAWN", 24)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn" / "img_align_celeba").rename("photos")
    Path("new_faces").mkdir()
    for name in faces.names[:2]:
        shutil.copy(Path("photos") / name, Path("new_faces") / name)
    said = {words[0]: command(*words, *SMALLER.get(words[0], ())).stdout for words in steps()}
    assert list(said) == [
        "faces", "parser", "pretrain", "heads", "label", "finetune", "model", "evaluate", "report",
        "predict", "explain", "export",
    ]  # fmt: skip
    assert "2 faces in predictions.csv" in said["predict"]
    made = ("report.html", "why", "model-to-hand-on/config.json", "model.onnx", "fine")
    assert [path for path in made if not Path(path).exists()] == []
    rows = Path("labels.csv").read_text().splitlines()
    assert len(rows) == PHOTOGRAPHS + 1
    assert {row.split(",")[1] for row in rows[1:]} == {"train", "test"}
