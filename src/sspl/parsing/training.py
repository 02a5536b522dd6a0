"""Training a face parser on few labelled pairs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sspl.data.transforms import draw_geometry, jitter_colour, normalise, warp_images, warp_masks
from sspl.device import autocast, drawn_state, generator_for, loss_scaler, restore_draws
from sspl.distributed.random import uniform
from sspl.distributed.sampler import MicroBatches
from sspl.domain.taxonomy import UNKNOWN, Taxonomy
from sspl.errors import DataError
from sspl.io.progress import note
from sspl.metrics.tallies import Mean
from sspl.optim.averaging import averaged_model
from sspl.optim.schedules import warmup_cosine
from sspl.parsing.network import ParserNetwork, resize
from sspl.parsing.parser_settings import ParserSettings
from sspl.settings import Precision
from sspl.training.loop import Epoch, LogRow, Loop, Losses, Place, Stage, begin

STRIDE: Final = 32
LOG_EVERY: Final = 50
AVERAGED_SCALES: Final = (0.75, 1.0)
"""Sizes of the picture over which a parser's logits are averaged."""


@dataclass
class ParserTraining:
    """A trained network (averaged weights, evaluation mode) and its log, one row an interval.

    `seconds` is None for a run that was interrupted in between.
    """

    network: ParserNetwork
    log: list[dict[str, Any]]
    seconds: float | None


def class_weights(masks: Tensor, classes: int, power: float) -> Tensor:
    """Return float32 (classes,): (median frequency / frequency) ** power, within 0.2 to 5.

    Classes that never occur weigh 1. `masks` is uint8 (n, h, w).
    """
    counts = torch.bincount(masks.flatten().long(), minlength=256)[:classes].float()
    present = counts > 0
    median = counts[present].median()
    weights = (median / counts.clamp(min=1)) ** power
    return torch.where(present, weights.clamp(0.2, 5), torch.ones(()))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft Dice, averaged over the classes that occur in the batch.

    `logits` float (n, c, h, w); `target` int64 (n, h, w), `UNKNOWN` left out.
    """
    known = target != UNKNOWN
    probability = logits.softmax(1) * known[:, None]
    ids = torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1)
    truth = (target[:, None] == ids).to(logits.dtype)
    overlap = (probability * truth).sum((0, 2, 3))
    size = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    loss = (1 - (2 * overlap + 1) / (size + 1)) * present
    return loss.sum() / present.sum().clamp(min=1)


def known_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the cross-entropy over known pixels; 0 where none is known.

    `logits` float (n, c, h, w); `target` int64 (n, h, w), `UNKNOWN` left out.
    """
    if not (target != UNKNOWN).any():
        return 0 * logits.sum()
    return F.cross_entropy(logits, target, weights, ignore_index=UNKNOWN)


def parser_loss(
    outputs: list[Tensor], target: Tensor, weights: Tensor, settings: ParserSettings
) -> Tensor:
    """Weighted cross-entropy plus Dice on the main head, cross-entropy on the boosters.

    The target is taken at half the view's resolution, twice the main head's: at full
    resolution the loss alone would cost more than the network on a CPU.
    """
    first, *boosters = [output.float() for output in outputs]
    target = target[:, ::2, ::2]
    logits = resize(first, target.shape[1:])
    loss = known_cross_entropy(logits, target, weights)
    loss = loss + settings.dice_weight * dice_loss(logits, target)
    for coarse in boosters:
        small = F.interpolate(target[:, None].float(), coarse.shape[2:], mode="nearest")[:, 0]
        booster = known_cross_entropy(coarse, small.long(), weights)
        loss = loss + settings.booster_weight * booster
    return loss


