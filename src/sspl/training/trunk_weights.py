"""A trunk that starts from a file of weights that the user brings."""

from pathlib import Path
from typing import Final

from torch import Tensor

from sspl.errors import DataError
from sspl.models.timm_trunk import plain_name
from sspl.models.trunk import Trunk
from sspl.training.starts import weights_file
from sspl.weights import TransferReport, load_strictly, read_tensors

RUN_PREFIX: Final = "trunk."
"""What trunk tensors are called in files that this software wrote, before their own names."""


def load_trunk(trunk: Trunk, path: Path) -> TransferReport:
    """Load every tensor of the trunk from a safetensors file, in place.

    `path` may be the folder of a run or model. The file may come from either stage of this
    software, or hold a state dict with the names of the timm model where the trunk is one. Tensors
    of parts that a trunk does not have, such as a
    classifier, are left behind and reported. Raises `DataError` naming the first tensor that is
    missing, of another shape, or lies within a part of the trunk but has no place there
    (METHOD.md "Do not repeat" 6: slopes silently dropped).
    """
    path = weights_file(path)
    tensors, _ = read_tensors(path)
    prefix = RUN_PREFIX if any(name.startswith(RUN_PREFIX) for name in tensors) else ""
    body = trunk.body()
    # timm flattens containers when it cuts a model into stages: stages.0 becomes stages_0.
    own = {plain_name(name): name for name in body.state_dict()}
    parts = {plain_name(name) for name, _ in body.named_children()}
    mine: dict[str, Tensor] = {}
    left = []
    for name, tensor in tensors.items():
        plain = plain_name(name.removeprefix(prefix)) if name.startswith(prefix) else ""
        if plain in own:
            mine[own[plain]] = tensor
        elif any(plain.startswith(f"{part}_") for part in parts):
            raise DataError(f"{path}: tensor '{name}' has no place in this trunk.")
        else:
            left.append(name)
    load_strictly(body, mine, str(path))
    return TransferReport(tuple(mine), tuple(left), ())
