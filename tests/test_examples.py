"""The steps of both stages by hand, in `examples`, and that `sspl pretrain` takes the same."""

from pathlib import Path
from types import ModuleType

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
