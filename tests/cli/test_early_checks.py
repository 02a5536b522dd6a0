"""What is refused before torch is loaded and a picture is read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from shared import make_model, refused
from sspl.io.weights import save_tensors
from sspl.models.bundle import save_model

RUNNER = """
import contextlib, io, json, sys
from PIL import Image
from sspl.cli.main import main

opened, answers = [], []
Image.open = lambda *given, **more: opened.append(str(given))
for command in json.load(sys.stdin):
    sys.argv = ["sspl", *command.split()]
    said, code = io.StringIO(), None
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            code = end.code
    answers.append([said.getvalue(), code, "torch" in sys.modules, opened])
print(json.dumps(answers))
"""
"""Runs commands in one process, and tells after each what has been loaded and read so far."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces that are no pictures, labels, runs of both stages and a model."""
    folder = tmp_path_factory.mktemp("early")
    (folder / "faces").mkdir()
    for name in ("a", "b", "c"):
        (folder / "faces" / f"{name}.jpg").write_bytes(b"no picture")
    lines = ["image,split,Smiling", "a.jpg,train,1", "b.jpg,train,0", "c.jpg,val,1"]
    (folder / "labels.csv").write_text("\n".join(lines))
    for name in ("begun", "fine"):
        (folder / name).mkdir()
        (folder / name / "settings.yaml").write_text("seed: 0\n")
    save_model(folder / "fine", make_model("splnet", flip_average=False))
    metadata = {"kind": "pretrained", "backbone": {}, "canvas": 80, "input_size": 48}
    save_tensors(folder / "pre.safetensors", {"t": torch.zeros(1)}, metadata)
    return folder


CSV = "csv:labels.csv,images=faces"


REFUSED = [
        ("pretrain --data folder:faces --out begun", "begun already holds a run"),
        (f"finetune --data {CSV} --from none --out begun", "begun already holds a run"),
        ("pretrain --data folder:faces --out new optim.epochs=0", "optim.epochs: input should be"),
        ("pretrain --data folder:faces --out new tasks=[prt,pts]", "tasks: 'pts' is none of prt"),
        ("pretrain --data folder:faces --out new task.prd.grid=3", "task.prd: no task has this"),
        (f"pretrain --data {CSV} --out new splits=[test]", "has no face in ('test',)"),
        ("pretrain --data folder:gone --out new", "gone"),
        ("pretrain --out new", "data: no faces given"),
        (f"finetune --data {CSV} --from none --out new epochs=3", "did you mean optim.epochs?"),
        (f"finetune --data {CSV} --from none --out new --labels 5", "5 labelled faces are out of"),
        (f"finetune --data {CSV} --from gone --out new", "no such model file or folder"),
        (f"finetune --data {CSV} --from pre.safetensors --out new canvas=64", "trained with 80"),
        (f"evaluate fine --data {CSV}", "has no face in split 'test'"),
        (f"evaluate fine --data {CSV},crop=celeba", "has crop=0.05:0.1:0.95:1.0, not celeba"),
        ("predict fine faces --out found.txt", "ends in .csv, .jsonl, .parquet"),
        ("predict fine gone --out found.csv", "gone"),
        ("predict fine faces,crop=celeba --out found.csv", "has crop=0.05:0.1:0.95:1.0"),
        ("explain fine gone --out why", "gone"),
        ("export fine --out model.pt", "ends in .onnx"),
        ("report fine --out report.pdf", "ends in .html"),
        ("label faces --attributes Smiling --out labels.xlsx", "ends in .csv"),
        ("parser train faces faces --out begun", "begun already holds a run"),
        ("parser train faces faces --out new steps=0", "steps: input should be"),
        ("parser export fine --out parser.pt", "ends in .onnx"),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(place: Path) -> dict[str, Any]:
    """Return what each command says, its exit code, whether torch is loaded, pictures read."""
    commands = [command for command, _ in REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(commands),
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(commands, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize(("command", "said"), REFUSED)
def test_it_is_refused_before_torch_is_loaded(
    command: str, said: str, answers: dict[str, Any], place: Path
) -> None:
    sentence, code, loaded, opened = answers[command]
    assert said in sentence
    assert (code, loaded, opened) == (2, False, [])
    assert not (place / "new").exists()


def test_a_task_checks_its_own_settings_before_anything_is_made(place: Path) -> None:
    """Its model stands in its file, with the network; so this alone waits for torch."""
    out = place / "new"
    arguments = ["pretrain", "--data", f"folder:{place / 'faces'}", "--out", out, "task.prt.grid=5"]
    assert "task.prt.grid: input should be 2, 3 or 4 (got 5)" in refused(*arguments)
    assert not out.exists()
