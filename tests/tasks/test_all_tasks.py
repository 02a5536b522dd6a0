"""What holds of every task that comes along, and how a task's own settings reach it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from shared import ran_with
from sspl.data import GeometrySettings, draw_geometry, normalise, render_face, warp_images
from sspl.data.transforms import warp_masks
from sspl.domain import load_taxonomy
from sspl.errors import SettingsError
from sspl.io.runs import start_run
from sspl.models import BackboneSettings, build_backbone
from sspl.settings import Settings, build, read_settings
from sspl.tasks import TASKS, PretextTask, TaskContext, Views
from sspl.tasks.built_in import BUILT_IN
from sspl.tasks.loading import build_tasks, task_kinds
from sspl.training.pretext_network import task_context
from sspl.training.stage_settings import PretrainSettings

ROOT = Path(__file__).resolve().parents[2]
JIGSAW = f"{ROOT / 'examples' / 'jigsaw.py'}:Jigsaw"
CANVAS, SIZE, FACES = 48, 32, 6


def small_context() -> TaskContext:
    torch.manual_seed(0)
    backbone = build_backbone(BackboneSettings(width=0.125, stem_stride=2))
    return TaskContext(backbone, load_taxonomy("celebamask19"), SIZE)


def views(taxonomy_mirror: np.ndarray) -> Views:
    """Drawn faces and their masks, a crop of each."""
    faces = [render_face(3, i, CANVAS) for i in range(FACES)]
    images = torch.from_numpy(np.stack([f.image for f in faces])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([f.mask for f in faces]))
    generator = torch.Generator().manual_seed(5)
    geometry = draw_geometry(FACES, GeometrySettings(), generator)
    crop = normalise(warp_images(images, geometry, SIZE))
    mask = warp_masks(masks, geometry, SIZE, torch.from_numpy(taxonomy_mirror))
    labels = {"Smiling": torch.tensor([f.labels["Smiling"] for f in faces], dtype=torch.int8)}
    return Views(images, masks, crop, mask, generator, labels)


@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.name)
class TestEveryTask:
    """A new task has passed when its line stands in `BUILT_IN`."""

    def test_it_learns_on_drawn_faces(self, kind: type[PretextTask]) -> None:
        context = small_context()
        task = kind(kind.Settings(), context).train()
        backbone = context.backbone.train()
        batch = views(context.taxonomy.mirror_table())
        maps = backbone(batch.crop) if kind.uses_crop else None
        result = task(backbone, batch, maps)
        assert result.loss.shape == ()
        assert torch.isfinite(result.loss)
        assert result.loss > 0
        for tally in result.tallies.values():
            assert np.isfinite(tally.value())
        result.loss.backward()
        for module in (backbone, task):
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            assert all(bool(torch.isfinite(g).all()) for g in gradients)
        # The earliest layer is reached, and so is something of the task's own.
        first = next(backbone.parameters())
        assert first.grad is not None
        assert first.grad.abs().sum() > 0
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.parameters())

    def test_its_state_goes_round(self, kind: type[PretextTask]) -> None:
        context = small_context()
        task, other = (kind(kind.Settings(), context).eval() for _ in range(2))
        with torch.no_grad():
            for parameter in task.parameters():
                parameter.add_(0.01)
        other.load_state_dict(task.state_dict())
        assert task.state_dict().keys() == other.state_dict().keys()
        for name, tensor in other.state_dict().items():
            assert torch.equal(tensor, task.state_dict()[name]), name

    def test_it_has_settings_of_its_own_and_a_name(self, kind: type[PretextTask]) -> None:
        assert kind.name.isidentifier()
        assert issubclass(kind.Settings, Settings)
        defaults = PretrainSettings().task[kind.name]
        assert type(defaults) is kind.Settings
        assert isinstance(kind.uses_crop, bool)
        assert isinstance(kind.needs_masks, bool)

    def test_the_documentation_speaks_of_it(self, kind: type[PretextTask]) -> None:
        pages = "".join(
            (ROOT / "docs" / f"{n}.md").read_text() for n in ("method", "guide-researcher")
        )
        assert f"`{kind.name}`" in pages or f"`tasks/{kind.name}.py`" in pages


def test_names_are_taken_once() -> None:
    names = [kind.name for kind in TASKS]
    assert names == list(BUILT_IN)
    assert len(set(names)) == len(names)
    assert list(task_kinds(names).values()) == list(TASKS)


def settings(*overrides: str, tasks: str = f"['{JIGSAW}',prt]") -> PretrainSettings:
    small = ("backbone.width=0.125", "backbone.stem_stride=2", "input_size=32", "canvas=48")
    return build(PretrainSettings, {}, (f"tasks={tasks}", *small, *overrides))


def jigsaw_of(chosen: PretrainSettings) -> PretextTask:
    backbone = build_backbone(chosen.backbone)
    context = task_context(chosen, backbone, load_taxonomy(chosen.taxonomy))
    return build_tasks(chosen.tasks, chosen.task, context)["jigsaw"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_settings_of_a_task_of_ones_own_reach_it(smoothing: float) -> None:
    chosen = settings(f"task.jigsaw.label_smoothing={smoothing}")
    task = jigsaw_of(chosen)
    with torch.no_grad():
        task.head.weight.zero_()
        task.head.bias.zero_()[0] = 2.0
    context = small_context()
    mirror = context.taxonomy.mirror_table()
    _, order = task.shuffle(views(mirror))
    loss = task(context.backbone, views(mirror), None).loss
    # Logits are 2, 0, ..., 0 whatever is shown; smoothing weighs the true one less, all 24 more.
    true = torch.where(order == 0, 2.0, 0.0)
    expected = math.log(math.exp(2) + 23) - ((1 - smoothing) * true + smoothing * 2 / 24).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        (
            "task.jigsaw.label_smoothing=1",
            "task.jigsaw.label_smoothing: input should be less than 1",
        ),
        (
            "task.jigsaw.label_smoothing=much",
            "task.jigsaw.label_smoothing: input should be a valid number",
        ),
        (
            "task.jigsaw.smoothing=0.1",
            "task.jigsaw.smoothing: unknown setting; did you mean task.jigsaw.label_smoothing?",
        ),
        ("task.jigsaw=3", "task.jigsaw"),
        ("task.jigsow.label_smoothing=0.1", "task.jigsow: no task has this name; use prt, pst"),
        ("task=3", "task: input should be"),
    ],
)
def test_a_wrong_one_is_refused_by_its_path(override: str, start: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(override)
    said = str(caught.value)
    assert said.startswith(start)
    assert "\n" not in said


def test_a_task_that_the_run_does_not_name_has_no_settings() -> None:
    with pytest.raises(SettingsError, match=r"^task\.jigsaw: no task has this name; use prt"):
        settings("task.jigsaw.label_smoothing=0.1", tasks="[prt]")


def test_a_run_keeps_them_and_they_read_back(tmp_path: Path) -> None:
    chosen = settings("task.jigsaw.label_smoothing=0.1", "task.prt.grid=2")
    start_run(tmp_path, "pretrain", chosen, seed=0, resume=False)
    written = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert written["task"]["jigsaw"] == {"label_smoothing": 0.1}
    again = build(PretrainSettings, read_settings(tmp_path / "settings.yaml"))
    assert again.model_dump() == chosen.model_dump()
    assert jigsaw_of(again).smoothing == 0.1
    assert again.task["prt"].grid == 2
    assert "PRTSettings(grid=2," in repr(again)


JIGSAW_BUILT_IN = """
import sys
from sspl.cli.main import cli
from sspl.errors import SettingsError
from sspl.settings import build
from sspl.tasks.built_in import BUILT_IN
from sspl.training.stage_settings import PretrainSettings

