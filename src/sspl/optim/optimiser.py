"""Optimisers, their parameter groups and one guarded step."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn

import torch
from torch import Tensor, nn

from sspl.distributed.group import mean_over_processes
from sspl.errors import TrainingError
from sspl.optim.optim_settings import OptimSettings

FUSED: Final = {"cpu", "cuda"}
"""Devices on which torch has updated all tensors in one pass since 2.4."""

NO_PARTS: Final[Mapping[str, Tensor]] = MappingProxyType({})
LOWER_LR: Final = "lower optim.lr or set runtime.precision=fp32"
"""What helps a stage whose loss is not a number."""


def make_optimiser(
    groups: Sequence[tuple[list[nn.Parameter], float]], settings: OptimSettings
) -> torch.optim.Optimizer:
    """Build the optimiser over (parameters, lr factor) groups.

    AdamW spares vectors (biases, BatchNorm, PReLU slopes) from weight decay; Adam decays all of
    them through the gradient, as the reference does.

    Examples:
        >>> layer = torch.nn.Linear(3, 2)
        >>> groups = [(list(layer.parameters()), 0.5)]
        >>> optimiser = make_optimiser(groups, OptimSettings(lr=0.1, weight_decay=0.05))
        >>> [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
        [(0.05, 0.05), (0.05, 0.0)]
    """
    if settings.name == "adam":
        parts = [(parameters, scale, settings.weight_decay) for parameters, scale in groups]
    else:
        parts = []
        for parameters, scale in groups:
            matrices = [p for p in parameters if p.ndim > 1]
            vectors = [p for p in parameters if p.ndim <= 1]
            parts += [(matrices, scale, settings.weight_decay), (vectors, scale, 0.0)]
    options: list[dict[str, Any]] = [
        {"params": parameters, "lr": settings.lr * scale, "lr_scale": scale, "weight_decay": decay}
        for parameters, scale, decay in parts
        if parameters
    ]
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    devices = {p.device.type for group in options for p in group["params"]}
    return kind(options, lr=settings.lr, fused=devices <= FUSED or None)


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate to `lr` times the group's own factor.

    Examples:
        >>> weight = torch.nn.Parameter(torch.ones(2, 2))
        >>> optimiser = make_optimiser([([weight], 0.5)], OptimSettings())
        >>> set_lr(optimiser, 0.2)
        >>> optimiser.param_groups[0]["lr"]
        0.1
    """
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]


def step(optimiser: torch.optim.Optimizer, loss: Tensor, clip: float, where: str) -> None:
    """Back-propagate and update; raise `TrainingError` as the two do.

    Examples:
        >>> weight = torch.nn.Parameter(torch.tensor([2.0]))
        >>> optimiser = make_optimiser([([weight], 1.0)], OptimSettings(lr=0.5, weight_decay=0))
        >>> step(optimiser, weight.square().sum(), clip=5.0, where="step 1")
        >>> round(weight.item(), 3)
        1.5
    """
    back_propagate(loss, where)
    update(optimiser, clip, where)


def back_propagate(
    loss: Tensor, where: str, parts: Mapping[str, Tensor] = NO_PARTS, remedy: str = LOWER_LR
) -> None:
    """Add to the gradients.

    Raises `TrainingError` when the loss of any process is not a number; it names those of `parts`,
    the terms of the loss, that are none here.
    """
    value = mean_over_processes(loss)
    if not torch.isfinite(value):
        bad = [name for name, part in parts.items() if not torch.isfinite(part)]
        _give_up(
            f"the loss{' of ' if bad else ''}{' and '.join(bad)} is {value.item()}", where, remedy
        )
    loss.backward()  # type: ignore[no-untyped-call]


def update(
    optimiser: torch.optim.Optimizer, clip: float, where: str, remedy: str = LOWER_LR
) -> None:
    """Take one step along the gradients, whose norm is cut to `clip` unless 0, and clear them.

    Raises `TrainingError` when the norm is not a number, before any weight has changed.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    if not torch.isfinite(norm):
        _give_up(f"the norm of the gradient is {norm.item()}", where, remedy)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _give_up(what: str, where: str, remedy: str) -> NoReturn:
    raise TrainingError(f"{what} in {where}; the last checkpoint is kept: {remedy}.")
