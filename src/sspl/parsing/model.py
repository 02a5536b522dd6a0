"""A trained parser as a folder: weights, classes and sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field
from torch import Tensor, nn

from sspl.domain.taxonomy import BUILT_IN as BUILT_IN_TAXONOMIES
from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.errors import DataError
from sspl.io.run_files import PRETRAINED_FILE
from sspl.io.weight_headers import checked_metadata
from sspl.io.weights import build_strictly, load_tensors, save_tensors
from sspl.models.segmentation import FaceSegmentation
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserModelSettings
from sspl.settings import Settings
from sspl.training.starts import PretrainedMetadata
from sspl.training.transfer import PST_HEAD
from sspl.weights import resolved

MODEL_FILE: Final = "parser.safetensors"

MULTIPLE: Final = 32
"""Sides of pictures are multiples of it."""

LARGER: Final = 5 / 3
"""Side of the picture in which stage 1 segments whole faces, in sides of the crops it has seen."""


@dataclass(frozen=True)
class ParserModel:
    """A network in evaluation mode, the classes of its output and its training resolution.

    `network` maps as `ParserNetwork` does.
    """

    network: nn.Module
    taxonomy: Taxonomy
    size: int


class ParserMetadata(Settings):
    """What a parser's file says of itself beside the weights."""

    kind: Literal["parser"]
    taxonomy: str
    classes: tuple[str, ...]
    mirror: tuple[tuple[str, str], ...]
    regions: dict[str, tuple[str, ...]]
    size: int = Field(ge=32, le=1024, multiple_of=32)
    model: ParserModelSettings


def save_parser(folder: Path, parser: ParserModel, settings: ParserModelSettings) -> None:
    """Write `parser.safetensors` into the folder."""
    taxonomy = parser.taxonomy
    metadata = {
        "kind": "parser",
        "taxonomy": taxonomy.name,
        "classes": taxonomy.classes,
        "mirror": taxonomy.mirror,
        "regions": taxonomy.regions,
        "size": parser.size,
        "model": settings.model_dump(mode="json"),
    }
    save_tensors(folder / MODEL_FILE, parser.network.state_dict(), metadata)


def load_parser(folder: Path) -> ParserModel:
    """Read a parser: a trained one, or stage 1 with PST, whose segmentation head is one too.

    The name `builtin` means the weights that come with the package. Raises `DataError` when the
    folder holds none or a damaged one.
    """
    path = resolved(folder)
    if path.is_dir():
        path = path / (PRETRAINED_FILE if (path / PRETRAINED_FILE).is_file() else MODEL_FILE)
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") == "pretrained":
        return _of_stage_1(path, tensors, checked_metadata(PretrainedMetadata, metadata, path))
    if metadata.get("kind") != "parser":
        raise DataError(f"{path}: holds no parser but '{metadata.get('kind')}'.")
    known = checked_metadata(ParserMetadata, metadata, path)
    taxonomy = Taxonomy(known.taxonomy, known.classes, known.mirror, known.regions)
    network = build_strictly(lambda: ParserNetwork(len(taxonomy), known.model), tensors, str(path))
    return ParserModel(network.eval(), taxonomy, known.size)


def _of_stage_1(path: Path, tensors: dict[str, Tensor], known: PretrainedMetadata) -> ParserModel:
    """Return the segmentation that stage 1 has learnt; larger pictures show it smaller parts."""
    taxonomy = _taxonomy_of(path, known)
    if "pst" not in known.tasks:
        raise DataError(f"{path}: pre-trained without PST, so it cannot say where parts are.")
    prefixes = {"backbone.": "backbone.", PST_HEAD: "head."}
    mine = {
        here + name.removeprefix(there): tensor
        for there, here in prefixes.items()
        for name, tensor in tensors.items()
        if name.startswith(there)
    }
    network = build_strictly(
        lambda: FaceSegmentation(known.backbone, known.segmentation, len(taxonomy)),
        mine,
        str(path),
    )
    size = max(MULTIPLE, round(known.input_size * LARGER / MULTIPLE) * MULTIPLE)
    return ParserModel(network.eval(), taxonomy, size)


def _taxonomy_of(path: Path, known: PretrainedMetadata) -> Taxonomy:
    """Return the classes of a stage-1 file; which of them are mirrored only their list says."""
    if known.taxonomy not in BUILT_IN_TAXONOMIES:
        raise DataError(
            f"{path}: was taught the classes of a file of its own ('{known.taxonomy}'), which it "
            "does not carry; train a parser on them (sspl parser train)."
        )
    return load_taxonomy(known.taxonomy)
