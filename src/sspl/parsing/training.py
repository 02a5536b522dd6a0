"""Training a face parser on few labelled pairs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sspl.data.transforms import (
    ColourSettings,
    GeometrySettings,
    draw_geometry,
    jitter_colour,
    normalise,
    warp_images,
    warp_masks,
)
from sspl.device import (
    Precision,
    autocast,
    drawn_state,
    generator_for,
    keep_freed_memory,
    pick_device,
    restore_draws,
    seed_everything,
)
from sspl.distributed.random import uniform
from sspl.domain.taxonomy import UNKNOWN, Taxonomy
from sspl.errors import DataError, TrainingError
from sspl.io.checkpoints import load_state, save_state
from sspl.io.progress import note, watched
from sspl.metrics.tallies import Mean
from sspl.optim.averaging import averaged_model
from sspl.optim.schedules import warmup_cosine
from sspl.parsing.network import ParserModelSettings, ParserNetwork, resize
from sspl.settings import Settings

STRIDE: Final = 32
LOG_EVERY: Final = 50
AVERAGED_SCALES: Final = (0.75, 1.0)
"""Sizes of the picture over which a parser's logits are averaged."""


class ParserSettings(Settings):
    """How a parser is trained."""

    seed: int = Field(0, ge=0)
    taxonomy: str = "celebamask19"
    pairs: int | None = Field(None, ge=1, description="training pairs to use; all when empty")
    size: int = Field(256, ge=64, le=1024, multiple_of=32, description="canvas side in px")
    view: int = Field(192, ge=32, le=1024, multiple_of=32, description="training view in px")
    steps: int = Field(5400, ge=1)
    batch_size: int = Field(16, ge=2)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps that warm up")
    ema: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights")
    booster_weight: float = Field(0.2, ge=0)
    dice_weight: float = Field(1.0, ge=0)
    rare_class_power: float = Field(0.1, ge=0, le=1, description="0 weighs all classes alike")
    model: ParserModelSettings = ParserModelSettings()
    geometry: GeometrySettings = GeometrySettings(scale=(0.7, 1.25), rotation=20)
    colour: ColourSettings = ColourSettings(
        brightness=0.4, contrast=0.4, saturation=0.4, cast=0.1, grey=0.1
    )
    degrade: float = Field(0.4, ge=0, le=1, description="chance of a low-resolution view")
    noise: float = Field(8.0, ge=0, description="largest standard deviation, grey levels")
    save_every: int = Field(200, ge=1, description="steps between saves; the end is always saved")
    device: str = "auto"
    precision: Precision = "auto"


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
    keep_freed_memory()
    seed_everything(settings.seed)
    run = _Run(settings, taxonomy, masks)
    resumed = resume and run.restore(out)
    steps = range(run.step, settings.steps)
    for _ in (bar := watched(steps, "train parser", settings.steps, unit="step", initial=run.step)):
        run.learn(images, masks)
        if run.step % LOG_EVERY == 0 or run.step == settings.steps:
            loss = run.note()
            bar.set_postfix(loss=f"{loss:.3f}")
            note("step", run.step, settings.steps, {"loss": loss})
        if run.step % settings.save_every == 0 or run.step == settings.steps:
            run.save(out)
    trained = run.average.module
    assert isinstance(trained, ParserNetwork)
    return ParserTraining(trained.eval(), run.rows, None if resumed else time.monotonic() - started)


class _Run:
    """A parser that learns: the networks and how far it has come."""

    def __init__(self, settings: ParserSettings, taxonomy: Taxonomy, masks: Tensor) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        network = ParserNetwork(len(taxonomy), settings.model).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = averaged_model(self.network, settings.ema)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.lr, weight_decay=settings.weight_decay
        )
        weights = class_weights(masks, len(taxonomy), settings.rare_class_power)
        self.weights = weights.to(self.device)
        self.mirror = torch.from_numpy(taxonomy.mirror_table())
        self.pairs = len(masks)
        self.rows: list[dict[str, Any]] = []
        self.window = Mean()
        self.step = 0
        self.order: list[int] = []
        self.network.train()

    def learn(self, images: Tensor, masks: Tensor) -> None:
        """Take one step on the next pairs of a random order."""
        settings = self.settings
        generator = generator_for(settings.seed, self.step)
        while len(self.order) < settings.batch_size:
            self.order += torch.randperm(len(images), generator=generator).tolist()
        batch, self.order = self.order[: settings.batch_size], self.order[settings.batch_size :]
        geometry = draw_geometry(len(batch), settings.geometry, generator).to(self.device)
        view = warp_images(images[batch].to(self.device), geometry, settings.view)
        target = warp_masks(masks[batch].to(self.device), geometry, settings.view, self.mirror)
        view = degrade(jitter_colour(view, settings.colour, generator), settings, generator)
        view = normalise(view).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, settings.precision):
            outputs = self.network(view)
        loss = parser_loss(outputs, target.long(), self.weights, settings)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the parser's loss is {loss.item()} at step {self.step}; "
                f"lower lr (now {settings.lr})."
            )
        factor = warmup_cosine((self.step + 1) / settings.steps, settings.warmup)
        self.optimiser.param_groups[0]["lr"] = settings.lr * factor
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.window.add(loss.item(), 1)
        self.step += 1

    def note(self) -> float:
        """Log the mean loss since the last time, and return it."""
        loss, self.window = self.window.value(), Mean()
        lr = self.optimiser.param_groups[0]["lr"]
        self.rows.append({"step": self.step, "loss": round(loss, 5), "lr": lr})
        return loss

    def save(self, out: Path) -> None:
        """Write the state; beside the networks that is the order, and where Dropout's draws are."""
        metadata = {
            "kind": "parser-state", "rows": self.rows, "step": self.step, "pairs": self.pairs,
            "order": self.order, "window": self.window.metadata(),
            "draws": drawn_state(self.device),
        }  # fmt: skip
        save_state(out, self._networks(), self.optimiser, metadata)

    def restore(self, out: Path) -> bool:
        """Go back to where the run was when it last saved its state; tell whether it had.

        Raises `DataError` when it was learning from another number of pairs.
        """
        metadata = load_state(out, self._networks(), self.optimiser)
        if metadata is None:
            return False
        if metadata["pairs"] != self.pairs:
            raise DataError(
                f"{out} was started with {metadata['pairs']} training pairs, and there are "
                f"{self.pairs} now; resume with the same ones or choose another --out."
            )
        self.rows, self.step, self.order = metadata["rows"], metadata["step"], metadata["order"]
        self.window = Mean(**metadata["window"])
        restore_draws(self.device, metadata["draws"])
        return True

    def _networks(self) -> nn.Module:
        return nn.ModuleDict({"network": self.network, "average": self.average})


@torch.inference_mode()
def parse(
    network: ParserNetwork,
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


def _logits(network: ParserNetwork, view: Tensor, precision: Precision) -> Tensor:
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
