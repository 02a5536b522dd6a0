"""Stage 2: fine-tuning on few labelled faces (docs/method.md#stage-2)."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.framing import usual_size
from sspl.data.inputs import Entry, of_faces, of_file, of_values, require_same_inputs
from sspl.data.records import FaceSet
from sspl.data.subsets import save_subset
from sspl.data.transforms import random_view
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
    process_rank,
    same_everywhere,
)
from sspl.distributed.norms import synchronise_norms
from sspl.distributed.random import generator_of_rows
from sspl.distributed.sampler import (
    MicroBatches,
    RankSampler,
    epoch_batches,
    micro_batches_of,
    own_places,
)
from sspl.domain.taxonomy import load_taxonomy
from sspl.errors import SettingsError
from sspl.io.checkpoints import load_state, save_state
from sspl.io.progress import note, watched
from sspl.io.runs import claimed_run, start_run, write_metrics
from sspl.metrics.attributes import (
    all_figures,
    means,
    one_answer,
    positive_rates,
    remarks,
)
from sspl.metrics.tallies import Mean, Tally, add, together
from sspl.models.attributes import RegionPooling
from sspl.models.branches import Branches, RegionHeads
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.scoring import face_logits, logits_of
from sspl.models.splnet import AnyAttributeNetwork, build_attribute_network
from sspl.optim.averaging import averaged_model
from sspl.optim.optimiser import back_propagate, make_optimiser, set_lr, update
from sspl.training.backbone_weights import load_backbone
from sspl.training.calibration import fit_temperatures
from sspl.training.consistency import UnlabelledFaces, consistency_loss
from sspl.training.deciding import choose_decisions
from sspl.training.losses import attribute_loss
from sspl.training.partition import partition, unlabelled_sources
from sspl.training.selection import selection, validation_loss
from sspl.training.stage_settings import FinetuneSettings, extent_of
from sspl.training.transfer import transfer

LABELLED_FILE = "labelled.txt"
VALIDATION_FILE = "validation.txt"
PRIOR_RANGE = (0.01, 0.99)

log = logging.getLogger(__name__)


def log_odds(rates: NDArray[np.float64]) -> Tensor:
    """Return float32 (a,): log-odds of each attribute's share of positives."""
    return torch.logit(torch.from_numpy(rates).float().clamp(*PRIOR_RANGE))


def initialise_bias(head: nn.Linear | RegionHeads, bias: Tensor) -> None:
    """Start each attribute at the log-odds of its share among the labelled faces."""
    if isinstance(head, RegionHeads):
        head.set_bias(bias)
        return
    with torch.no_grad():
        head.bias.copy_(bias)


def parameter_groups(
    network: AnyAttributeNetwork, settings: FinetuneSettings
) -> list[tuple[list[nn.Parameter], float]]:
    """Return (parameters, lr factor) from the heads to the stem, frozen groups left out."""
    stages = network.backbone.parameter_groups()
    groups = [(list(network.head.parameters()), settings.head_lr)]
    if settings.freeze == len(stages):
        network.pooling.requires_grad_(False)
    else:
        groups.append((list(network.pooling.parameters()), 1.0))
    for index, parameters in reversed(list(enumerate(stages))):
        if index < settings.freeze:
            for parameter in parameters:
                parameter.requires_grad_(False)
        else:
            groups.append((parameters, settings.layer_decay ** (len(stages) - 1 - index)))
    return [group for group in groups if group[0]]


def freeze_statistics(network: AnyAttributeNetwork, freeze: int) -> None:
    """Put the BatchNorm layers of the first `freeze` groups (stem, stages) in evaluation mode."""
    parts = network.backbone.parts()
    for part in parts[:freeze]:
        part.eval()
    if freeze == len(parts):
        if isinstance(network.pooling, RegionPooling):
            network.pooling.segmentation.eval()
        if isinstance(network.pooling, Branches):
            network.pooling.eval()


