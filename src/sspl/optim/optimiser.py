"""Optimisers, their parameter groups and one guarded step."""

import math
from collections.abc import Mapping, Sequence
from inspect import unwrap
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sspl.distributed.group import mean_over_processes
from sspl.errors import TrainingError
from sspl.optim.optim_settings import OptimSettings

FUSED: Final = {"cpu", "cuda"}
"""Devices on which torch has updated all tensors in one pass since 2.4."""

NO_PARTS: Final[Mapping[str, Tensor]] = MappingProxyType({})
LOWER_LR: Final = "lower optim.lr or set runtime.precision=fp32"
"""What helps a stage whose loss is not a number."""


class _Uncompiled(torch.optim.Optimizer):
    """An optimiser without what torch wraps its methods in for the sake of torch's compiler.

    No optimiser is within compiled code here, and the wrapping imports the compiler, which
    would take seconds of every command that trains.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class _Adam(_Uncompiled, torch.optim.Adam):
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class _AdamW(_Uncompiled, torch.optim.AdamW):
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


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
    kind = _Adam if settings.name == "adam" else _AdamW
    devices = {p.device.type for group in options for p in group["params"]}
    return kind(options, fused=devices <= FUSED or None)


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
    guard = Guard()
    back_propagate(loss, where, guard)
    update(optimiser, clip, where, guard)


class Seen(NamedTuple):
    """A number that training came by: what it is, its value, where, and the terms of a loss."""

    what: str
    value: Tensor
    where: str
    parts: Mapping[str, Tensor] = NO_PARTS


class Guard:
    """Looks whether losses and gradients are numbers.

    Args:
        remedy: what to do where one is not.
        at_once: look at each as it comes, which has to wait for the device. Else call `look` now
            and then, and before anything is kept of what was learnt.
        scaler: of the loss, for fp16; it leaves out steps whose gradient is not a number.
    """

    def __init__(
        self, remedy: str = LOWER_LR, at_once: bool = True, scaler: GradScaler | None = None
    ) -> None:
        self.remedy, self.at_once, self.scaler = remedy, at_once, scaler
        self._seen: list[Seen] = []

    def saw(self, seen: Seen) -> None:
        """Note a number; raises as `look` where it looks at once."""
        self._seen.append(seen)
        if self.at_once:
            self.look()

    def look(self) -> None:
        """Raise `TrainingError` where a noted number is none; it names a loss's terms that are."""
        seen, self._seen = self._seen, []
        if not seen or bool(torch.stack([s.value for s in seen]).isfinite().all()):
            return
        first = next(s for s in seen if not torch.isfinite(s.value))
        bad = [name for name, part in first.parts.items() if not torch.isfinite(part)]
        raise TrainingError(
            f"{first.what}{' of ' if bad else ''}{' and '.join(bad)} is {first.value.item()} "
            f"in {first.where}; the last checkpoint is kept: {self.remedy}."
        )


def back_propagate(
    loss: Tensor, where: str, guard: Guard, parts: Mapping[str, Tensor] = NO_PARTS
) -> None:
    """Add to the gradients.

    Raises `TrainingError`, at once or later (`Guard`), when the loss of any process is not a
    number; it names those of `parts`, the terms of the loss, that are none here.
    """
    terms = {name: part.detach() for name, part in parts.items()}
    guard.saw(Seen("the loss", mean_over_processes(loss), where, terms))
    scaled = loss if guard.scaler is None else guard.scaler.scale(loss)
    scaled.backward()  # type: ignore[no-untyped-call]


def update(optimiser: torch.optim.Optimizer, clip: float, where: str, guard: Guard) -> None:
    """Take one step along the gradients, whose norm is cut to `clip` unless 0, and clear them.

    Raises `TrainingError` when the norm is not a number: on a CPU before any weight has changed,
    elsewhere later (`Guard`).
    """
    if guard.scaler is not None:
        guard.scaler.unscale_(optimiser)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    if guard.scaler is None:
        guard.saw(Seen("the norm of the gradient", norm, where))
        optimiser.step()
    else:
        guard.scaler.step(optimiser)
        guard.scaler.update()
    optimiser.zero_grad(set_to_none=True)