given = {"tasks": ["prt", "jigsaw"], "task": {"jigsaw": {"label_smoothing": 0.1}}}
chosen = build(PretrainSettings, given)
wrong = build(PretrainSettings, {"task": {"jigsaw": {"label_smoothing": 2}}})
print(list(BUILT_IN)[-1], "jigsaw" in chosen.task, "torch" in sys.modules)
print(chosen.task["jigsaw"].label_smoothing)
try:
    wrong.task["prt"]
except SettingsError as error:
    print(error)
cli(["settings", "pretrain"])
"""


def test_a_task_becomes_built_in_by_its_file_and_a_line(tmp_path: Path) -> None:
    """A copy of the package in which nothing but that is changed knows it everywhere."""
    last = '    "attributes": "KnownAttributes",\n'
    line = {last: f'{last}    "jigsaw": "Jigsaw",\n'}
    example = ROOT / "examples" / "jigsaw.py"
    said = ran_with(tmp_path, example, "tasks", "tasks/built_in.py", line, JIGSAW_BUILT_IN)
    first, smoothing, wrong, *lines = said.splitlines()
    assert (first, smoothing) == ("jigsaw True False", "0.1")
    assert wrong.startswith("task.jigsaw.label_smoothing: input should be less than 1")
    assert ["task.jigsaw.label_smoothing", "=", "0.0"] in [line.split()[:3] for line in lines]
