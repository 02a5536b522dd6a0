"""Files of version 0.1, in the words of this one: it said trunk where this says backbone.

Weights, checkpoints, model folders and settings are translated as they are read. Where a file
already has the name of today nothing is changed, so that no content can hide another.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

V = TypeVar("V")

RENAMED: Final = {"trunk": "backbone", "trunk_weights": "backbone_weights"}
TASKS: Final = ("prt", "pst", "pct", "location", "simclr", "byol", "colourise", "masked")
"""Tasks whose settings stood beside the others; they stand below `task` now."""

_TENSOR: Final = re.compile(r"^(network\.)?trunk\.")


def renamed_tensors(tensors: Mapping[str, V]) -> dict[str, V]:
    """Return tensors of either stage, or of a checkpoint, under their names of today."""
    new = {name: _TENSOR.sub(r"\1backbone.", name) for name in tensors}
    return {name if new[name] in tensors else new[name]: t for name, t in tensors.items()}


def renamed_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, or what a file says of its weights, under the keys of today."""
    found = {
        key if RENAMED.get(key) in content else RENAMED.get(key, key): value
        for key, value in content.items()
    }
    tasks = {name: found[name] for name in TASKS if isinstance(found.get(name), Mapping)}
    if not tasks or "task" in found:
        return found
    return {key: value for key, value in found.items() if key not in tasks} | {"task": tasks}
