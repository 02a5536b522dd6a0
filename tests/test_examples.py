"""Both stages by hand, in `examples`, that `sspl pretrain` takes the same steps; the notebook."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shared import import_file
from sspl.data.data_settings import parse_data_spec
from sspl.settings import build
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import PretrainSettings

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STAGE1, STAGE2 = (import_file(EXAMPLES / f"stage{n}.py") for n in (1, 2))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("by-hand")
    return folder, STAGE1.main(folder, count=64, epochs=3)


@pytest.mark.parametrize("stage", [STAGE1, STAGE2], ids=lambda stage: stage.__name__)
def test_they_stay_short(stage: ModuleType) -> None:
    assert len(Path(str(stage.__file__)).read_text().splitlines()) <= 60


def test_the_losses_of_both_stages_fall(losses: tuple[Path, list[float]]) -> None:
    folder, first = losses
    # 44 training faces, eight a step, in three epochs.
    assert len(first) == 3 * 5
    assert mean(first[-5:]) < mean(first[:5]) - 0.3
    second, figures = STAGE2.main(folder, epochs=3)
    # At first no attribute is told: ln 2 each.
    assert second[0] == pytest.approx(0.693, abs=0.06)
    assert mean(second[-4:]) < second[0] - 0.1
    # Four out of five answers are the commoner one.
    assert 0.6 < figures["accuracy"] <= 1


def test_pretrain_takes_the_same_first_step(tmp_path: Path) -> None:
    (first,) = STAGE1.main(tmp_path, count=12, epochs=1)
    data = parse_data_spec(f"celeba:{tmp_path}/faces,masks={tmp_path}/faces/masks")
    content = {
        "data": [data.model_dump()],
        "canvas": STAGE1.CANVAS,
        "input_size": STAGE1.SIZE,
        "backbone": {"width": 0.125, "stem_stride": 2},
        "geometry": {"scale": [0.5, 1.0]},
        "optim": {"batch_size": STAGE1.BATCH, "epochs": 1},
        "runtime": {"precision": "fp32", "device": "cpu"},
    }
    row = pretrain(build(PretrainSettings, content), tmp_path / "run")
    assert row["loss"] == pytest.approx(first, abs=2e-5)


NOTEBOOK = json.loads((EXAMPLES / "python_api.ipynb").read_text(encoding="utf-8"))
SIZES = "FACES, LABELS, EPOCHS = 300, 100, 10"


def test_the_notebook_holds_no_output() -> None:
    codes = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(codes) > 4
    assert [cell["outputs"] for cell in codes] == [[]] * len(codes)


def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    codes = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
    assert SIZES in codes[0]
    for code in codes:
        exec(code.replace(SIZES, "FACES, LABELS, EPOCHS = 40, 20, 1"), known)
    said = capsys.readouterr().out
    assert "40 faces, 27 attributes" in said
    assert 0.5 < known["figures"].balanced_accuracy <= 1
    assert "Epoch 1 of 1 kept" in said or "epoch 1" in said.lower()
    assert known["found"].attributes == known["faces"].schema.names
