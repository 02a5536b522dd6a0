"""Stage 2: fine-tuning on few labelled faces (docs/method.md#stage-2)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sspl.data.canvases import CanvasBatch, Canvases, ahead
from sspl.data.inputs import require_same_inputs
from sspl.data.records import FaceSet, FaceSource
from sspl.data.subsets import save_subset
from sspl.data.transforms import plain_view, random_view
from sspl.device import autocast, generator_for, loss_scaler
from sspl.distributed.group import (
    agreed,
    for_all_processes,
    gathered,
    is_first,
    process_rank,
)
from sspl.distributed.random import generator_of_rows, sent
from sspl.distributed.sampler import RankSampler, epoch_batches, micro_batches_of, own_places
from sspl.errors import SettingsError
from sspl.io.progress import note
from sspl.io.runs import claimed_run, start_run, write_metrics
from sspl.metrics.attributes import one_answer, positive_rates, remarks
from sspl.metrics.tallies import Mean
from sspl.models.branches import RegionHeads
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.frozen import AnyNetwork
from sspl.models.scoring import face_logits, logits_of
from sspl.models.splnet import AnyAttributeNetwork
from sspl.optim.averaging import averaged_model
from sspl.optim.optimiser import make_optimiser
from sspl.training.attribute_network import (
    freeze_statistics,
    log_odds,
    parameter_groups,
    settle_scales,
    started_network,
)
from sspl.training.consistency import UnlabelledFaces, consistency_loss, seen_rows
from sspl.training.distillation import taught_sources, taught_targets, taught_text
from sspl.training.face_sources import unlabelled_sources
from sspl.training.finished import finished_model
from sspl.training.frozen_heads import HeadsBeside, kept_folder
from sspl.training.loop import Epoch, LogRow, Loop, Losses, Place, Stage, begin, placed
from sspl.training.losses import attribute_loss
from sspl.training.partition import Partition, partition
from sspl.training.run_canvases import canvases_of
from sspl.training.run_inputs import LABELLED_FILE, VALIDATION_FILE, finetune_inputs
from sspl.training.selection import selection, validation_figures
from sspl.training.stage_settings import FinetuneSettings, extent_of

SETTLE_FACES: Final = 512
"""Labelled faces that the first averages of pooled features are taken from."""

log = logging.getLogger(__name__)


class Finetuning(Stage[CanvasBatch]):
    """What learns in stage 2: a network and its averaged copy; the best epoch's are kept."""

    kind = "finetune"

    def __init__(self, settings: FinetuneSettings, parts: Partition | None = None) -> None:
        self.parts = parts or partition(settings)
        assert settings.data is not None
        self.settings, self.optim = settings, settings.optim
        self.epochs, self.clip = settings.optim.epochs, settings.optim.clip
        runtime = settings.runtime
        precision = runtime.precision
        self.device = begin(runtime.device, settings.seed, precision, runtime.deterministic)
        self.scaler = loss_scaler(self.device, precision)
        self.selection = selection(settings, self.parts)
        self.rates = positive_rates(self.parts.train.labels)
        self.labels = torch.from_numpy(self.parts.train.labels)
        bias = log_odds(self.rates)
        self.log_odds = bias.to(self.device)
        self.network, self.transferred = started_network(settings, self.parts.train.schema, bias)
        head = self.network.head
        self.groups = tuple(head.groups.values()) if isinstance(head, RegionHeads) else ()
        self.draws = placed(self.network, self.device, self.optim.sync_batchnorm)
        self.average = averaged_model(self.network, settings.ema) if settings.ema else None
        self.optimiser = make_optimiser(parameter_groups(self.network, settings), self.optim)
        self.engine: nn.Module = self.network
        self.one_answer: list[str] = []
        self.taught = ""
        self.heads: HeadsBeside | None = None
        self._more: Iterator[CanvasBatch] = iter(())

    def open(self, out: Path, resume: bool) -> None:
        """Read the faces; make the run folder, or go on in it."""
        settings, optim = self.settings, self.optim
        self.train = self._learnt(out)
        self._settle()
        self.unlabelled = self._unlabelled() if settings.consistency.weight else None
        micro_batches_of(optim.batch_size, len(self.train), optim.accumulate)
        if is_first():
            instead = f"Train on from it: 'sspl finetune --from {out}' with another --out."
            entries = finetune_inputs(settings, self.parts)
            inputs = partial(require_same_inputs, out, entries)
            extent = extent_of(optim, instead)
            start_run(out, self.kind, settings, settings.seed, resume, extent, inputs)
            log.info(self.transferred)
            if self.taught:
                log.info(self.taught)
            self._remark({"left_out": self.selection.left_out})
            save_subset(out / LABELLED_FILE, self.parts.train.names)
            save_subset(out / VALIDATION_FILE, self.parts.val.names)
        if settings.features:
            self.heads = HeadsBeside(settings, self.parts, self.selection.figure, out)
        self.val = self.labelled(self.parts.val, self.canvas)

    def _learnt(self, out: Path) -> Canvases:
        """Return canvases of the labelled faces, and then of those with teachers, if any.

        The targets of the latter then stand among the labels.
        """
        settings, train = self.settings, self.parts.train
        if not settings.distillation.teachers:
            return self.labelled(train, settings.canvas)
        sources = taught_sources(settings, self.parts)
        targets = taught_targets(settings, self.parts, sources, kept_folder(settings, out))
        self.labels = torch.from_numpy(targets)
        self.taught = taught_text(settings.distillation.teachers, len(targets) - len(train))
        return canvases_of(sources, settings.canvas, None, settings)

    def _settle(self) -> None:
        """Let the averages of pooled features begin at those of some labelled faces.

        Not from scratch, where a backbone that has seen nothing has no averages either.
        """
        if self.settings.pretrained is None:
            return
        faces, size = range(min(len(self.parts.train), SETTLE_FACES)), self.settings.input_size
        some = self.train.batches(faces, self.optim.batch_size)
        settle_scales(self.network, (plain_view(sent(b.images, self.device), size) for b in some))
        if self.average is not None:
            self.average.module.load_state_dict(self.network.state_dict())

    @property
    def canvas(self) -> int:
        """Side in px of the canvas that the model reads: no frozen network wants a larger one."""
        return self.settings.canvas if self.heads is None else self.heads.canvas

    def labelled(self, faces: FaceSet, canvas: int) -> Canvases:
        """Return the canvases of faces of the labelled set."""
        assert self.settings.data is not None
        source = FaceSource(faces, self.settings.data.box_of(faces))
        return canvases_of([source], canvas, None, self.settings)

    def _unlabelled(self) -> UnlabelledFaces:
        settings, optim, rest = self.settings, self.optim, self.parts.rest
        assert settings.data is not None
        sources = [FaceSource(rest, settings.data.box_of(rest))]
        sources += unlabelled_sources(settings.consistency.data, ("train",))
        sources = [source for source in sources if len(source.faces)]
        if not sources:
            raise SettingsError(
                "consistency.weight: every training face is labelled and consistency.data names "
                "no others; give unlabelled faces or set the weight to 0."
            )
        canvases = canvases_of(sources, settings.canvas, None, settings)
        return UnlabelledFaces(
            canvases,
            settings.consistency,
            settings.input_size,
            optim.batch_size,
            optim.accumulate,
        )

    def start(self) -> None:
        """Compile where that is asked for, and bind the processes' networks together."""
        if self.settings.runtime.compile:
            self.network.backbone.compile()
        # `splnet` runs the branches of those regions alone that have attributes.
        self.engine = for_all_processes(self.network, self.settings.architecture == "sspl")

    @property
    def judged(self) -> AnyAttributeNetwork:
        """The network that is validated and kept: the averaged one where there is one."""
        judged = self.network if self.average is None else self.average.module
        assert isinstance(judged, AnyAttributeNetwork)
        return judged

    def weights(self) -> nn.Module:
        """Return the network and its averaged copy."""
        parts = {"network": self.network} | ({"average": self.average} if self.average else {})
        return nn.ModuleDict(parts)

    def epoch(self, epoch: int, done: int) -> Epoch[CanvasBatch]:
        """Return the labelled faces in a new order, the smaller last batch too."""
        settings, optim = self.settings, self.optim
        generator = generator_for(settings.seed, settings.labels.subset_seed, epoch)
        seed = int(torch.randint(2**31, (), generator=generator))
        # For layers that draw by themselves; dropout's draws are the faces' own.
        torch.manual_seed(seed + process_rank())
        self._drawn = generator, torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.train), generator=generator).tolist()
        rounds = epoch_batches(order, optim.batch_size, optim.accumulate)
        steps = [micro for micro, faces in rounds for _ in range(len(faces) // micro.batch)]
        micro_batches = chain.from_iterable(
            self.train.batches(RankSampler(faces, micro), micro.size) for micro, faces in rounds
        )
        if self.unlabelled:
            more = self.unlabelled.batches(len(steps), generator)
            self._more = ahead(more, self.device)
        self.network.train()
        freeze_statistics(self.network, settings.freeze)
        return Epoch(steps, ahead(micro_batches, self.device))

    def lr(self, place: Place) -> float:
        """Return the learning rate that the schedule gives."""
        return self.optim.lr * self.optim.schedule.factor(place.epoch, place.progress, self.epochs)

    def losses(self, batch: CanvasBatch, place: Place) -> Losses:
        """Return the loss of labelled faces and, with unlabelled ones, their consistency.

        Both kinds pass through the network together, so that BatchNorm sees more than a few faces.
        """
        settings, micro, part = self.settings, place.micro, place.part
        drawn, dropout = self._drawn
        drawn = generator_of_rows(drawn, micro.rows(part), micro.batch)
        dropout = generator_of_rows(dropout, *seen_rows(micro, self.unlabelled, part))
        self._own, self.draws.generator = (drawn, dropout), dropout
        images, size = sent(batch.images, self.device), settings.input_size
        view = random_view(images, settings.geometry, settings.colour, size, drawn)
        views, faces = [view], len(batch.index)
        if self.unlabelled:
            more = next(self._more).images
            # The averaged copy, not the network in training: the settings see to it.
            judged = self.judged.eval()
            teacher = logits_of(judged, more, size, True, settings.runtime.precision).sigmoid()
            views.append(self.unlabelled.strong(more, drawn, part))
        with autocast(self.device, settings.runtime.precision):
            logits = self.engine(torch.cat(views).contiguous(memory_format=torch.channels_last))
        truth = sent(self.labels[batch.index], self.device)
        own = logits[:faces]
        total = loss = attribute_loss(own, truth, self.log_odds, settings.loss, self.groups)
        terms, tallies = {"labelled faces": loss}, {"loss": Mean.of(loss, faces)}
        if self.unlabelled:
            how = settings.consistency
            extra = consistency_loss(logits[faces:], teacher, how.threshold, how.soft)
            total = loss + self.unlabelled.weight(place.epoch, place.progress) * extra
            terms["unlabelled faces"] = extra
            tallies["consistency_loss"] = Mean.of(extra, self.unlabelled.micro.size)
        return Losses(total, tallies, terms)

    def stepped(self, place: Place) -> None:
        """Carry the draws on, and let the averaged copy follow."""
        for generator, own in zip(self._drawn, self._own, strict=True):
            generator.set_state(own.get_state())
        if self.average is not None:
            self.average.update_parameters(self.network)

    def judge(self, rows: Sequence[LogRow], out: Path) -> bool:
        """Look at the validation faces, if any, every few epochs; keep the model if the best."""
        row, val = rows[-1], self.parts.val
        if row["epoch"] % self.settings.evaluate_every and row["epoch"] != self.epochs:
            return False
        logits = self.scores(self.val)
        network: AnyNetwork = self.judged
        if self.heads is not None:
            row["frozen_share"], logits = self.heads.joined(logits)
            network = self.heads.beside(self.judged, row["frozen_share"])
        figures = validation_figures(val, logits, self.rates, self.selection.left_out)
        row |= {f"val/{name}": value for name, value in figures.items()}
        if self.selection.best(rows) is row:
            model = self.model(network, logits)
            names = model.schema.names
            decisions, _ = model.decisions.decide(names, model.probabilities(logits))
            self.one_answer = one_answer(names, decisions)
            if is_first():
                save_model(out, model)
        return True

    def scores(self, canvases: Canvases) -> NDArray[np.float32]:
        """Return logits float32 (n, attributes) of the judged network."""
        if not len(canvases):
            return np.empty((0, len(self.parts.val.schema)), np.float32)
        how, places = self.settings, own_places(len(canvases))
        size, mirrored, precision = how.input_size, how.flip_average, how.runtime.precision
        shrink = None if self.heads is None else how.canvas
        logits = face_logits(
            self.judged, canvases, places, size, mirrored, self.device, precision,
            title="validate", shrink=shrink,
        )  # fmt: skip
        return np.concatenate(gathered(logits))

    def model(self, network: AnyNetwork, logits: NDArray[np.float32]) -> AttributeModel:
        """Return a network as it is, with the metadata that a prediction needs.

        `logits` are those of the validation faces, float32 (n, attributes).
        """
        settings = self.settings
        return finished_model(
            settings, self.parts, network, self.canvas, settings.input_size, logits
        )

    def settled(self, rows: Sequence[LogRow]) -> bool:
        """Tell whether so many looks as `patience` says have brought no gain."""
        patience = self.settings.patience
        return patience is not None and self.selection.looks_since_gain(rows) >= patience

    def told(self, row: LogRow, left: str) -> None:
        """Say the loss and, where there was a look, the figure that decides."""
        figures = {name: row.get(name) for name in ("loss", self.selection.shown)}
        note("epoch", row["epoch"], self.epochs, figures, left)

    def memory(self) -> LogRow:
        """Return the attributes that get one answer from the model that is kept."""
        return {"one_answer": self.one_answer}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take back what `memory` gave."""
        self.one_answer = memory.get("one_answer", [])

    def saved(self, rows: Sequence[LogRow], out: Path) -> None:
        """Write the log."""
        write_metrics(out, rows, self.summary(rows, finished=False))

    def summary(self, rows: Sequence[LogRow], finished: bool) -> LogRow:
        """Return what metrics.json tells."""
        return {
            "finished": finished,
            "labelled": len(self.parts.train),
            "validation": len(self.parts.val),
            "label_counts": self.parts.train.label_counts(),
            "left_out": dict(self.selection.left_out),
            "selected_by": self.selection.figure,
            "best": self.selection.best(rows) or {},
            "kept": self.selection.text(rows, self.epochs),
            "one_answer": self.one_answer,
            "transfer": self.transferred,
            **({"taught": self.taught} if self.taught else {}),
            **({} if self.heads is None else {"extractors": self.heads.costs}),
        }

    def finish(self, rows: Sequence[LogRow], out: Path) -> LogRow:
        """Return the summary; the first process writes it and says which epoch was kept."""
        summary = self.summary(rows, finished=True)
        if is_first():
            write_metrics(out, rows, summary)
            log.info(summary["kept"])
            self._remark({"one_answer": self.one_answer})
        return summary

    def _remark(self, metadata: Mapping[str, Any]) -> None:
        for line in remarks(metadata, len(self.parts.train.schema), "validation faces"):
            log.warning(line)


def finetune(
    settings: FinetuneSettings, out: Path, resume: bool = False, parts: Partition | None = None
) -> LogRow:
    """Run stage 2 into the run folder `out`; return the summary with the best epoch's row.

    `parts` are the faces that the settings name, where they were opened already.

    The weights that are kept are those of the best epoch on the validation faces; the test
    split is never opened (docs/method.md#do-not-repeat-1).
    """
    with claimed_run(out):
        run = agreed(lambda: Finetuning(settings, parts))
        agreed(lambda: run.open(out, resume))
        loop = Loop(run, out)
        if resume:
            loop.restore()
        return run.finish(loop.run(), out)
