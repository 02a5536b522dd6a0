"""The state of a run under way, as one safetensors file, so that it resumes to the same result."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.errors import DataError
from sspl.io.run_files import PREVIOUS_FILE, STATE_FILE, has_state
from sspl.io.weights import load_strictly, load_tensors, save_tensors

log = logging.getLogger(__name__)

Learner = tuple[nn.Module, torch.optim.Optimizer]
NOBODY: Final[Mapping[str, Learner]] = {}


def save_state(
    folder: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    metadata: Mapping[str, Any],
    others: Mapping[str, Learner] = NOBODY,
) -> None:
    """Write network, optimiser and JSON-able metadata atomically; keep the state before as well.

    `metadata` has the log of the run, a list of rows, under `rows`.
    `others` are networks beside it with optimisers of their own, by a name without a dot.
    """
    tensors = _tensors(network, optimiser)
    for name, (module, own_optimiser) in others.items():
        tensors |= {f"{name}.{k}": v for k, v in _tensors(module, own_optimiser).items()}
    save_tensors(folder / STATE_FILE, tensors, metadata, previous=folder / PREVIOUS_FILE)


def load_state(
    folder: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    others: Mapping[str, Learner] = NOBODY,
) -> dict[str, Any] | None:
    """Restore what `save_state` wrote; return the metadata, or None when nothing was saved yet.

    Where the newest state is damaged or missing, the one before is taken and the log says so.
    Raises `DataError` when both are damaged, or the state is that of another network.
    """
    found = _newest(folder)
    if found is None:
        return None
    path, tensors, metadata = found
    for name, (module, own_optimiser) in others.items():
        prefix = f"{name}."
        mine = {n: tensors.pop(n) for n in list(tensors) if n.startswith(prefix)}
        own = {n.removeprefix(prefix): t for n, t in mine.items()}
        _restore(module, own_optimiser, own, f"{path} ({name})")
    _restore(network, optimiser, tensors, str(path))
    return metadata


def _newest(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]] | None:
    files = [folder / name for name in (STATE_FILE, PREVIOUS_FILE)]
    problems: list[str] = []
    for path in files:
        try:
            tensors, metadata = load_tensors(path)
            _check_rows(path, metadata)
        except DataError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("%s Going on from the checkpoint before it, %s.", problems[0], path.name)
            # Else the next state would keep the damaged one beside itself, and drop this.
            path.replace(files[0])
        return path, tensors, metadata
    if not has_state(folder):
        return None
    raise DataError(f"{problems[0]} The checkpoint before it is of no use either; start again.")


def _check_rows(path: Path, metadata: Mapping[str, Any]) -> None:
    rows = metadata.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: damaged checkpoint (it holds no log of its run).")


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
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "network":
            weights[rest] = tensor
            continue
        index, _, slot = rest.partition(".")
        if kind != "optimiser" or not (index.isdecimal() and int(index) < len(parameters)):
            raise DataError(f"{where}: tensor '{name}' has no place in this run.")
        if tensor.ndim and tensor.shape != parameters[int(index)].shape:
            raise DataError(
                f"{where}: tensor '{name}' has shape {tuple(tensor.shape)}, "
                f"its parameter has {tuple(parameters[int(index)].shape)}."
            )
        slots.setdefault(int(index), {})[slot] = tensor
    load_strictly(network, weights, where)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": slots, "param_groups": groups})
    # A fused optimiser pairs numbers by their place in memory, and a file knows one order alone.
    for parameter, kept in optimiser.state.items():
        for name, value in kept.items():
            if value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
