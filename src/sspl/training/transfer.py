"""From stage 1 to stage 2: what is carried over, strictly, and what is not."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sspl.errors import DataError
from sspl.models.attributes import AttributeNetwork
from sspl.models.trunk import TrunkSettings
from sspl.settings import build
from sspl.training.pretrain import MODEL_FILE
from sspl.weights import load_strictly, load_tensors


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


def transfer(network: AttributeNetwork, trunk: TrunkSettings, run: Path) -> TransferReport:
    """Load the trunk of a stage-1 run, every tensor of it (METHOD.md "Do not repeat" 6).

    Raises `DataError` when the run has no weights, another trunk, or a tensor does not fit.
    """
    path = run / MODEL_FILE if run.is_dir() else run
    tensors, facts = load_tensors(path)
    if facts.get("kind") != "pretrained":
        raise DataError(f"{path}: holds no stage-1 weights but '{facts.get('kind')}'.")
    there = build(TrunkSettings, facts["trunk"])
    if there != trunk:
        raise DataError(
            f"{path}: pre-trained with trunk {there}, but this run has {trunk}; "
            "use the same trunk settings."
        )
    mine = {n.removeprefix("trunk."): t for n, t in tensors.items() if n.startswith("trunk.")}
    load_strictly(network.trunk, mine, str(path))
    return TransferReport(
        tuple(n for n in tensors if n.startswith("trunk.")),
        tuple(n for n in tensors if not n.startswith("trunk.")),
        tuple(n for n in network.state_dict() if not n.startswith("trunk.")),
    )
