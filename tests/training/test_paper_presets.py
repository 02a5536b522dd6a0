"""Presets `paper-sspl` and `paper-splnet`, number by number and epoch by epoch.

The tables are docs/method.md#optimisation-in-the-reference, written out by hand.
"""

import csv
from pathlib import Path
from typing import Any

import pytest

from sspl.data.data_settings import DataSettings
from sspl.data.synthetic import write_synthetic
from sspl.data.view_settings import ColourSettings
from sspl.settings import build
from sspl.training import finetune as stage2
from sspl.training import loop
from sspl.training import pretrain as stage1
from sspl.training.stage_settings import PRESETS, FinetuneSettings, PretrainSettings, preset

PAPER = ("paper-sspl", "paper-splnet")
PUBLISHED = tuple(f"{name}-as-published" for name in PAPER)

# 5e-4, epochs counted from 0: warm-up in 0..6, x0.1 in 7..10, then x0.01.
STAGE_1 = [
    0.0000714286, 0.000142857, 0.000214286, 0.000285714, 0.000357143, 0.000428571, 0.0005,
    0.00005, 0.00005, 0.00005, 0.00005,
    *[0.000005] * 69,
]  # fmt: skip

# 1e-4: warm-up to x1.5 in 0..6, x1.5 in 7..15, x0.5 in 16..35, x0.15 in 36..50, then x0.01.
STAGE_2 = [
    0.0000214286, 0.0000428571, 0.0000642857, 0.0000857143, 0.000107143, 0.000128571, 0.00015,
    *[0.00015] * 9,
    *[0.00005] * 20,
    *[0.000015] * 15,
    *[0.000001] * 19,
]  # fmt: skip

SMALLER = (
    "canvas=48",
    "input_size=32",
    "backbone.width=0.125",
    "segmentation.width=8",
    "runtime.precision=fp32",
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("paper") / "faces"
    write_synthetic(out, 24, 1, 48)
    return out


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes time and has no say in the learning rate: updates, checkpoints."""
    for name in ("back_propagate", "update", "save_state"):
        monkeypatch.setattr(loop, name, lambda *arguments: None)


def learning_rates(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


@pytest.mark.usefixtures("quick")
def test_stage_1_trains_at_the_published_rates(faces: Path, tmp_path: Path) -> None:
    data = DataSettings(format="celeba", root=faces, masks=faces / "masks")
    content = preset("paper-sspl", "pretrain") | {"data": [data.model_dump()]}
    stage1.pretrain(build(PretrainSettings, content, (*SMALLER, "tasks=[pct]")), tmp_path / "run")
    assert len(STAGE_1) == 80
    assert learning_rates(tmp_path / "run") == pytest.approx(STAGE_1, rel=1e-5)


@pytest.mark.usefixtures("quick")
def test_stage_2_trains_at_the_published_rates(faces: Path, tmp_path: Path) -> None:
    data = DataSettings(format="celeba", root=faces)
    content = preset("paper-sspl", "finetune") | {"data": data.model_dump(), "evaluate_every": 70}
    stage2.finetune(build(FinetuneSettings, content, SMALLER), tmp_path / "run")
    assert len(STAGE_2) == 70
    assert learning_rates(tmp_path / "run") == pytest.approx(STAGE_2, rel=1e-5)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_both_presets_have_one_schedule(stage: Any) -> None:
    assert preset("paper-splnet", stage)["optim"] == preset("paper-sspl", stage)["optim"]


@pytest.mark.parametrize("name", PAPER)
def test_optimiser_budget_and_sizes_by_hand(name: str) -> None:
    first = build(PretrainSettings, preset(name, "pretrain"))
    second = build(FinetuneSettings, preset(name, "finetune"))
    optim: Any = first.optim
    assert (optim.name, optim.lr, optim.weight_decay) == ("adam", 5e-4, 5e-4)
    assert (optim.batch_size, optim.epochs) == (64, 80)
    optim = second.optim
    assert (optim.name, optim.lr, optim.weight_decay) == ("adam", 1e-4, 5e-5)
    assert (optim.batch_size, optim.epochs, second.evaluate_every) == (24, 70, 5)
    assert first.weights == {}  # all 1
    assert (first.task["prt"].grid, first.task["pst"].label_smoothing) == (3, 0.1)
    assert (first.task["pct"].rule, first.task["pct"].top) == ("top", 9)
    for stage in (first, second):
        assert f"paper-{stage.architecture}" == name
        assert (stage.canvas, stage.enlarge, stage.input_size) == (512, False, 224)
        backbone, head = stage.backbone, stage.segmentation
        assert (backbone.depth, backbone.width, backbone.stem_stride) == (18, 1.0, 4)
        assert (head.maps, head.width, head.attention) == (1, 256, "criss_cross")


NO_COLOUR = ColourSettings(brightness=0, contrast=0, saturation=0, cast=0, grey=0)
MILD = ColourSettings()

# docs/method.md#decided-otherwise-than-the-reference: flip of stage 1, colour, clip, label at angle
# 0, running averages, what is standardised, mirror averaging.
DECIDED = {
    **dict.fromkeys(PAPER, (0, NO_COLOUR, 0, "ignore", "crops", "channels", True)),
    **dict.fromkeys(PUBLISHED, (0, NO_COLOUR, 0, "label", "shared", "channels", False)),
    **dict.fromkeys(("small", "demo"), (0.5, MILD, 5, "ignore", "crops", "together", True)),
}


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_decided_otherwise_than_in_the_reference(name: str) -> None:
    first = build(PretrainSettings, preset(name, "pretrain"))
    second = build(FinetuneSettings, preset(name, "finetune"))
    prt: Any = first.task["prt"]
    assert (
        first.geometry.flip, first.colour, first.optim.clip,
        prt.angle_zero, prt.norm_averages, prt.standardise, second.flip_average,
    ) == DECIDED[name]  # fmt: skip
    assert (second.colour, second.optim.clip) == (first.colour, first.optim.clip)
    assert second.geometry.flip == 0.5


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_as_published_differs_in_those_settings_alone(name: str, stage: Any) -> None:
    ours, theirs = preset(name, stage), preset(f"{name}-as-published", stage)
    if stage == "finetune":
        assert theirs == ours | {"flip_average": False}
    else:
        prt = ours["task"]["prt"] | {"angle_zero": "label", "norm_averages": "shared"}
        assert theirs == ours | {"task": ours["task"] | {"prt": prt}}
