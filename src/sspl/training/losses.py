"""Losses of stage 2 over attributes with missing labels."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sspl.data.records import MISSING
from sspl.device import places_on
from sspl.distributed.group import mean_over_known
from sspl.training.loss_settings import LossSettings


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy averaged over known labels.

    `logits` float (n, a); `labels` (n, a) of 1, 0 and `MISSING`, or float with probabilities in
    their place, as those of a teacher. A missing label, MAAD's
    "undefined" among them, has no part in the loss (docs/method.md#do-not-repeat-10). Without any
    known label the loss is 0.

    Examples:
        >>> logits, labels = torch.zeros(1, 2), torch.tensor([[1, MISSING]], dtype=torch.int8)
        >>> round(masked_bce(logits, labels).item(), 3)
        0.693
    """
    losses = F.binary_cross_entropy_with_logits(logits, _truth(labels), reduction="none")
    return mean_over_known(losses, labels != MISSING)


def _truth(labels: Tensor) -> Tensor:
    return labels.clamp(min=0).float()


def asymmetric_losses(logits: Tensor, truth: Tensor, settings: LossSettings) -> Tensor:
    """Return float (n, a): focal terms, each side with a power of its own, negatives shifted."""
    probability = logits.sigmoid()
    shifted = (probability - settings.margin).clamp(min=0)
    positive = -F.logsigmoid(logits) * (1 - probability) ** settings.gamma_positive
    negative = -torch.log1p(-shifted.clamp(max=1 - 1e-6)) * shifted**settings.gamma_negative
    return torch.where(truth > 0.5, positive, negative)


def bootstrap_losses(logits: Tensor, truth: Tensor, settings: LossSettings) -> Tensor:
    """Return float (n, a): cross-entropy to a mixture of the label and the network's opinion."""
    target = settings.belief * truth + (1 - settings.belief) * logits.detach().sigmoid()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def attribute_loss(
    logits: Tensor,
    labels: Tensor,
    log_odds: Tensor,
    settings: LossSettings,
    groups: Iterable[Sequence[int]] = (),
) -> Tensor:
    """Return the loss that the settings name, averaged over known labels.

    With `groups` it is the sum of the groups' averages, as the reference has it for the attributes
    of each region.

    Args:
        logits: float (n, a).
        labels: (n, a) as in `masked_bce`.
        log_odds: float (a,), log-odds of each attribute's share among the labelled faces.
        settings: which loss.
        groups: places of the attributes that are averaged together; all at once unless given.

    Examples:
        >>> logits, labels = torch.zeros(1, 2), torch.tensor([[1, 0]], dtype=torch.int8)
        >>> loss = attribute_loss(logits, labels, torch.zeros(2), LossSettings(name="bce"))
        >>> round(loss.item(), 3)
        0.693
    """
    if parts := [places_on(tuple(group), logits.device) for group in groups]:
        averages = [
            attribute_loss(logits[:, part], labels[:, part], log_odds[part], settings)
            for part in parts
        ]
        return torch.stack(averages).sum()
    if settings.name == "bce":
        return masked_bce(logits, labels)
    if settings.name == "logit_adjusted":
        return masked_bce(logits + settings.adjustment * log_odds, labels)
    losses = asymmetric_losses if settings.name == "asymmetric" else bootstrap_losses
    return mean_over_known(losses(logits, _truth(labels), settings), labels != MISSING)
