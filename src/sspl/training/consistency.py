"""Unlabelled faces in stage 2: what a slow teacher is sure of, the network must see too.

Beyond the paper, after FixMatch (Sohn et al., NeurIPS 2020) and Mean Teacher (Tarvainen and
Valpola, NeurIPS 2017), attribute by attribute.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sspl.data.canvases import CanvasBatch, Canvases
from sspl.data.transforms import random_view
from sspl.distributed.group import mean_over_known, process_count, process_rank
from sspl.distributed.random import sent, turn_to, uniform
from sspl.distributed.sampler import MicroBatches, RankSampler
from sspl.training.loss_settings import ConsistencySettings


def erase(views: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Return views float (n, c, s, s) with one square each set to 0, the middle grey.

    Its side is drawn up to `largest` times s, its centre anywhere.
    """
    n, size = len(views), views.shape[-1]
    half = uniform(generator, (n, 1), 0, largest * size) / 2
    centre = uniform(generator, (n, 2), 0, size)
    reach = torch.arange(size) + 0.5
    rows = (reach - centre[:, :1]).abs() < half
    columns = (reach - centre[:, 1:]).abs() < half
    inside = sent(rows[:, :, None] & columns[:, None, :], views.device)
    return views.masked_fill(inside[:, None], 0.0)


def consistency_loss(logits: Tensor, teacher: Tensor, threshold: float, soft: bool) -> Tensor:
    """Return the cross-entropy to the teacher where the teacher is sure, averaged over it.

    `logits` float (n, a) of the network; `teacher` float (n, a) probabilities.
    """
    sure = (teacher >= threshold) | (teacher <= 1 - threshold)
    target = teacher if soft else (teacher >= 0.5).float()
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return mean_over_known(losses, sure)


def seen_rows(
    micro: MicroBatches, unlabelled: "UnlabelledFaces | None", part: int
) -> tuple[list[int], int]:
    """Return this process's rows of a part, and how many a step has: unlabelled faces come last."""
    rows = list(range(micro.batch)[micro.rows(part)])
    if unlabelled is None:
        return rows, micro.batch
    more = unlabelled.micro
    places = range(micro.batch, micro.batch + more.batch)
    return rows + list(places[more.rows(part)]), places.stop


class UnlabelledFaces:
    """An endless stream of unlabelled faces in two views."""

    def __init__(
        self,
        canvases: Canvases,
        settings: ConsistencySettings,
        input_size: int,
        batch_size: int,
        parts: int = 1,
    ) -> None:
        """Take `settings.ratio` faces for each of the `batch_size` labelled ones of a step."""
        self.canvases, self.settings = canvases, settings
        self.input_size = input_size
        self.batch_size = batch_size * settings.ratio
        self.micro = MicroBatches(self.batch_size, parts, process_rank(), process_count())

    def batches(self, steps: int, generator: torch.Generator) -> Iterator[CanvasBatch]:
        """Return this process's canvases for each part of `steps` steps.

        Every round through the faces has an order of its own.
        """
        order: list[int] = []
        while (missing := steps * self.batch_size - len(order)) > 0:
            order += self.canvases.random_order(generator)[:missing]
        own = RankSampler(order, self.micro)
        return self.canvases.batches(own, self.micro.size)

    def strong(self, canvas: Tensor, generator: torch.Generator, part: int = 0) -> Tensor:
        """Return what the network sees in a part of a step, float (n, 3, s, s) in [-1, 1]."""
        settings = self.settings
        turn_to(generator, self.micro.rows(part), self.micro.batch)
        view = random_view(canvas, settings.geometry, settings.colour, self.input_size, generator)
        return erase(view, settings.erase, generator)

    def weight(self, epoch: int, progress_in_epoch: float) -> float:
        """Return the loss weight in a 0-based epoch; it rises linearly over `ramp_epochs`."""
        ramp = self.settings.ramp_epochs
        done = 1.0 if ramp == 0 else min(1.0, (epoch + progress_in_epoch) / ramp)
        return self.settings.weight * done
