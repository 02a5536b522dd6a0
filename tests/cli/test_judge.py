"""Commands that want a model, given a run of stage 1."""

from pathlib import Path

import pytest
import torch

from shared import refused
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weights import save_tensors


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "RUN"],
        ["predict", "RUN", "FACES", "--out", "OUT.csv"],
        ["explain", "RUN", "FACES", "--out", "OUT"],
        ["export", "RUN", "--out", "OUT.onnx"],
        ["model", "pack", "RUN", "--out", "OUT"],
    ],
    ids=lambda words: words[0],
)
def test_a_run_of_stage_1_is_no_model_yet(command: list[str], tmp_path: Path) -> None:
    run, faces = tmp_path / "run", tmp_path / "faces"
    faces.mkdir()
    save_tensors(run / PRETRAINED_FILE, {"a": torch.zeros(1)}, {"kind": "pretrained"})
    (run / "settings.yaml").write_text("data: [{format: folder, root: x}]\n", encoding="utf-8")
    words = [w.replace("RUN", str(run)).replace("FACES", str(faces)) for w in command]
    sentence = refused(*(w.replace("OUT", str(tmp_path / "out")) for w in words))
    assert sentence.startswith(f"{run}: is a run of stage 1, which knows no attributes")
    assert f"sspl finetune --from {run}" in sentence
