"""The state of a run under way, as one safetensors file, so that it resumes to the same result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.weights import load_strictly, load_tensors, save_tensors

STATE_FILE: Final = "state.safetensors"

Learner = tuple[nn.Module, torch.optim.Optimizer]
NOBODY: Final[Mapping[str, Learner]] = {}


def save_state(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, facts: Mapping[str, Any],
    others: Mapping[str, Learner] = NOBODY,
) -> None:  # fmt: skip
    """Write network, optimiser and JSON-able facts atomically.

    `others` are networks beside it with optimisers of their own, by a name without a dot.
    """
    tensors = _tensors(network, optimiser)
    for name, (module, own_optimiser) in others.items():
        tensors |= {f"{name}.{k}": v for k, v in _tensors(module, own_optimiser).items()}
    save_tensors(folder / STATE_FILE, tensors, facts)


def load_state(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer,
    others: Mapping[str, Learner] = NOBODY,
) -> dict[str, Any] | None:  # fmt: skip
    """Restore what `save_state` wrote; return the facts, or None when nothing was saved yet."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    tensors, facts = load_tensors(path)
    for name, (module, own_optimiser) in others.items():
        prefix = f"{name}."
        mine = {n: tensors.pop(n) for n in list(tensors) if n.startswith(prefix)}
        own = {n.removeprefix(prefix): t for n, t in mine.items()}
        _restore(module, own_optimiser, own, f"{path} ({name})")
    _restore(network, optimiser, tensors, str(path))
    return facts


def _tensors(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {f"network.{k}": v for k, v in network.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in slots.items()}
    return tensors


def _restore(
    network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], where: str
) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    weights = {}
    for name, tensor in tensors.items():
        kind, rest = name.split(".", 1)
        if kind == "network":
            weights[rest] = tensor
        else:
            index, slot = rest.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
    load_strictly(network, weights, where)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": slots, "param_groups": groups})
