"""Stage 1: pre-training on unlabelled faces (METHOD.md "Stage 1")."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sspl.data.canvases import CanvasBatch, Canvases, FaceSource
from sspl.data.packs.read import PackedFaces
from sspl.data.records import Faces, FaceSet
from sspl.data.skipping import SKIPPED_FILE, Skipped, usable, without
from sspl.data.transforms import draw_geometry, jitter_colour, normalise, warp_images, warp_masks
from sspl.device import (
    autocast,
    generator_for,
    keep_freed_memory,
    pick_device,
    seed_everything,
)
from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.errors import SettingsError
from sspl.metrics.tallies import Mean, restored
from sspl.models.backbones import build_trunk
from sspl.models.branches import Branches
from sspl.models.trunk import Trunk
from sspl.runs import start_run, write_metrics
from sspl.tasks.base import PretextTask, Tally, TaskResult, Views
from sspl.tasks.loading import load_task
from sspl.tasks.pct import PatchClassification
from sspl.tasks.prt import PatchRotation
from sspl.tasks.pst import PatchSegmentation
from sspl.training.adversarial import Adversary
from sspl.training.checkpoint import has_state, load_state, save_state
from sspl.training.optimiser import make_optimiser, set_lr, step
from sspl.training.partition import unlabelled_sources
from sspl.training.settings import PretrainSettings
from sspl.training.trunk_weights import load_trunk
from sspl.weights import save_tensors

MODEL_FILE: Final = "pretrained.safetensors"

log = logging.getLogger(__name__)


class Pretrainer(nn.Module):
    """The network of stage 1: one shared trunk, one head for each task.

    With branches it is the `splnet` architecture, without the `sspl` one.
    """

    def __init__(
        self, trunk: Trunk, tasks: dict[str, PretextTask], branches: Branches | None = None
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = branches
        self.tasks = nn.ModuleDict(tasks)
        self.uses_crop = any(task.uses_crop for task in tasks.values())

    def forward(self, views: Views) -> tuple[dict[str, TaskResult], Mapping[str, Tensor] | None]:
        """Return each task's loss and tallies on a batch, and the branches' features, if any."""
        maps = self.trunk(views.crop) if self.uses_crop else None
        regions = None if self.branches is None or maps is None else self.branches(maps)
        results = {n: task(self.trunk, views, maps, regions) for n, task in self.tasks.items()}
        return results, regions


def build_tasks(
    settings: PretrainSettings, trunk: Trunk, taxonomy: Taxonomy
) -> dict[str, PretextTask]:
    """Build the tasks that the settings name, by their own names.

    Raises `SettingsError` when a task's file cannot be used, two tasks share a name, or a loss
    weight is given for none.
    """
    features = trunk.widths[-1]
    makers: dict[str, Callable[[], PretextTask]] = {
        "prt": lambda: PatchRotation(settings.prt, trunk, settings.input_size, taxonomy.background),
        "pst": lambda: PatchSegmentation(
            settings.pst, settings.segmentation, trunk.widths, taxonomy
        ),
        "pct": lambda: PatchClassification(
            settings.pct, features, taxonomy, by_region=settings.architecture == "splnet"
        ),
    }
    tasks: dict[str, PretextTask] = {}
    for task in settings.tasks:
        kind = None if task in makers else load_task(task)
        name = kind.name if kind else task
        if kind and name in (*makers, *tasks, "adversarial"):
            raise SettingsError(f"tasks: the name '{name}' of {task} is taken; choose another.")
        size = settings.input_size
        tasks[name] = kind(trunk, taxonomy, size) if kind else makers[task]()
    for name in settings.weights:
        if name not in tasks and name not in makers:
            raise SettingsError(f"weights.{name}: no task has this name; use {', '.join(tasks)}.")
    return tasks


def build_network(settings: PretrainSettings, taxonomy: Taxonomy) -> Pretrainer:
    """Build the architecture that the settings name."""
    trunk = build_trunk(settings.trunk)
    if settings.trunk_weights is not None:
        log.info(load_trunk(trunk, settings.trunk_weights).text())
    tasks = build_tasks(settings, trunk, taxonomy)
    branches = Branches(trunk.widths) if settings.architecture == "splnet" else None
    return Pretrainer(trunk, tasks, branches)


def build_adversary(
    settings: PretrainSettings, network: Pretrainer, device: torch.device
) -> Adversary | None:
    """Build the adversary of the branches' features; None where the run has none."""
    if network.branches is None or not settings.adversarial.weight:
        return None
    return Adversary(settings.adversarial, network.trunk.widths[-1], device)


