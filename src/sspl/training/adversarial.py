"""The adversarial term of `splnet` in stage 1 (docs/method.md#the-two-architectures).

It asks the fused feature of upper, middle and lower face (`models.branches.Fusion`) to look like
the whole face's.
"""

from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sspl.distributed.group import for_all_processes
from sspl.domain.regions import WHOLE
from sspl.metrics.tallies import Mean
from sspl.tasks.base import TaskResult
from sspl.training.loss_settings import AdversarialSettings

HIDDEN: Final = (64, 128, 256)
SLOPE: Final = 0.05
FUSED: Final = "fused"
"""Key of the fused feature, beside `WHOLE`."""


def build_discriminator(features: int) -> nn.Sequential:
    """Build the perceptron (n, features) to (n, 1); positive logits mean "whole face"."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((features, *HIDDEN), HIDDEN, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))


class Adversary:
    """Discriminator and its own optimiser, no part of the network that is pre-trained."""

    def __init__(self, settings: AdversarialSettings, features: int, device: torch.device) -> None:
        self.settings = settings
        self.discriminator = build_discriminator(features).to(device)
        self.engine: nn.Module = self.discriminator
        self.optimiser = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=device.type == "cuda" or None,
        )

    @property
    def learner(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The discriminator and its optimiser, for the checkpoint."""
        return self.discriminator, self.optimiser

    def start(self) -> None:
        """Bind the discriminators of all processes together."""
        self.engine = for_all_processes(self.discriminator)

    def term(self, features: Mapping[str, Tensor]) -> TaskResult:
        """Return the network's loss, which leaves the discriminator's gradients alone.

        `features` are float32 (n, c), that of the whole face and the fused one. Metric
        `discriminator_accuracy`: the share of the discriminator's verdicts that are right, 0.5
        where the features look alike to it.
        """
        weights = {n: p.detach() for n, p in self.discriminator.named_parameters()}
        verdict = functional_call(self.discriminator, weights, (features[FUSED],))
        loss = F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))
        with torch.no_grad():
            right = (verdict <= 0).sum() + (self.discriminator(features[WHOLE]) > 0).sum()
        return TaskResult(loss, {"discriminator_accuracy": Mean(right, 2.0 * len(verdict))})

    def learn(self, features: Mapping[str, Tensor], step: int) -> None:
        """Update the discriminator, on every few steps of an epoch (`step` counts from 0).

        It sees detached features: its loss never reaches the network
        (docs/method.md#do-not-repeat-11).
        """
        if step % self.settings.every:
            return
        whole, parts = features[WHOLE].detach(), features[FUSED].detach()
        verdict = self.engine(torch.cat([whole, parts]))
        truth = torch.cat([verdict.new_ones(len(whole), 1), verdict.new_zeros(len(parts), 1)])
        self.optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(verdict, truth)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
