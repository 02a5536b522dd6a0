"""A trained parser as a folder: weights, classes and sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from sspl.domain.taxonomy import Taxonomy
from sspl.errors import DataError
from sspl.io.weights import build_strictly, checked_metadata, load_tensors, save_tensors
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserModelSettings
from sspl.settings import Settings

MODEL_FILE: Final = "parser.safetensors"


@dataclass(frozen=True)
class ParserModel:
    """A network in evaluation mode, the classes of its output and its training resolution."""

    network: ParserNetwork
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
    """Read a parser; raises `DataError` when the folder holds none or a damaged one."""
    path = folder / MODEL_FILE if folder.is_dir() else folder
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != "parser":
        raise DataError(f"{path}: holds no parser but '{metadata.get('kind')}'.")
    known = checked_metadata(ParserMetadata, metadata, path)
    taxonomy = Taxonomy(known.taxonomy, known.classes, known.mirror, known.regions)
    network = build_strictly(lambda: ParserNetwork(len(taxonomy), known.model), tensors, str(path))
    return ParserModel(network.eval(), taxonomy, known.size)