class Finetuning:
    """One stage-2 run: data, network, its averaged copy, optimiser and the log."""

    def __init__(self, settings: FinetuneSettings) -> None:
        if settings.data is None:
            raise SettingsError("data: no faces given; add --data FORMAT:FOLDER.")
        keep_freed_memory()
        self.settings = settings
        self.device = pick_device(settings.runtime.device)
        self.parts = partition(settings)
        self.selection = selection(settings, self.parts)
        seed_everything(settings.seed)
        schema, taxonomy = self.parts.train.schema, load_taxonomy(settings.taxonomy)
        self.network = build_attribute_network(
            settings.architecture,
            settings.backbone,
            settings.head,
            schema,
            settings.segmentation,
            taxonomy.classes,
        )
        self.transferred = "from scratch"
        if settings.backbone_weights is not None:
            self.transferred = load_backbone(
                self.network.backbone, settings.backbone_weights
            ).text()
        self.pictures = usual_size(self.parts.train, settings.data.box_of(self.parts.train))
        self.rates = positive_rates(self.parts.train.labels)
        self.log_odds = log_odds(self.rates)
        initialise_bias(self.network.head, self.log_odds)
        if settings.pretrained is not None:
            # Heads that are kept bring their own biases.
            self.transferred = transfer(self.network, settings.pretrained, schema).text()
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.optim.sync_batchnorm:
            synchronise_norms(self.network)
        self.draws = drop_by_face(self.network)
        self.average = averaged_model(self.network, settings.ema) if settings.ema else None
        self.optimiser = make_optimiser(parameter_groups(self.network, settings), settings.optim)
        self.rows: list[dict[str, Any]] = []
        self.one_answer: list[str] = []
        self.engine: nn.Module = self.network

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

    def state(self) -> nn.Module:
        """Return everything with weights, to be saved and restored as one."""
        parts = {"network": self.network} | ({"average": self.average} if self.average else {})
        return nn.ModuleDict(parts)

    def canvases(self, sources: Sequence[FaceSource]) -> Canvases:
        """Return the canvases of some faces as this run cuts them."""
        runtime = self.settings.runtime
        cache = runtime.cache_gb / local_count()
        return Canvases(sources, self.settings.canvas, None, cache, runtime.workers)

    def labelled(self, faces: FaceSet) -> Canvases:
        """Return the canvases of faces of the labelled set."""
        assert self.settings.data is not None
        return self.canvases([FaceSource(faces, self.settings.data.box_of(faces))])

    def unlabelled(self) -> UnlabelledFaces | None:
        """Return the faces to learn from without labels; None where that is switched off."""
        settings = self.settings.consistency
        if not settings.weight:
            return None
        assert self.settings.data is not None
        sources = [FaceSource(self.parts.rest, self.settings.data.box_of(self.parts.rest))]
        sources += unlabelled_sources(settings.data, ("train",))
        sources = [source for source in sources if len(source.faces)]
        if not sources:
            raise SettingsError(
                "consistency.weight: every training face is labelled and consistency.data names "
                "no others; give unlabelled faces or set the weight to 0."
            )
        canvases = self.canvases(sources)
        optim, size = self.settings.optim, self.settings.input_size
        return UnlabelledFaces(canvases, settings, size, optim.batch_size, optim.accumulate)

    @compile_errors_explained()
    def train_epoch(
        self, canvases: Canvases, labels: Tensor, unlabelled: UnlabelledFaces | None, epoch: int
    ) -> dict[str, float]:
        """Train one 0-based epoch; return the mean of each loss."""
        settings, optim = self.settings, self.settings.optim
        generator = generator_for(settings.seed, settings.labels.subset_seed, epoch)
        seed = int(torch.randint(2**31, (), generator=generator))
        # For layers that draw by themselves; dropout's draws are the faces' own.
        torch.manual_seed(seed + process_rank())
        dropout = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(canvases), generator=generator).tolist()
        rounds = epoch_batches(order, optim.batch_size, optim.accumulate)
        deals = [micro for micro, faces in rounds for _ in range(len(faces) // micro.batch)]
        shares = chain.from_iterable(
            canvases.batches(RankSampler(faces, micro), micro.size) for micro, faces in rounds
        )
        more = unlabelled.batches(len(deals), generator) if unlabelled else None
        self.network.train()
        freeze_statistics(self.network, settings.freeze)
        means: dict[str, Tally] = {}
        for number, micro in enumerate(deals):
            progress = (number + 1) / len(deals)
            set_lr(self.optimiser, optim.lr * optim.schedule.factor(epoch, progress, optim.epochs))
            weight = unlabelled.weight(epoch, progress) if unlabelled else 0.0
            for part, batch in enumerate(islice(shares, micro.parts)):
                own = generator_of_rows(generator, micro.rows(part), micro.batch)
                dropped = generator_of_rows(dropout, *seen_rows(micro, unlabelled, part))
                self.draws.generator = dropped
                faces = {"loss": len(batch.index)}
                with gradients_wait(self.engine) if part + 1 < micro.parts else nullcontext():
                    truth = labels[batch.index]
                    losses = self._losses(batch.images, truth, unlabelled, more, own, part)
                    total, of = losses["loss"], {"labelled faces": losses["loss"]}
                    if unlabelled:
                        total = total + weight * losses["consistency_loss"]
                        of["unlabelled faces"] = losses["consistency_loss"]
                        faces["consistency_loss"] = unlabelled.micro.size
                    where = f"epoch {epoch + 1}, step {number + 1}"
                    back_propagate(total / micro.parts, where, of)
                for name, loss in losses.items():
                    add(means, {name: Mean(loss.item() * faces[name], faces[name])})
            generator.set_state(own.get_state())
            dropout.set_state(dropped.get_state())
            update(self.optimiser, optim.clip, where)
            if self.average is not None:
                self.average.update_parameters(self.network)
        level(self.state())
        return {name: mean.value() for name, mean in together(gathered(means)).items()}

    def _losses(
        self,
        canvas: Tensor,
        labels: Tensor,
        unlabelled: UnlabelledFaces | None,
        more: Iterator[Tensor] | None,
        generator: torch.Generator,
        part: int,
    ) -> dict[str, Tensor]:
        """Return the loss of labelled faces and, with unlabelled ones, their consistency.

        Both kinds pass through the network together, so that BatchNorm sees more than a few faces.
        """
        settings, size = self.settings, self.settings.input_size
        view = random_view(
            canvas.to(self.device), settings.geometry, settings.colour, size, generator
        )
        views = [view]
        if unlabelled and more is not None:
            images = next(more).to(self.device)
            # The averaged copy, not the network in training: the settings see to it.
            judged = self.judged.eval()
            teacher = logits_of(judged, images, size, True, settings.runtime.precision).sigmoid()
            views.append(unlabelled.strong(images, generator, part))
        with autocast(self.device, settings.runtime.precision):
            logits = self.engine(torch.cat(views).contiguous(memory_format=torch.channels_last))
        truth, odds = labels.to(self.device), self.log_odds.to(self.device)
        losses = {"loss": attribute_loss(logits[: len(view)], truth, odds, settings.loss)}
        if unlabelled:
            extra, how = logits[len(view) :], settings.consistency
            losses["consistency_loss"] = consistency_loss(extra, teacher, how.threshold, how.soft)
        return losses

    def scores(self, canvases: Canvases) -> NDArray[np.float32]:
        """Return logits float32 (n, attributes) of the judged network."""
        settings = self.settings
        logits = face_logits(
            self.judged,
            canvases,
            own_places(len(canvases)),
            settings.input_size,
            settings.flip_average,
            self.device,
            settings.runtime.precision,
            title="validate",
        )
        return np.concatenate(gathered(logits))

    def model(self, logits: NDArray[np.float32]) -> AttributeModel:
        """Return the judged network as it is, with the metadata that a prediction needs.

        `logits` are those of the validation faces, float32 (n, attributes).
        """
        settings, schema = self.settings, self.parts.train.schema
        assert settings.data is not None
        temperatures = _temperatures(self, logits)
        return AttributeModel(
            self.judged,
            schema,
            settings.data.box_of(self.parts.train),
            settings.canvas,
            settings.input_size,
            settings.flip_average,
            self.rates,
            temperatures,
            choose_decisions(
                schema.names,
                expit(logits / temperatures),
                self.parts.val.labels,
                settings.thresholds,
                settings.sure_accuracy,
            ),
            self.pictures,
        )


def seen_rows(
    micro: MicroBatches, unlabelled: UnlabelledFaces | None, part: int
) -> tuple[list[int], int]:
    """Return this process's rows of a part, and how many a step has: unlabelled faces come last."""
    rows = list(range(micro.batch)[micro.rows(part)])
    if unlabelled is None:
        return rows, micro.batch
    more = unlabelled.micro
    places = range(micro.batch, micro.batch + more.batch)
    return rows + list(places[more.rows(part)]), places.stop


def finetune(settings: FinetuneSettings, out: Path, resume: bool = False) -> dict[str, Any]:
    """Run stage 2 into the run folder `out`; return the best epoch's row.

    The weights that are kept are those of the best epoch on the validation faces; the test
    split is never opened (docs/method.md#do-not-repeat-1).
    """
    with claimed_run(out):
        return _finetune(settings, out, resume)


def _finetune(settings: FinetuneSettings, out: Path, resume: bool) -> dict[str, Any]:
    run = agreed(lambda: Finetuning(settings))
    train, val, unlabelled = agreed(lambda: _open(run, out, resume))
    if resume:
        state = in_turn(lambda: load_state(out, run.state(), run.optimiser))
        run.rows = state["rows"] if state else []
        run.one_answer = state.get("one_answer", []) if state else []
        same_everywhere(len(run.rows), f"the checkpoint in {out}")
    run.start()
    labels = torch.from_numpy(run.parts.train.labels)
    epochs, every = settings.optim.epochs, settings.evaluate_every
    left = range(len(run.rows), epochs)
    for epoch in (bar := watched(left, "finetune", unit="epoch")):
        if settings.patience and run.selection.looks_since_gain(run.rows) >= settings.patience:
            break
        losses = run.train_epoch(train, labels, unlabelled, epoch)
        row = {"epoch": epoch + 1, "lr": run.optimiser.param_groups[0]["lr"]} | losses
        run.rows.append(row)
        if (epoch + 1) % every == 0 or epoch + 1 == epochs:
            logits = run.scores(val)
            row |= {f"val/{name}": value for name, value in _figures(run, logits).items()}
            _keep(run, out, logits)
            bar.set_postfix(val=f"{row[run.selection.key] or 0:.4f}")
        note("epoch", epoch + 1, epochs, {n: row.get(n) for n in ("loss", run.selection.key)})
    summary = _summary(run, finished=True)
    if is_first():
        write_metrics(out, run.rows, summary)
        log.info(summary["kept"])
        for line in _remarks(run, {"one_answer": run.one_answer}):
            log.warning(line)
    return summary


def _open(
    run: Finetuning, out: Path, resume: bool
) -> tuple[Canvases, Canvases, UnlabelledFaces | None]:
    """Read the faces to train on, to validate on and without labels; make the run folder."""
    settings = run.settings
    train, val = run.labelled(run.parts.train), run.labelled(run.parts.val)
    unlabelled = run.unlabelled()
    micro_batches_of(settings.optim.batch_size, len(train), settings.optim.accumulate)
    if is_first():
        extent = extent_of(
            settings.optim, f"Train on from it: 'sspl finetune --from {out}' with another --out."
        )
        inputs = partial(require_same_inputs, out, _inputs(run))
        start_run(out, "finetune", settings, settings.seed, resume, extent, inputs)
        log.info(run.transferred)
        for line in _remarks(run, {"left_out": run.selection.left_out}):
            log.warning(line)
        save_subset(out / LABELLED_FILE, run.parts.train.names)
        save_subset(out / VALIDATION_FILE, run.parts.val.names)
    return train, val, unlabelled


def _inputs(run: Finetuning) -> list[Entry]:
    """Return what a run learns from and is selected on: faces, labels, weights and classes."""
    settings, parts = run.settings, run.parts
    entries = [of_values(f"taxonomy {settings.taxonomy}", load_taxonomy(settings.taxonomy).classes)]
    if settings.backbone_weights is not None:
        entries.append(of_file("backbone_weights", settings.backbone_weights))
    if settings.pretrained is not None:
        entries += [
            of_file(f"pretrained {file.name}", file) for file in _weights(settings.pretrained)
        ]
    entries += [*of_faces(parts.train, labelled=True), *of_faces(parts.val, labelled=True)]
    if settings.consistency.weight:
        entries += of_faces(parts.rest)
        for number, source in enumerate(unlabelled_sources(settings.consistency.data, ("train",))):
            more = of_faces(source.faces)
            entries += [(f"consistency.data {number}: {n}", about) for n, about in more]
    return entries


def _weights(pretrained: Path) -> list[Path]:
    """Return the files that a run in this folder, or at this path, has its weights in."""
    if not pretrained.is_dir():
        return [pretrained]
    return [p for p in sorted(pretrained.glob("*.safetensors")) if "state" not in p.name]


def _keep(run: Finetuning, out: Path, logits: NDArray[np.float32]) -> None:
    """Write the state, the log and, where it is the best yet, the model."""
    if run.selection.best(run.rows) is run.rows[-1]:
        model = run.model(logits)
        names = model.schema.names
        decisions, _ = model.decisions.decide(names, model.probabilities(logits))
        run.one_answer = one_answer(names, decisions)
        if is_first():
            save_model(out, model)
    if not is_first():
        return
    metadata = {"kind": "finetune-state", "rows": run.rows, "one_answer": run.one_answer}
    save_state(out, run.state(), run.optimiser, metadata)
    write_metrics(out, run.rows, _summary(run, finished=False))


def _figures(run: Finetuning, logits: NDArray[np.float32]) -> dict[str, float | None]:
    val = run.parts.val
    figures = all_figures(val.schema.names, val.labels, expit(logits), run.rates)
    loss = validation_loss(logits, val.labels)
    return means(figures, run.selection.left_out) | {"loss": loss}


def _temperatures(run: Finetuning, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    if not run.settings.calibrate:
        return np.ones(logits.shape[1])
    return fit_temperatures(logits.astype(np.float64), run.parts.val.labels)


def _label_counts(faces: FaceSet) -> dict[str, dict[str, int]]:
    """Return how many of the labelled faces say yes and no, by attribute."""
    counts = {"yes": (faces.labels == 1).sum(0), "no": (faces.labels == 0).sum(0)}
    return {
        name: {answer: int(found[i]) for answer, found in counts.items()}
        for i, name in enumerate(faces.schema.names)
    }


def _remarks(run: Finetuning, metadata: dict[str, Any]) -> list[str]:
    return remarks(metadata, len(run.parts.train.schema), "validation faces")


def _summary(run: Finetuning, finished: bool) -> dict[str, Any]:
    return {
        "finished": finished,
        "labelled": len(run.parts.train),
        "validation": len(run.parts.val),
        "label_counts": _label_counts(run.parts.train),
        "left_out": dict(run.selection.left_out),
        "selected_by": run.selection.figure,
        "best": run.selection.best(run.rows) or {},
        "kept": run.selection.text(run.rows, run.settings.optim.epochs),
        "one_answer": run.one_answer,
        "transfer": run.transferred,
    }
