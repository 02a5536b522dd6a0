"""Stage 1: pre-training on unlabelled faces (docs/method.md#stage-1)."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.data.canvases import CanvasBatch, Canvases, FaceSource
from sspl.data.inputs import Entry, of_faces, of_file, of_values, require_same_inputs
from sspl.data.mask_shares import require_two_classes
from sspl.data.packs.read import PackedFaces
from sspl.data.records import Faces, FaceSet
from sspl.data.skipping import SKIPPED_FILE, Skipped, usable, without
from sspl.data.transforms import draw_geometry, jitter_colour, normalise, warp_images, warp_masks
from sspl.device import (
    autocast,
    compile_errors_explained,
    generator_for,
    keep_freed_memory,
    pick_device,
    seed_everything,
)
from sspl.distributed.dropout import drop_by_face
from sspl.distributed.group import (
    agreed,
    for_all_processes,
    gathered,
    gradients_wait,
    in_turn,
    is_first,
    level,
    local_count,
    same_everywhere,
)
from sspl.distributed.norms import synchronise_norms
from sspl.distributed.random import generator_of_rows
from sspl.distributed.sampler import MicroBatches, RankSampler, micro_batches_of
from sspl.domain.regions import REGIONS
from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.errors import SettingsError
from sspl.io.checkpoints import Learner, has_state, load_state, save_state
from sspl.io.progress import note, watched
from sspl.io.runs import claimed_run, start_run, write_metrics
from sspl.io.user_code import is_user_code
from sspl.io.weights import save_tensors
from sspl.metrics.tallies import Mean, Tally, add, restored, together
from sspl.models.backbones import build_backbone
from sspl.models.backbones.base import Backbone
from sspl.models.branches import Branches
from sspl.optim.optimiser import back_propagate, make_optimiser, set_lr, update
from sspl.tasks import PretextTask, TaskContext, TaskResult, Views
from sspl.tasks.loading import build_tasks
from sspl.training.adversarial import Adversary
from sspl.training.backbone_weights import load_backbone
from sspl.training.partition import unlabelled_sources
from sspl.training.stage_settings import PretrainSettings, extent_of
from sspl.training.starts import PRETRAINED_FILE

MODEL_FILE: Final = PRETRAINED_FILE
DROPOUT: Final = 1
"""Tells a step's draws of dropout from those of its views."""

log = logging.getLogger(__name__)


