"""A backbone that starts from a file of weights that the user brings."""

from pathlib import Path
from typing import Final

from torch import Tensor

from sspl.errors import DataError
from sspl.io.weights import TransferReport, load_strictly, read_state_dict, read_tensors
from sspl.models.backbones.base import Backbone
from sspl.models.backbones.timm_backbone import plain_name
from sspl.training.starts import TORCH_FILES, weights_file

RUN_PREFIX: Final = "backbone."
"""What backbone tensors are called in files that this software wrote, before their own names."""


def load_backbone(backbone: Backbone, path: Path) -> TransferReport:
    """Load every tensor of the backbone from a safetensors file or one of torch, in place.

    `path` may be the folder of a run or model. The file may come from either stage of this
    software, or hold a state dict with the names of the timm model where the backbone is one.
    Tensors of parts that a backbone does not have, such as a classifier, are left behind and
    reported. Raises `DataError` naming the first tensor that is missing, of another shape, or lies
    within a part of the backbone but has no place there (docs/method.md#do-not-repeat-6: slopes
    silently dropped), and how many fit.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> print(load_backbone(backbone, model).text().splitlines()[1])
        left behind: 2 tensors: head.bias (1), head.weight (1)
    """
    if path.suffix.lower() in TORCH_FILES and path.is_file():
        tensors = read_state_dict(path)
    else:
        path = weights_file(path)
        tensors, _ = read_tensors(path)
    prefix = RUN_PREFIX if any(name.startswith(RUN_PREFIX) for name in tensors) else ""
    body = backbone.body()
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
            raise DataError(f"{path}: tensor '{name}' has no place in this backbone.")
        else:
            left.append(name)
    try:
        load_strictly(body, mine, str(path))
    except DataError as error:
        wanted = body.state_dict()
        fit = sum(n in mine and mine[n].shape == t.shape for n, t in wanted.items())
        raise DataError(
            f"{str(error).removesuffix('.')}; {fit} of the backbone's {len(wanted)} tensors fit, "
            f"and {len(left)} of the file's {len(tensors)} are of other parts."
        ) from None
    return TransferReport(tuple(mine), tuple(left), ())