def make_views(
    batch: CanvasBatch, settings: PretrainSettings, mirror: Tensor, generator: torch.Generator,
    device: torch.device,
) -> Views:  # fmt: skip
    """Draw one random crop of each face of a batch, and of its mask."""
    images = batch.images.to(device)
    masks = None if batch.masks is None else batch.masks.to(device)
    geometry = draw_geometry(len(images), settings.geometry, generator).to(device)
    crop = warp_images(images, geometry, settings.input_size)
    crop = normalise(jitter_colour(crop, settings.colour, generator))
    crop_mask = None if masks is None else warp_masks(masks, geometry, settings.input_size, mirror)
    crop = crop.contiguous(memory_format=torch.channels_last)
    return Views(images, masks, crop, crop_mask, generator)


def pretrain(settings: PretrainSettings, out: Path, resume: bool = False) -> dict[str, Any]:
    """Run stage 1 into the run folder `out`; return the last epoch's metrics.

    Every random draw is a function of seed, epoch and step, so a run that was interrupted and
    resumed ends with the same weights. Raises `TrainingError` when the loss is not a number.
    """
    keep_freed_memory()
    taxonomy = load_taxonomy(settings.taxonomy)
    device = pick_device(settings.runtime.device)
    seed_everything(settings.seed)
    network = build_network(settings, taxonomy).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adversary = build_adversary(settings, network, device)
    others = {} if adversary is None else {"adversary": adversary.learner}
    if not settings.data:
        raise SettingsError("data: no faces given; add --data FORMAT:FOLDER.")
    sources = unlabelled_sources(settings.data, settings.splits)
    skipped = Skipped(settings.on_error)
    sources = _usable(sources, skipped, len(taxonomy), out / SKIPPED_FILE if resume else None)
    _require_masks(sources, [str(n) for n, t in network.tasks.items() if t.needs_masks])
    _require_classes(sources, taxonomy)
    has_masks = all(source.faces.has_masks for source in sources)
    canvases = Canvases(
        sources, settings.canvas, len(taxonomy) if has_masks else None,
        settings.runtime.cache_gb, settings.runtime.workers,
    )  # fmt: skip
    start_run(out, "pretrain", settings, settings.seed, resume)
    if settings.on_error == "skip":
        skipped.write(out / SKIPPED_FILE)
    if skipped:
        log.warning(skipped.text(out / SKIPPED_FILE))
    optimiser = make_optimiser([(list(network.parameters()), 1.0)], settings.optim)
    state = load_state(out, network, optimiser, others) if resume else None
    progress = Progress.restored(state or {})
    rows = progress.rows
    if settings.runtime.compile:
        network.trunk.compile()
        if network.branches is not None:
            network.branches.compile()
    mirror = torch.from_numpy(taxonomy.mirror_table())

    def save() -> None:
        save_state(out, network, optimiser, progress.facts(), others)

    for epoch in range(len(rows), settings.optim.epochs):
        _run_epoch(
            network, canvases, optimiser, settings, mirror, epoch, device, adversary, progress, save
        )
        row = {"epoch": epoch + 1, "lr": optimiser.param_groups[0]["lr"]}
        rows.append(row | {name: _figure(tally) for name, tally in progress.tallies.items()})
        progress.steps, progress.tallies = 0, {}
        save()
        write_metrics(out, rows, rows[-1] | {"finished": False})
    facts = {
        "kind": "pretrained",
        "architecture": settings.architecture,
        "trunk": settings.trunk.model_dump(mode="json"),
        "segmentation": settings.segmentation.model_dump(mode="json"),
        "canvas": settings.canvas,
        "input_size": settings.input_size,
        "taxonomy": taxonomy.name,
        "classes": taxonomy.classes,
        "tasks": [str(name) for name in network.tasks],
        "faces": len(canvases),
    }
    save_tensors(out / MODEL_FILE, network.state_dict(), facts)
    write_metrics(out, rows, rows[-1] | {"finished": True})
    return rows[-1]


@dataclass
class Progress:
    """How far a run has come.

    Args:
        rows: the log, one row for each finished epoch.
        steps: finished steps of the epoch under way.
        tallies: figures of those steps.
    """

    rows: list[dict[str, Any]]
    steps: int
    tallies: dict[str, Tally]

    def facts(self) -> dict[str, Any]:
        """Return the same as JSON-able facts."""
        tallies = {name: tally.facts() for name, tally in self.tallies.items()}
        return {
            "kind": "pretrain-state", "rows": self.rows, "steps": self.steps, "tallies": tallies
        }  # fmt: skip

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> "Progress":
        """Return what gave these facts; without any, a run that has not begun."""
        tallies = {name: restored(tally) for name, tally in facts.get("tallies", {}).items()}
        return cls(facts.get("rows", []), facts.get("steps", 0), tallies)


