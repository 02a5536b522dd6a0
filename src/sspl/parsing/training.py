"""Training a face parser on few labelled pairs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from sspl.averaging import averaged_model
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
    generator_for,
    keep_freed_memory,
    pick_device,
    seed_everything,
)
from sspl.domain.taxonomy import UNKNOWN, Taxonomy
from sspl.draws import uniform
from sspl.errors import TrainingError
from sspl.metrics.tallies import Mean
from sspl.parsing.network import ParserModelSettings, ParserNetwork, resize
from sspl.schedules import warmup_cosine
from sspl.settings import Settings

STRIDE: Final = 32
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
    device: str = "auto"
    precision: Precision = "auto"


@dataclass
class ParserTraining:
    """A trained network (averaged weights, evaluation mode) and its log, one row an interval."""

    network: ParserNetwork
    log: list[dict[str, Any]]
    seconds: float


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
    loss = F.cross_entropy(logits, target, weights, ignore_index=UNKNOWN)
    loss = loss + settings.dice_weight * dice_loss(logits, target)
    for coarse in boosters:
        small = F.interpolate(target[:, None].float(), coarse.shape[2:], mode="nearest")[:, 0]
        booster = F.cross_entropy(coarse, small.long(), weights, ignore_index=UNKNOWN)
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
    images: Tensor, masks: Tensor, taxonomy: Taxonomy, settings: ParserSettings
) -> ParserTraining:
    """Train on uint8 images (n, 3, s, s) and masks (n, s, s).

    Raises `TrainingError` when the loss stops being a number.
    """
    started = time.monotonic()
    device = pick_device(settings.device)
    keep_freed_memory()
    seed_everything(settings.seed)
    network = ParserNetwork(len(taxonomy), settings.model).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = averaged_model(network, settings.ema)
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.lr, weight_decay=settings.weight_decay
    )
    weights = class_weights(masks, len(taxonomy), settings.rare_class_power).to(device)
    mirror = torch.from_numpy(taxonomy.mirror_table())
    log: list[dict[str, Any]] = []
    window = Mean()
    network.train()
    order: list[int] = []
    for step in (bar := tqdm(range(settings.steps), "train parser", unit="step")):
        generator = generator_for(settings.seed, step)
        while len(order) < settings.batch_size:
            order += torch.randperm(len(images), generator=generator).tolist()
        batch, order = order[: settings.batch_size], order[settings.batch_size :]
        geometry = draw_geometry(len(batch), settings.geometry, generator).to(device)
        view = warp_images(images[batch].to(device), geometry, settings.view)
        target = warp_masks(masks[batch].to(device), geometry, settings.view, mirror).long()
        view = degrade(jitter_colour(view, settings.colour, generator), settings, generator)
        view = normalise(view).contiguous(memory_format=torch.channels_last)
        with autocast(device, settings.precision):
            outputs = network(view)
        loss = parser_loss(outputs, target, weights, settings)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the parser's loss is {loss.item()} at step {step}; lower lr (now {settings.lr})."
            )
        lr = settings.lr * warmup_cosine((step + 1) / settings.steps, settings.warmup)
        optimiser.param_groups[0]["lr"] = lr
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(network)
        window.add(loss.item(), 1)
        if (step + 1) % 50 == 0 or step + 1 == settings.steps:
            log.append({"step": step + 1, "loss": round(window.value(), 5), "lr": lr})
            bar.set_postfix(loss=f"{window.value():.3f}")
            window = Mean()
    trained = average.module
    assert isinstance(trained, ParserNetwork)
    return ParserTraining(trained.eval(), log, time.monotonic() - started)


@torch.inference_mode()
def parse(
    network: ParserNetwork, images: Tensor, device: torch.device, precision: Precision,
    mirror: Tensor | None = None, scales: Sequence[float] = AVERAGED_SCALES,
) -> Tensor:  # fmt: skip
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