def degrade(images: Tensor, settings: ParserSettings, generator: torch.Generator) -> Tensor:
    """Lower the resolution of some views by 1.3 to 5 times and add noise to all."""
    size = images.shape[-1]
    chosen = torch.rand(len(images), generator=generator) < settings.degrade
    shrink = uniform(generator, (len(images),), 1.3, 5.0)
    degraded = images.clone()
    for i in chosen.nonzero().flatten().tolist():
        small = max(8, round(size / float(shrink[i])))
        low = F.interpolate(images[i : i + 1], (small, small), mode="bilinear", antialias=True)
        degraded[i] = resize(low, (size, size))[0]
    amount = uniform(generator, (len(images), 1, 1, 1), 0, settings.noise)
    noise = torch.randn(images.shape, generator=generator) * amount
    return (degraded + noise.to(images.device)).clamp(0, 255)


def train_parser(
    images: Tensor,
    masks: Tensor,
    taxonomy: Taxonomy,
    settings: ParserSettings,
    out: Path,
    resume: bool = False,
) -> ParserTraining:
    """Train on uint8 images (n, 3, s, s) and masks (n, s, s); keep the state in the folder `out`.

    A run that was interrupted and resumed ends with the same weights. Raises `TrainingError` when
    the loss stops being a number.
    """
    started = time.monotonic()
    run = _ParserStage(images, masks, taxonomy, settings, out)
    loop = Loop(run, out)
    resumed = resume and loop.restore()
    log = loop.run()
    trained = run.average.module
    assert isinstance(trained, ParserNetwork)
    return ParserTraining(trained.eval(), log, None if resumed else time.monotonic() - started)


class PairBatch(NamedTuple):
    """Places of the pairs of a step, and what draws their views."""

    places: list[int]
    generator: torch.Generator


