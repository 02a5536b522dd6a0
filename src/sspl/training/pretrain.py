"""Stage 1: pre-training on unlabelled faces (docs/method.md#stage-1)."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from sspl.data.canvases import CanvasBatch, ahead
from sspl.data.inputs import require_same_inputs
from sspl.data.records import FaceSource
from sspl.device import autocast, generator_for, loss_scaler
from sspl.distributed.group import agreed, for_all_processes, is_first
from sspl.distributed.random import generator_of_rows
from sspl.distributed.sampler import RankSampler, micro_batches_of
from sspl.domain.taxonomy import load_taxonomy
from sspl.io.checkpoints import Learner
from sspl.io.run_files import PRETRAINED_FILE, finished
from sspl.io.runs import claimed_run, start_run, write_metrics
from sspl.io.weights import save_tensors
from sspl.optim.optimiser import make_optimiser
from sspl.training.adversarial import Adversary
from sspl.training.face_sources import attribute_labels, pretrain_faces
from sspl.training.loop import Epoch, LogRow, Loop, Losses, Place, Stage, begin, placed
from sspl.training.pretext_network import (
    UNLABELLED,
    build_network,
    make_views,
    pretrained_metadata,
    step_figures,
)
from sspl.training.run_canvases import canvases_of
from sspl.training.run_inputs import pretrain_inputs
from sspl.training.stage_settings import PretrainSettings, extent_of

DROPOUT: Final = 1  # tells a step's draws of dropout from those of its views


class Pretraining(Stage[CanvasBatch]):
    """What learns in stage 1, and from what; every draw is a function of seed, epoch and step."""

    kind = "pretrain"

    def __init__(
        self, settings: PretrainSettings, sources: Sequence[FaceSource] | None = None
    ) -> None:
        self.settings, optim = settings, settings.optim
        self.sources = sources
        self.epochs, self.clip = optim.epochs, optim.clip
        self.taxonomy = load_taxonomy(settings.taxonomy)
        runtime = settings.runtime
        precision = runtime.precision
        self.device = begin(runtime.device, settings.seed, precision, runtime.deterministic)
        self.scaler = loss_scaler(self.device, precision)
        self.network = build_network(settings, self.taxonomy)
        self.draws = placed(self.network, self.device, optim.sync_batchnorm)
        self.loss_weights = settings.weights | {"adversarial": settings.adversarial.weight}
        self.adversary = None
        if self.network.fusion is not None:
            features = self.network.backbone.widths[-1]
            self.adversary = Adversary(settings.adversarial, features, self.device)
        self.optimiser = make_optimiser([(list(self.network.parameters()), 1.0)], optim)
        self.mirror = torch.from_numpy(self.taxonomy.mirror_table()).to(self.device)
        self.engine: nn.Module = self.network
        self.labels: Mapping[str, Tensor] = UNLABELLED
        self._seen: list[dict[str, Tensor]] = []

    def open(self, out: Path, resume: bool) -> None:
        """Open the faces and make the run folder, or go on in it."""
        settings, optim = self.settings, self.settings.optim
        learners = [name for name, task in self.network.tasks.items() if task.needs_masks]
        resumed = out if resume else None
        faces = pretrain_faces(settings, self.taxonomy, learners, resumed, self.sources)
        self.boxes = {source.box for source in faces.sources}
        classes = len(self.taxonomy) if faces.has_masks else None
        labelled = any(task.needs_labels for task in self.network.tasks.values())
        columns = attribute_labels(faces.sources) if labelled else {}
        self.labels = {name: torch.from_numpy(column) for name, column in columns.items()}
        self.canvases = canvases_of(faces.sources, settings.canvas, classes, settings)
        self.micro = micro_batches_of(optim.batch_size, len(self.canvases), optim.accumulate)
        if is_first():
            start = (
                f"A new run starts from its backbone with backbone_weights={out / PRETRAINED_FILE}."
            )
            entries = pretrain_inputs(settings, faces.sources, labelled)
            inputs = partial(require_same_inputs, out, entries)
            start_run(
                out, self.kind, settings, settings.seed, resume, extent_of(optim, start), inputs
            )
            faces.tell(out)

    def start(self) -> None:
        """Compile where that is asked for, and bind the processes' networks together."""
        if self.settings.runtime.compile:
            self.network.compile_parts()
        self.engine = for_all_processes(self.network, self.network.all_used(self.taxonomy))
        if self.adversary is not None:
            self.adversary.start()

    def weights(self) -> nn.Module:
        """Return the network."""
        return self.network

    def others(self) -> Mapping[str, Learner]:
        """Return the adversary, where there is one."""
        return {} if self.adversary is None else {"adversary": self.adversary.learner}

    def epoch(self, epoch: int, done: int) -> Epoch[CanvasBatch]:
        """Return the faces in a new order."""
        micro = self.micro
        order = self.canvases.random_order(generator_for(self.settings.seed, epoch))
        # A last batch of a face or two would give BatchNorm meaningless statistics.
        steps = len(order) // micro.batch
        parts = range(done * micro.parts, steps * micro.parts)
        micro_batches = self.canvases.batches(
            RankSampler(order, micro), micro.size, parts.start, parts.stop
        )
        self.network.train()
        return Epoch([micro] * steps, ahead(micro_batches, self.device))

    def lr(self, place: Place) -> float:
        """Return the learning rate that the schedule gives."""
        optim = self.settings.optim
        return optim.lr * optim.schedule.factor(place.epoch, place.progress, optim.epochs)

    def losses(self, batch: CanvasBatch, place: Place) -> Losses:
        """Return the weighted sum of the tasks' losses."""
        settings = self.settings
        drawn = self._generator(place)
        views = make_views(batch, settings, self.mirror, drawn, self.device, self.labels)
        self.draws.generator = self._generator(place, DROPOUT)
        with autocast(self.device, settings.runtime.precision):
            results, compared = self.engine(views)
        if self.adversary is not None:
            results["adversarial"] = self.adversary.term(compared)
            self._seen.append({name: feature.detach() for name, feature in compared.items()})
        weights = self.loss_weights
        total = torch.stack([weights.get(n, 1.0) * r.loss for n, r in results.items()]).sum()
        figures = step_figures(results, total, len(batch.index))
        return Losses(total, figures, {name: result.loss for name, result in results.items()})

    def _generator(self, place: Place, *kind: int) -> torch.Generator:
        drawn = generator_for(self.settings.seed, place.epoch, place.step, *kind)
        return generator_of_rows(drawn, place.micro.rows(place.part), place.micro.batch)

    def stepped(self, place: Place) -> None:
        """Let the adversary learn from what it has just seen."""
        if self.adversary is not None:
            seen, self._seen = self._seen, []
            features = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
            self.adversary.learn(features, place.step)

    def saves(self, place: Place) -> bool:
        """Save every few steps of an epoch."""
        return (place.step + 1) % self.settings.save_every == 0

    def row(self, epoch: int, figures: Mapping[str, float | None]) -> LogRow:
        """Return rounded figures; None where nothing could be counted."""
        known = {n: v for n, v in figures.items() if v is not None and math.isfinite(v)}
        return super().row(epoch, {n: round(known[n], 5) if n in known else None for n in figures})

    def saved(self, rows: Sequence[LogRow], out: Path) -> None:
        """Write the log."""
        write_metrics(out, rows, rows[-1] | {"finished": False})

    def finish(self, rows: Sequence[LogRow], out: Path) -> None:
        """Write what stage 2 starts from."""
        if finished(out) and (out / PRETRAINED_FILE).is_file():
            return  # Nothing was learnt since, and heads may have been added to it.
        faces = len(self.canvases)
        metadata = pretrained_metadata(self.settings, self.network, faces, self.boxes)
        save_tensors(out / PRETRAINED_FILE, self.network.state_dict(), metadata)
        write_metrics(out, rows, rows[-1] | {"finished": True})


def pretrain(
    settings: PretrainSettings,
    out: Path,
    resume: bool = False,
    sources: Sequence[FaceSource] | None = None,
) -> LogRow:
    """Run stage 1 into the run folder `out`; return the last epoch's metrics.

    `sources` are the faces that the settings name, where they were opened already.

    A run that was interrupted and resumed ends with the same weights, with whatever number of
    processes. Raises `TrainingError` when the loss is not a number.
    """
    with claimed_run(out):
        run = agreed(lambda: Pretraining(settings, sources))
        agreed(lambda: run.open(out, resume))
        loop = Loop(run, out)
        if resume:
            loop.restore()
        rows = loop.run()
        if is_first():
            run.finish(rows, out)
        return rows[-1]