def _figure(tally: Tally) -> float | None:
    """Return a metric for the log; None where nothing could be counted."""
    value = tally.value()
    return round(value, 5) if math.isfinite(value) else None


def _usable(
    sources: list[FaceSource], skipped: Skipped, classes: int, listed: Path | None
) -> list[FaceSource]:
    """Leave out faces that cannot be read; a run that goes on leaves out those it has listed."""
    if skipped.policy == "fail":
        return sources
    begun = listed is not None and has_state(listed.parent)
    if listed is not None and begun:
        skipped.read(listed)

    def chosen(faces: Faces) -> Faces:
        if not isinstance(faces, FaceSet):
            return faces  # a pack, whose faces were all read when it was made
        if begun:
            return without(faces, skipped.names(faces.source))
        return usable(faces, classes, skipped)

    return [replace(s, faces=chosen(s.faces)) for s in sources]


def _require_masks(sources: list[FaceSource], tasks: list[str]) -> None:
    for source in sources:
        if tasks and not source.faces.has_masks:
            raise SettingsError(
                f"tasks: {' and '.join(tasks)} cannot do without masks, and {source.faces.source} "
                "has none; make them with 'sspl parser run' and add masks=FOLDER, or use "
                "tasks=[prt]."
            )


def _require_classes(sources: list[FaceSource], taxonomy: Taxonomy) -> None:
    for source in sources:
        classes = source.faces.classes if isinstance(source.faces, PackedFaces) else None
        if classes is not None and classes != taxonomy.classes:
            raise SettingsError(
                f"taxonomy: the masks in {source.faces.source} were packed with other classes than "
                f"{taxonomy.name} has; set the taxonomy that they were packed with."
            )


def _run_epoch(
    network: Pretrainer, canvases: Canvases, optimiser: torch.optim.Optimizer,
    settings: PretrainSettings, mirror: Tensor, epoch: int, device: torch.device,
    adversary: Adversary | None, progress: Progress, save: Callable[[], None],
) -> None:  # fmt: skip
    """Go on with an epoch where `progress` stands, to its end."""
    optim = settings.optim
    weights = settings.loss_weights()
    order = canvases.random_order(generator_for(settings.seed, epoch))
    # A last batch of a face or two would give BatchNorm meaningless statistics.
    steps = max(1, len(order) // optim.batch_size)
    first = progress.steps
    network.train()
    bar = tqdm(
        canvases.batches(order, optim.batch_size, first, steps),
        f"pretrain {epoch + 1}/{optim.epochs}", steps, unit="step", leave=False, initial=first,
    )  # fmt: skip
    for number, batch in enumerate(bar, first):
        generator = generator_for(settings.seed, epoch, number)
        factor = optim.schedule.factor(epoch, (number + 1) / steps, optim.epochs)
        set_lr(optimiser, optim.lr * factor)
        views = make_views(batch, settings, mirror, generator, device)
        with autocast(device, settings.runtime.precision):
            results, regions = network(views)
        if adversary is not None:
            results["adversarial"] = adversary.term(regions)
        total = torch.stack([weights.get(n, 1.0) * r.loss for n, r in results.items()]).sum()
        step(optimiser, total, optim.clip, f"epoch {epoch + 1}, step {number + 1}")
        if adversary is not None:
            adversary.learn(regions, number)
        _merge(progress.tallies, results, total, len(batch.index))
        progress.steps = number + 1
        if progress.steps % settings.save_every == 0 and progress.steps < steps:
            save()
        bar.set_postfix({name: f"{progress.tallies[name].value():.3f}" for name in ("loss",)})


def _merge(
    tallies: dict[str, Tally], results: dict[str, TaskResult], total: Tensor, faces: int
) -> None:
    new: dict[str, Tally] = {"loss": Mean(float(total.detach()) * faces, faces)}
    for name, result in results.items():
        new[f"{name}/loss"] = Mean(float(result.loss.detach()) * faces, faces)
        new |= {f"{name}/{metric}": tally for metric, tally in result.tallies.items()}
    for key, tally in new.items():
        if key in tallies:
            tallies[key].merge(tally)  # type: ignore[arg-type]
        else:
            tallies[key] = tally
