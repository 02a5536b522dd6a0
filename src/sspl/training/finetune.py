"""Stage 2: fine-tuning on few labelled faces (METHOD.md "Stage 2")."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from sspl.data.canvases import Canvases, FaceSource
from sspl.data.records import MISSING, FaceSet
from sspl.data.subsets import count_for, label_subset, save_subset
from sspl.data.transforms import draw_geometry, jitter_colour, normalise, warp_images
from sspl.device import autocast, generator_for, keep_freed_memory, pick_device, seed_everything
from sspl.domain.taxonomy import load_taxonomy
from sspl.errors import SettingsError
from sspl.metrics.attributes import all_figures, means, positive_rates
from sspl.metrics.tallies import Mean
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.scoring import probabilities_of
from sspl.runs import start_run, write_metrics
from sspl.training.checkpoint import load_state, save_state
from sspl.training.optimiser import make_optimiser, set_lr, step
from sspl.training.settings import FinetuneSettings
from sspl.training.transfer import transfer

LABELLED_FILE = "labelled.txt"
VALIDATION_FILE = "validation.txt"
PRIOR_RANGE = (0.01, 0.99)

log = logging.getLogger(__name__)


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy averaged over known labels.

    `logits` float (n, a); `labels` int8 (n, a) of 1, 0 and `MISSING`. A missing label, MAAD's
    "undefined" among them, has no part in the loss (METHOD.md "Do not repeat" 10). Without any
    known label the loss is 0.
    """
    known = labels != MISSING
    loss = F.binary_cross_entropy_with_logits(logits, (labels == 1).float(), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class Partition:
    """The labelled faces that are learnt from and those that the model is selected on."""

    train: FaceSet
    val: FaceSet


def partition(settings: FinetuneSettings) -> Partition:
    """Choose the labelled training faces and the validation faces.

    The validation split is used where the set has one; else a share of the chosen labelled
    faces is held out, so that no label beyond the budget is looked at.
    """
    assert settings.data is not None
    faces = settings.data.open()
    if not len(faces.schema):
        raise SettingsError(f"data: {faces.source} carries no attribute labels to learn from.")
    has_splits = any(split is not None for split in faces.splits)
    pool = faces.split("train") if has_splits else faces
    labels = settings.labels
    count = len(pool)
    if labels.count is not None or labels.fraction is not None:
        count = count_for(len(pool), labels=labels.count, fraction=labels.fraction)
    chosen = label_subset(pool.labels, count, rule=labels.rule, seed=labels.subset_seed)
    subset = pool.select(chosen)
    if "val" in faces.splits:
        return Partition(subset, faces.split("val"))
    held_out = max(1, round(labels.val_fraction * count))
    if held_out >= count:
        raise SettingsError("labels: too few to hold some out for validation; give at least 2.")
    order = np.random.default_rng([labels.subset_seed, 1]).permutation(count)
    return Partition(
        subset.select(np.sort(order[held_out:])), subset.select(np.sort(order[:held_out]))
    )


def initialise_bias(head: nn.Linear, rates: NDArray[np.float64]) -> None:
    """Start each attribute at the log-odds of its share among the labelled faces."""
    prior = torch.from_numpy(rates).clamp(*PRIOR_RANGE)
    with torch.no_grad():
        head.bias.copy_(torch.logit(prior))


def parameter_groups(
    network: AttributeNetwork, settings: FinetuneSettings
) -> list[tuple[list[nn.Parameter], float]]:
    """Return (parameters, lr factor) from the heads to the stem, frozen groups left out."""
    stages = network.trunk.parameter_groups()
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


def freeze_statistics(network: AttributeNetwork, freeze: int) -> None:
    """Put the BatchNorm layers of the first `freeze` groups (stem, stages) in evaluation mode."""
    groups = [network.trunk.stem, *network.trunk.stages]
    for group in groups[:freeze]:
        group.eval()
    if freeze == len(groups):
        network.trunk.norm.eval()
        if isinstance(network.pooling, RegionPooling):
            network.pooling.segmentation.eval()


class Finetuning:
    """One stage-2 run: data, network, optimiser and the best epoch so far."""

    def __init__(self, settings: FinetuneSettings) -> None:
        if settings.data is None:
            raise SettingsError("data: no faces given; add --data FORMAT:FOLDER.")
        keep_freed_memory()
        self.settings = settings
        self.device = pick_device(settings.runtime.device)
        self.parts = partition(settings)
        seed_everything(settings.seed)
        schema, taxonomy = self.parts.train.schema, load_taxonomy(settings.taxonomy)
        self.network = AttributeNetwork(
            settings.trunk, settings.head, len(schema), settings.segmentation, taxonomy.classes
        )
        self.transferred = "from scratch"
        if settings.pretrained is not None:
            report = transfer(self.network, settings.pretrained)
            self.transferred = report.text()
        self.rates = positive_rates(self.parts.train.labels)
        initialise_bias(self.network.head, self.rates)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = make_optimiser(parameter_groups(self.network, settings), settings.optim)
        self.rows: list[dict[str, Any]] = []

    def canvases(self, faces: FaceSet) -> Canvases:
        """Return the canvases of some faces as this run cuts them."""
        assert self.settings.data is not None
        runtime = self.settings.runtime
        sources = [FaceSource(faces, self.settings.data.box())]
        return Canvases(sources, self.settings.canvas, None, runtime.cache_gb, runtime.workers)

    def train_epoch(self, canvases: Canvases, labels: Tensor, epoch: int) -> float:
        """Train one 0-based epoch; return the mean loss."""
        settings, optim = self.settings, self.settings.optim
        generator = generator_for(settings.seed, settings.labels.subset_seed, epoch)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        order = torch.randperm(len(canvases), generator=generator).tolist()
        # Drop a last batch of one face: BatchNorm cannot train on it.
        if len(order) % optim.batch_size == 1 and len(order) > 1:
            order.pop()
        steps = -(-len(order) // optim.batch_size)
        self.network.train()
        freeze_statistics(self.network, settings.freeze)
        mean = Mean()
        for number, batch in enumerate(canvases.batches(order, optim.batch_size)):
            factor = optim.schedule.factor(epoch, (number + 1) / steps, optim.epochs)
            set_lr(self.optimiser, optim.lr * factor)
            geometry = draw_geometry(len(batch.index), settings.geometry, generator)
            view = warp_images(
                batch.images.to(self.device), geometry.to(self.device), settings.input_size
            )
            view = normalise(jitter_colour(view, settings.colour, generator))
            with autocast(self.device, settings.runtime.precision):
                logits = self.network(view.contiguous(memory_format=torch.channels_last))
            loss = masked_bce(logits, labels[batch.index].to(self.device))
            step(self.optimiser, loss, optim.clip, f"epoch {epoch + 1}, step {number + 1}")
            mean.add(loss.item() * len(batch.index), len(batch.index))
        return mean.value()

    def validate(self, canvases: Canvases) -> dict[str, float | None]:
        """Return the mean figures on the validation faces."""
        settings = self.settings
        probabilities = probabilities_of(
            self.network, canvases, range(len(canvases)), settings.input_size,
            settings.flip_average, self.device, settings.runtime.precision, title="validate",
        )  # fmt: skip
        val = self.parts.val
        return means(all_figures(val.schema.names, val.labels, probabilities, self.rates))

    def model(self) -> AttributeModel:
        """Return the network as it is, with the facts that a prediction needs."""
        settings = self.settings
        assert settings.data is not None
        return AttributeModel(
            self.network, self.parts.train.schema,
            settings.data.box(), settings.canvas, settings.input_size, settings.flip_average,
            self.rates,
        )  # fmt: skip


def finetune(settings: FinetuneSettings, out: Path, resume: bool = False) -> dict[str, Any]:
    """Run stage 2 into the run folder `out`; return the best epoch's row.

    The weights that are kept are those of the best epoch on the validation faces; the test
    split is never opened (METHOD.md "Do not repeat" 1).
    """
    run = Finetuning(settings)
    train, val = run.canvases(run.parts.train), run.canvases(run.parts.val)
    start_run(out, "finetune", settings, settings.seed, resume)
    log.info(run.transferred)
    save_subset(out / LABELLED_FILE, run.parts.train.names)
    save_subset(out / VALIDATION_FILE, run.parts.val.names)
    state = load_state(out, run.network, run.optimiser) if resume else None
    run.rows = state["rows"] if state else []
    labels = torch.from_numpy(run.parts.train.labels)
    epochs, every = settings.optim.epochs, settings.evaluate_every
    for epoch in (bar := tqdm(range(len(run.rows), epochs), "finetune", unit="epoch")):
        if _out_of_patience(run.rows, settings):
            break
        loss = run.train_epoch(train, labels, epoch)
        row = {"epoch": epoch + 1, "lr": run.optimiser.param_groups[0]["lr"], "loss": loss}
        run.rows.append(row)
        if (epoch + 1) % every and epoch + 1 != epochs:
            continue
        row |= {f"val/{name}": value for name, value in run.validate(val).items()}
        if best_row(run.rows, settings) is row:
            save_model(out, run.model())
        save_state(out, run.network, run.optimiser, {"kind": "finetune-state", "rows": run.rows})
        write_metrics(out, run.rows, _summary(run, settings, finished=False))
        bar.set_postfix(val=f"{row[f'val/{settings.select_by}'] or 0:.4f}")
    summary = _summary(run, settings, finished=True)
    write_metrics(out, run.rows, summary)
    return summary


def best_row(rows: list[dict[str, Any]], settings: FinetuneSettings) -> dict[str, Any] | None:
    """Return the validated epoch with the best figure, the earliest of equals."""
    key = f"val/{settings.select_by}"
    looked = [row for row in rows if key in row]
    return max(looked, key=lambda row: row[key] or 0.0) if looked else None


def _out_of_patience(rows: list[dict[str, Any]], settings: FinetuneSettings) -> bool:
    best = best_row(rows, settings)
    if settings.patience is None or best is None:
        return False
    looks_since = sum(f"val/{settings.select_by}" in r for r in rows if r["epoch"] > best["epoch"])
    return looks_since >= settings.patience


def _summary(run: Finetuning, settings: FinetuneSettings, finished: bool) -> dict[str, Any]:
    best = best_row(run.rows, settings) or {}
    return {
        "finished": finished,
        "labelled": len(run.parts.train),
        "validation": len(run.parts.val),
        "selected_by": settings.select_by,
        "best": best,
        "transfer": run.transferred,
    }
