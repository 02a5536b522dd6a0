"""A trained parser as a folder: weights, classes and sizes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sspl.domain.taxonomy import Taxonomy
from sspl.parsing.network import ParserModelSettings, ParserNetwork
from sspl.settings import build
from sspl.weights import load_strictly, load_tensors, save_tensors

MODEL_FILE: Final = "parser.safetensors"


@dataclass(frozen=True)
class ParserModel:
    """A network in evaluation mode, the classes of its output and its training resolution."""

    network: ParserNetwork
    taxonomy: Taxonomy
    size: int


def save_parser(folder: Path, parser: ParserModel, settings: ParserModelSettings) -> None:
    """Write `parser.safetensors` into the folder."""
    taxonomy = parser.taxonomy
    facts = {
        "kind": "parser",
        "taxonomy": taxonomy.name,
        "classes": taxonomy.classes,
        "mirror": taxonomy.mirror,
        "regions": taxonomy.regions,
        "size": parser.size,
        "model": settings.model_dump(mode="json"),
    }
    save_tensors(folder / MODEL_FILE, parser.network.state_dict(), facts)


def load_parser(folder: Path) -> ParserModel:
    """Read a parser; raises `DataError` when the folder holds none or a damaged one."""
    path = folder / MODEL_FILE if folder.is_dir() else folder
    tensors, facts = load_tensors(path)
    taxonomy = Taxonomy(
        facts["taxonomy"],
        tuple(facts["classes"]),
        tuple((a, b) for a, b in facts["mirror"]),
        {region: tuple(names) for region, names in facts["regions"].items()},
    )
    network = ParserNetwork(len(taxonomy), build(ParserModelSettings, facts["model"]))
    load_strictly(network, tensors, str(path))
    return ParserModel(network.eval(), taxonomy, int(facts["size"]))
