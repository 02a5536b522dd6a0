"""The state of a run under way, as one safetensors file, so that it resumes to the same result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.weights import load_strictly, load_tensors, save_tensors

STATE_FILE: Final = "state.safetensors"


def save_state(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Write network, optimiser and JSON-able facts atomically."""
    tensors: dict[str, Tensor] = {f"network.{k}": v for k, v in network.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in slots.items()}
    save_tensors(folder / STATE_FILE, tensors, facts)


def load_state(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restore network and optimiser; return the facts, or None when nothing was saved yet."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    tensors, facts = load_tensors(path)
    slots: dict[int, dict[str, Tensor]] = {}
    weights = {}
    for name, tensor in tensors.items():
        kind, rest = name.split(".", 1)
        if kind == "network":
            weights[rest] = tensor
        else:
            index, slot = rest.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
    load_strictly(network, weights, str(path))
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": slots, "param_groups": groups})
    return facts