class Pretrainer(nn.Module):
    """The network of stage 1: one shared backbone, one head for each task.

    With branches it is the `splnet` architecture, without the `sspl` one.
    """

    def __init__(
        self, backbone: Backbone, tasks: dict[str, PretextTask], branches: Branches | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.branches = branches
        self.tasks = nn.ModuleDict(tasks)
        self.uses_crop = any(task.uses_crop for task in tasks.values())

    def forward(self, views: Views) -> tuple[dict[str, TaskResult], Mapping[str, Tensor] | None]:
        """Return each task's loss and tallies on a batch, and the branches' features, if any."""
        maps = self.backbone(views.crop) if self.uses_crop else None
        regions = None if self.branches is None or maps is None else self.branches(maps)
        results = {n: task(self.backbone, views, maps, regions) for n, task in self.tasks.items()}
        return results, regions


def task_context(settings: PretrainSettings, backbone: Backbone, taxonomy: Taxonomy) -> TaskContext:
    """Return what the tasks of a run are told of its network."""
    return TaskContext(
        backbone, taxonomy, settings.input_size, settings.architecture, settings.segmentation
    )


def build_network(settings: PretrainSettings, taxonomy: Taxonomy) -> Pretrainer:
    """Build the architecture that the settings name."""
    backbone = build_backbone(settings.backbone)
    if settings.backbone_weights is not None:
        log.info(load_backbone(backbone, settings.backbone_weights).text())
    tasks = build_tasks(settings.tasks, settings.task, task_context(settings, backbone, taxonomy))
    branches = Branches(backbone.widths) if settings.architecture == "splnet" else None
    return Pretrainer(backbone, tasks, branches)


def build_adversary(
    settings: PretrainSettings, network: Pretrainer, device: torch.device
) -> Adversary | None:
    """Build the adversary of the branches' features; None where the run has none."""
    if network.branches is None or not settings.adversarial.weight:
        return None
    return Adversary(settings.adversarial, network.backbone.widths[-1], device)


def make_views(
    batch: CanvasBatch,
    settings: PretrainSettings,
    mirror: Tensor,
    generator: torch.Generator,
    device: torch.device,
) -> Views:
    """Draw one random crop of each face of a batch, and of its mask."""
    images = batch.images.to(device)
    masks = None if batch.masks is None else batch.masks.to(device)
    geometry = draw_geometry(len(images), settings.geometry, generator).to(device)
    crop = warp_images(images, geometry, settings.input_size)
    crop = normalise(jitter_colour(crop, settings.colour, generator))
    crop_mask = None if masks is None else warp_masks(masks, geometry, settings.input_size, mirror)
    crop = crop.contiguous(memory_format=torch.channels_last)
    return Views(images, masks, crop, crop_mask, generator)


class Pretraining:
    """One stage-1 run in one process: what learns, and how it takes a step."""

    def __init__(self, settings: PretrainSettings) -> None:
        keep_freed_memory()
        self.settings = settings
        self.taxonomy = load_taxonomy(settings.taxonomy)
        self.device = pick_device(settings.runtime.device)
        seed_everything(settings.seed)
        self.network = build_network(settings, self.taxonomy).to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.optim.sync_batchnorm:
            synchronise_norms(self.network)
        self.draws = drop_by_face(self.network)
        self.adversary = build_adversary(settings, self.network, self.device)
        self.optimiser = make_optimiser([(list(self.network.parameters()), 1.0)], settings.optim)
        self.mirror = torch.from_numpy(self.taxonomy.mirror_table())
        self.engine: nn.Module = self.network

    @property
    def others(self) -> dict[str, Learner]:
        """What has an optimiser of its own, for the checkpoint."""
        return {} if self.adversary is None else {"adversary": self.adversary.learner}

    def start(self) -> None:
        """Compile where that is asked for, and bind the processes' networks together."""
        if self.settings.runtime.compile:
            self.network.backbone.compile()
            if self.network.branches is not None:
                self.network.branches.compile()
        self.engine = for_all_processes(self.network, self._all_used())
        if self.adversary is not None:
            self.adversary.start()

    def _all_used(self) -> bool:
        """Tell whether every parameter surely has a part in the loss."""
        return all(task.uses_all_parameters for task in self.network.tasks.values()) and (
            self.settings.architecture == "sspl" or all(map(self.taxonomy.group, REGIONS))
        )

    def step(
        self, batches: Iterable[CanvasBatch], micro: MicroBatches, epoch: int, number: int
    ) -> dict[str, Tally]:
        """Learn from this process's shares of one batch; return their figures.

        `number` is that of the step in its epoch, from 0.
        """
        settings, tallies = self.settings, dict[str, Tally]()
        weights, seen = settings.loss_weights(), []
        where = f"epoch {epoch + 1}, step {number + 1}"
        for part, batch in enumerate(batches):
            drawn = generator_for(settings.seed, epoch, number)
            generator = generator_of_rows(drawn, micro.rows(part), micro.batch)
            dropout = generator_for(settings.seed, epoch, number, DROPOUT)
            self.draws.generator = generator_of_rows(dropout, micro.rows(part), micro.batch)
            views = make_views(batch, settings, self.mirror, generator, self.device)
            with gradients_wait(self.engine) if part + 1 < micro.parts else nullcontext():
                with autocast(self.device, settings.runtime.precision):
                    results, regions = self.engine(views)
                if self.adversary is not None:
                    results["adversarial"] = self.adversary.term(regions)
                    seen.append({name: feature.detach() for name, feature in regions.items()})
                terms = [weights.get(name, 1.0) * r.loss for name, r in results.items()]
                total = torch.stack(terms).sum()
                losses = {name: result.loss for name, result in results.items()}
                back_propagate(total / micro.parts, where, losses)
            add(tallies, _figures(results, total, len(batch.index)))
        update(self.optimiser, settings.optim.clip, where)
        if self.adversary is not None:
            features = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
            self.adversary.learn(features, number)
        return tallies


def pretrain(settings: PretrainSettings, out: Path, resume: bool = False) -> dict[str, Any]:
    """Run stage 1 into the run folder `out`; return the last epoch's metrics.

    Every random draw is a function of seed, epoch and step, so a run that was interrupted and
    resumed ends with the same weights, with whatever number of processes. Raises `TrainingError`
    when the loss is not a number.
    """
    with claimed_run(out):
        return _pretrain(settings, out, resume)


def _pretrain(settings: PretrainSettings, out: Path, resume: bool) -> dict[str, Any]:
    run = agreed(lambda: Pretraining(settings))
    canvases, micro = agreed(lambda: _open(run, out, resume))
    progress = _progress(run, out) if resume else Progress.restored({})
    rows = progress.rows
    run.start()

    def save() -> None:
        level(run.network)
        tallies = together(gathered(progress.tallies))
        if is_first():
            metadata = replace(progress, tallies=tallies).metadata()
            save_state(out, run.network, run.optimiser, metadata, run.others)

    for epoch in range(len(rows), settings.optim.epochs):
        _run_epoch(run, canvases, micro, epoch, progress, save)
        tallies = together(gathered(progress.tallies))
        row = {"epoch": epoch + 1, "lr": run.optimiser.param_groups[0]["lr"]}
        rows.append(row | {name: _figure(tally) for name, tally in tallies.items()})
        note("epoch", epoch + 1, settings.optim.epochs, rows[-1])
        progress.steps, progress.tallies = 0, {}
        save()
        if is_first():
            write_metrics(out, rows, rows[-1] | {"finished": False})
    if is_first():
        save_tensors(out / MODEL_FILE, run.network.state_dict(), _metadata(run, len(canvases)))
        write_metrics(out, rows, rows[-1] | {"finished": True})
    return rows[-1]


def _open(run: Pretraining, out: Path, resume: bool) -> tuple[Canvases, MicroBatches]:
    """Open the faces and make the run folder; return how batches are dealt out, too."""
    settings, classes = run.settings, len(run.taxonomy)
    if not settings.data:
        raise SettingsError("data: no faces given; add --data FORMAT:FOLDER.")
    sources = unlabelled_sources(settings.data, settings.splits)
    skipped = Skipped(settings.on_error)
    sources = _usable(sources, skipped, classes, out / SKIPPED_FILE if resume else None)
    learners = [str(n) for n, t in run.network.tasks.items() if t.needs_masks]
    _require_masks(sources, learners)
    _require_classes(sources, run.taxonomy)
    odd = [o for s in sources for o in _odd_masks(s.faces, run.taxonomy)] if learners else []
    has_masks = all(source.faces.has_masks for source in sources)
    canvases = Canvases(
        sources,
        settings.canvas,
        classes if has_masks else None,
        settings.runtime.cache_gb / local_count(),
        settings.runtime.workers,
    )
    micro = micro_batches_of(settings.optim.batch_size, len(canvases), settings.optim.accumulate)
    if is_first():
        extent = extent_of(
            settings.optim,
            f"A new run starts from its backbone with backbone_weights={out / MODEL_FILE}.",
        )
        inputs = partial(require_same_inputs, out, _inputs(run, sources))
        start_run(out, "pretrain", settings, settings.seed, resume, extent, inputs)
        if settings.on_error == "skip":
            skipped.write(out / SKIPPED_FILE)
        if skipped:
            log.warning(skipped.text(out / SKIPPED_FILE))
        for sentence in odd:
            log.warning(sentence)
    return canvases, micro


def _inputs(run: Pretraining, sources: list[FaceSource]) -> list[Entry]:
    """Return what a run learns from: faces, weights, classes and tasks."""
    settings = run.settings
    entries = [of_values(f"taxonomy {settings.taxonomy}", run.taxonomy.classes)]
    if settings.backbone_weights is not None:
        entries.append(of_file("backbone_weights", settings.backbone_weights))
    for task in filter(is_user_code, settings.tasks):
        entries.append(of_file(f"task {task}", Path(task.rpartition(":")[0])))
    for number, source in enumerate(sources):
        where = f"data {number}: " if len(sources) > 1 else ""
        entries += [(where + name, about) for name, about in of_faces(source.faces)]
    return entries


def _metadata(run: Pretraining, faces: int) -> dict[str, Any]:
    settings = run.settings
    return {
        "kind": "pretrained",
        "architecture": settings.architecture,
        "backbone": settings.backbone.model_dump(mode="json"),
        "segmentation": settings.segmentation.model_dump(mode="json"),
        "canvas": settings.canvas,
        "input_size": settings.input_size,
        "taxonomy": run.taxonomy.name,
        "classes": run.taxonomy.classes,
        "tasks": [str(name) for name in run.network.tasks],
        "faces": faces,
    }


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

    def metadata(self) -> dict[str, Any]:
        """Return the same as JSON-able metadata."""
        tallies = {name: tally.metadata() for name, tally in self.tallies.items()}
        return {
            "kind": "pretrain-state",
            "rows": self.rows,
            "steps": self.steps,
            "tallies": tallies,
        }

    @classmethod
    def restored(cls, metadata: Mapping[str, Any]) -> "Progress":
        """Return what gave these metadata; without any, a run that has not begun."""
        tallies = {name: restored(tally) for name, tally in metadata.get("tallies", {}).items()}
        return cls(metadata.get("rows", []), metadata.get("steps", 0), tallies)


def _progress(run: Pretraining, out: Path) -> Progress:
    """Restore what a run has saved; return how far it had come.

    Raises `SsplError` when the processes do not see the same checkpoint.
    """
    metadata = in_turn(lambda: load_state(out, run.network, run.optimiser, run.others))
    progress = Progress.restored(metadata or {})
    same_everywhere((len(progress.rows), progress.steps), f"the checkpoint in {out}")
    if not is_first():
        progress.tallies = {}
    return progress


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


def _odd_masks(faces: Faces, taxonomy: Taxonomy) -> list[str]:
    return [f"{faces.source}: {odd}." for odd in require_two_classes(faces, taxonomy)]


def _require_classes(sources: list[FaceSource], taxonomy: Taxonomy) -> None:
    for source in sources:
        classes = source.faces.classes if isinstance(source.faces, PackedFaces) else None
        if classes is not None and classes != taxonomy.classes:
            raise SettingsError(
                f"taxonomy: the masks in {source.faces.source} were packed with other classes than "
                f"{taxonomy.name} has; set the taxonomy that they were packed with."
            )


@compile_errors_explained()
def _run_epoch(
    run: Pretraining,
    canvases: Canvases,
    micro: MicroBatches,
    epoch: int,
    progress: Progress,
    save: Callable[[], None],
) -> None:
    """Go on with an epoch where `progress` stands, to its end."""
    settings, optim = run.settings, run.settings.optim
    order = canvases.random_order(generator_for(settings.seed, epoch))
    # A last batch of a face or two would give BatchNorm meaningless statistics.
    steps = len(order) // micro.batch
    done = progress.steps
    shares = canvases.batches(
        RankSampler(order, micro), micro.size, done * micro.parts, steps * micro.parts
    )
    run.network.train()
    bar = watched(
        range(done, steps),
        f"pretrain {epoch + 1}/{optim.epochs}",
        steps,
        unit="step",
        leave=False,
        initial=done,
    )
    for number in bar:
        factor = optim.schedule.factor(epoch, (number + 1) / steps, optim.epochs)
        set_lr(run.optimiser, optim.lr * factor)
        add(progress.tallies, run.step(islice(shares, micro.parts), micro, epoch, number))
        progress.steps = number + 1
        if progress.steps % settings.save_every == 0 and progress.steps < steps:
            save()
        bar.set_postfix({name: f"{progress.tallies[name].value():.3f}" for name in ("loss",)})


def _figures(results: dict[str, TaskResult], total: Tensor, faces: int) -> dict[str, Tally]:
    figures: dict[str, Tally] = {"loss": Mean(float(total.detach()) * faces, faces)}
    for name, result in results.items():
        figures[f"{name}/loss"] = Mean(float(result.loss.detach()) * faces, faces)
        figures |= {f"{name}/{metric}": tally for metric, tally in result.tallies.items()}
    return figures