class _ParserStage(Stage[PairBatch]):
    """A parser that learns; its epochs are intervals of the log."""

    kind = "parser"
    clip = 5.0

    def __init__(
        self,
        images: Tensor,
        masks: Tensor,
        taxonomy: Taxonomy,
        settings: ParserSettings,
        out: Path,
    ) -> None:
        self.settings, self.images, self.masks, self.out = settings, images, masks, out
        self.epochs = -(-settings.steps // LOG_EVERY)
        self.remedy = f"lower lr (now {settings.lr})"
        self.device = begin(settings.device, settings.seed, settings.precision)
        self.scaler = loss_scaler(self.device, settings.precision)
        self.network = ParserNetwork(len(taxonomy), settings.model)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.engine: nn.Module = self.network
        self.average = averaged_model(self.network, settings.ema)
        groups = [{"params": list(self.network.parameters()), "lr_scale": 1.0}]
        self.optimiser = torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay)
        weights = class_weights(masks, len(taxonomy), settings.rare_class_power)
        self.class_weights = weights.to(self.device)
        self.mirror = torch.from_numpy(taxonomy.mirror_table()).to(self.device)
        self.order: list[int] = []

    def weights(self) -> nn.Module:
        """Return the network and its averaged copy."""
        return nn.ModuleDict({"network": self.network, "average": self.average})

    def epoch(self, epoch: int, done: int) -> Epoch[PairBatch]:
        """Return the steps up to the next row of the log."""
        first = epoch * LOG_EVERY
        end = min(first + LOG_EVERY, self.settings.steps)
        self.network.train()
        return Epoch(
            [MicroBatches(self.settings.batch_size)] * (end - first),
            map(self._batch, range(first + done, end)),
        )

    def _batch(self, step: int) -> PairBatch:
        """Return the next pairs of a random order."""
        size, generator = self.settings.batch_size, generator_for(self.settings.seed, step)
        while len(self.order) < size:
            self.order += torch.randperm(len(self.images), generator=generator).tolist()
        places, self.order = self.order[:size], self.order[size:]
        return PairBatch(places, generator)

    def lr(self, place: Place) -> float:
        """Return the learning rate of a step: a warm-up, then half a cosine."""
        settings = self.settings
        done = (_step(place) + 1) / settings.steps
        return settings.lr * warmup_cosine(done, settings.warmup)

    def losses(self, batch: PairBatch, place: Place) -> Losses:
        """Return the loss of some pairs, each in one random view."""
        settings, (places, generator) = self.settings, batch
        geometry = draw_geometry(len(places), settings.geometry, generator).to(self.device)
        view = warp_images(self.images[places].to(self.device), geometry, settings.view)
        masks = self.masks[places].to(self.device)
        target = warp_masks(masks, geometry, settings.view, self.mirror)
        view = degrade(jitter_colour(view, settings.colour, generator), settings, generator)
        view = normalise(view).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, settings.precision):
            outputs = self.engine(view)
        loss = parser_loss(outputs, target.long(), self.class_weights, settings)
        return Losses(loss, {"loss": Mean.of(loss, 1)})

    def stepped(self, place: Place) -> None:
        """Let the averaged copy follow."""
        self.average.update_parameters(self.network)

    def where(self, place: Place) -> str:
        """Name a step by its number in the whole run."""
        return f"step {_step(place) + 1}"

    def saves(self, place: Place) -> bool:
        """Save every few steps."""
        return (_step(place) + 1) % self.settings.save_every == 0

    def row(self, epoch: int, figures: Mapping[str, float | None]) -> LogRow:
        """Return the mean loss since the row before."""
        step = min((epoch + 1) * LOG_EVERY, self.settings.steps)
        row = super().row(epoch, figures)
        return {"step": step, "loss": round(row["loss"], 5), "lr": row["lr"]}

    def judge(self, rows: Sequence[LogRow], out: Path) -> bool:
        """Save at the end, and where a save falls on the end of an interval."""
        step: int = rows[-1]["step"]
        return step % self.settings.save_every == 0 or step == self.settings.steps

    def told(self, row: LogRow, left: str) -> None:
        """Say the loss."""
        note("step", row["step"], self.settings.steps, {"loss": row["loss"]}, left)

    def memory(self) -> LogRow:
        """Return the pairs to come, and where Dropout's draws are."""
        draws = drawn_state(self.device)
        return {"pairs": len(self.images), "order": self.order, "draws": draws}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take back what `memory` gave; raise `DataError` when that was of other pairs."""
        if memory["pairs"] != len(self.images):
            raise DataError(
                f"{self.out} was started with {memory['pairs']} training pairs, and there are "
                f"{len(self.images)} now; resume with the same ones or choose another --out."
            )
        self.order = memory["order"]
        restore_draws(self.device, memory["draws"])


def _step(place: Place) -> int:
    """Return the 0-based number of a step in the whole run."""
    return place.epoch * LOG_EVERY + place.step


@torch.inference_mode()
def parse(
    network: nn.Module,
    images: Tensor,
    device: torch.device,
    precision: Precision,
    mirror: Tensor | None = None,
    scales: Sequence[float] = AVERAGED_SCALES,
) -> Tensor:
    """Map [0, 255] images (n, 3, h, w), sides multiples of 32, to logits (n, c, h, w).

    With `mirror` (int64 (c,), class ids after a left-right flip) the logits are the mean over
    the picture and its mirrored self, each at the `scales` of its size.
    """
    view = normalise(images.float()).to(device, memory_format=torch.channels_last)
    size = images.shape[2:]
    if mirror is None:
        return resize(_logits(network, view, precision), size)
    total = torch.zeros((), device=device)
    for scale in scales:
        scaled = view if scale == 1 else resize_antialiased(view, scaled_size(size, scale))
        plain = _logits(network, scaled, precision)
        mirrored = _logits(network, scaled.flip(3), precision).flip(3)[:, mirror]
        total = total + resize(plain + mirrored, size)
    return total / (2 * len(scales))


def _logits(network: nn.Module, view: Tensor, precision: Precision) -> Tensor:
    with autocast(view.device, precision):
        logits: Tensor = network(view)[0]
    return logits.float()


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Return height and width times `scale`, rounded to multiples of 32, at least 32."""
    height, width = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in size)
    return height, width


def resize_antialiased(view: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (n, c, h, w) bilinearly, averaging where it shrinks."""
    small = F.interpolate(view, size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


def mirror_ids(taxonomy: Taxonomy) -> Tensor:
    """Return int64 (classes,): each class's id after a left-right flip."""
    return torch.from_numpy(taxonomy.mirror_table()[: len(taxonomy)]).long()
