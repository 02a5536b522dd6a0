"""A task that is not in the package: `examples/jigsaw.py`, named in the settings."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from shared import context, import_file
from sspl.data.data_settings import DataSettings
from sspl.data.synthetic import write_synthetic
from sspl.errors import SettingsError
from sspl.io.weights import load_tensors
from sspl.models.backbones import build_backbone
from sspl.models.network_settings import BackboneSettings
from sspl.settings import build
from sspl.tasks.base import Views
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import PretrainSettings

FILE = Path(__file__).resolve().parents[2] / "examples" / "jigsaw.py"
JIGSAW = f"{FILE}:Jigsaw"


@pytest.fixture(scope="module")
def jigsaw() -> ModuleType:
    return import_file(FILE)


def views(n: int, seed: int) -> Views:
    """Canvases whose quarters have the grey levels 0, 60, 120 and 180, and a little noise."""
    draw = torch.Generator().manual_seed(seed)
    canvas = torch.zeros(n, 3, 32, 32, dtype=torch.uint8)
    for place in range(4):
        row, column = divmod(place, 2)
        cell = canvas[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        noise = torch.randint(20, cell.shape, generator=draw)
        cell.copy_((60 * place + noise).to(torch.uint8))
    return Views(canvas, None, torch.zeros(n, 3, 8, 8), None, draw)


def test_the_example_stays_short() -> None:
    assert len(FILE.read_text().splitlines()) < 90


def test_the_quarters_stand_in_the_order_that_the_label_names(jigsaw: ModuleType) -> None:
    task = jigsaw.Jigsaw(
        jigsaw.JigsawSettings(),
        context(backbone=build_backbone(BackboneSettings(width=0.125)), input_size=16),
    )
    pictures, order = task.shuffle(views(50, 1))
    levels = torch.nn.functional.avg_pool2d(pictures.mean(1, keepdim=True), 8).flatten(1)
    grey = (levels + 1) * 127.5
    assert torch.equal((grey / 60).long(), jigsaw.ORDERS[order])
    assert len(set(order.tolist())) > 15


def test_its_loss_falls(jigsaw: ModuleType) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneSettings(width=0.125, stem_stride=2))
    task = jigsaw.Jigsaw(jigsaw.JigsawSettings(), context(backbone=backbone, input_size=16))
    optimiser = torch.optim.Adam([*backbone.parameters(), *task.parameters()], lr=3e-3)
    losses = []
    for step in range(40):
        loss = task(backbone, views(48, step), None).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # Chance is log(24) = 3.18.
    assert losses[0] > 2.8
    assert sum(losses[-5:]) / 5 < 1.6


def settings(*overrides: str) -> PretrainSettings:
    return build(PretrainSettings, {"backbone": {"width": 0.125}}, overrides)


def test_the_settings_name_it_and_the_run_trains_it(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "faces", 24, 1, 48)
    data = DataSettings(format="folder", root=tmp_path / "faces" / "img_align_celeba")
    chosen = settings(
        f"tasks=['{JIGSAW}',prt]",
        "weights.jigsaw=0.5",
        "canvas=48",
        "input_size=32",
        "optim.epochs=1",
        "optim.batch_size=8",
        "runtime.precision=fp32",
    ).model_copy(update={"data": (data,)})
    row = pretrain(chosen, tmp_path / "run")
    expected = 0.5 * row["jigsaw/loss"] + row["prt/loss"]
    assert row["loss"] == pytest.approx(expected, abs=1e-4)
    assert 0 <= row["jigsaw/accuracy"] <= 1
    tensors, metadata = load_tensors(tmp_path / "run" / "pretrained.safetensors")
    assert tensors["tasks.jigsaw.head.weight"].shape[0] == 24
    assert metadata["tasks"] == ["jigsaw", "prt"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["finished"]


def test_its_path_means_the_same_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILE.parent)
    assert settings("tasks=['jigsaw.py:Jigsaw',pct]").tasks == (JIGSAW, "pct")


@pytest.mark.parametrize(
    ("code", "overrides", "reason"),
    [
        (None, [], "is not there; give the path of a Python file"),
        ("x = 1\n", [], "has no class 'Mine' derived from PretextTask"),
        ("Mine = 3\n", [], "has no class 'Mine' derived from PretextTask"),
        ("name = 'pct'", [], "the name 'pct' of .* is taken"),
        (
            "name = 'mine'",
            ["weights.yours=2"],
            r"weights\.yours: no task has this name; use .*, mine",
        ),
    ],
)
def test_a_task_that_cannot_be_used_is_refused(
    code: str | None, overrides: list[str], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if code is not None:
        base = "from sspl.tasks import PretextTask\n"
        body = f"class Mine(PretextTask):\n    {code}\n    forward = None\n"
        path.write_text(base + body if code.startswith("name") else code)
    with pytest.raises(SettingsError, match=reason):
        settings(f"tasks=['{path}:Mine']", *overrides)
