"""Weights on disk: safetensors only, checked strictly, with the facts about them in JSON."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sspl.errors import DataError
from sspl.files import atomic_path


@dataclass(frozen=True)
class TransferReport:
    """Names of the tensors that were loaded, left behind and newly initialised."""

    loaded: tuple[str, ...]
    left: tuple[str, ...]
    new: tuple[str, ...]

    def text(self) -> str:
        """Return the report with tensors counted by their module."""
        lines = []
        for title, names in (
            ("transferred", self.loaded),
            ("left behind", self.left),
            ("new", self.new),
        ):
            modules = Counter(".".join(n.split(".")[:2]) for n in names)
            parts = ", ".join(f"{m} ({c})" for m, c in modules.items()) or "nothing"
            lines.append(f"{title}: {len(names)} tensors: {parts}")
        return "\n".join(lines)


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None
) -> None:
    """Write tensors and JSON-able `facts`, if any, atomically to one safetensors file."""
    metadata = {"format": "pt"} if facts is None else {"sspl": json.dumps(facts)}
    with atomic_path(path) as temporary:
        contiguous = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        try:
            save_file(contiguous, temporary, metadata)
        except SafetensorError as error:
            # safetensors wraps the operating system's error, a full disk say, in its own.
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file that `save_tensors` wrote.

    Raises `DataError` when the file is missing, damaged or was not written by this software.
    """
    tensors, facts = read_tensors(path)
    if not isinstance(facts, dict):
        raise DataError(f"{path}: not a model of this software; it carries no 'sspl' facts.")
    return tensors, facts


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of any safetensors file, and its facts, None where it has none.

    Raises `DataError` when the file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; give the folder of a finished run.")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("sspl", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged model file ({error}).") from None
    return tensors, facts


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict that must fit name by name and shape by shape.

    Raises `DataError` naming the first tensor that is missing, unexpected or of another shape.
    """
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise DataError(f"{where}: tensor '{name}' is missing.")
        if name not in wanted:
            raise DataError(f"{where}: tensor '{name}' has no place in this network.")
        if wanted[name].shape != tensors[name].shape:
            raise DataError(
                f"{where}: tensor '{name}' has shape {tuple(tensors[name].shape)}, "
                f"the network wants {tuple(wanted[name].shape)}."
            )
    module.load_state_dict(dict(tensors))
