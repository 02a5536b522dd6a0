"""From stage 1 to stage 2: what is carried over, strictly, and what is not."""

from pathlib import Path
from typing import Final

from pydantic import ConfigDict
from torch import nn

from sspl.errors import DataError
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.branches import Architecture, Branches
from sspl.models.splnet import AnyAttributeNetwork
from sspl.models.trunk import TrunkSettings
from sspl.settings import Settings
from sspl.tasks.pst import SegmentationSettings
from sspl.training.pretrain import MODEL_FILE
from sspl.weights import TransferReport, checked_facts, load_strictly, load_tensors

PST_HEAD: Final = "tasks.pst.head."


class PretrainedFacts(Settings):
    """What stage 2 must know of the weights of stage 1; there are more facts in the file."""

    model_config = ConfigDict(extra="ignore")

    architecture: Architecture = "sspl"
    trunk: TrunkSettings
    segmentation: SegmentationSettings = SegmentationSettings()
    tasks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def transfer(network: AnyAttributeNetwork, run: Path) -> TransferReport:
    """Load the trunk of a stage-1 run, every tensor of it (METHOD.md "Do not repeat" 6).

    `splnet` takes over the branches too, a network that pools by region PST's segmentation
    head. Raises `DataError` when the run has no weights, another architecture, trunk or head, or
    a tensor does not fit.
    """
    path = run / MODEL_FILE if run.is_dir() else run
    tensors, facts = load_tensors(path)
    if facts.get("kind") != "pretrained":
        raise DataError(f"{path}: holds no stage-1 weights but '{facts.get('kind')}'.")
    known = checked_facts(PretrainedFacts, facts, path)
    _require_equal(path, "architecture", known.architecture, network.architecture)
    _require_equal(path, "trunk", known.trunk, network.trunk_settings)
    pairs: list[tuple[str, str, nn.Module]] = [("trunk.", "trunk.", network.trunk)]
    if isinstance(network.pooling, Branches):
        pairs.append(("branches.", "pooling.", network.pooling))
    if isinstance(network, AttributeNetwork) and isinstance(network.pooling, RegionPooling):
        _require_head(path, network, known)
        pairs.append((PST_HEAD, "pooling.segmentation.", network.pooling.segmentation))
    for there, _, module in pairs:
        mine = {n.removeprefix(there): t for n, t in tensors.items() if n.startswith(there)}
        load_strictly(module, mine, str(path))
    taken = tuple(there for there, _, _ in pairs)
    filled = tuple(here for _, here, _ in pairs)
    return TransferReport(
        tuple(n for n in tensors if n.startswith(taken)),
        tuple(n for n in tensors if not n.startswith(taken)),
        tuple(n for n in network.state_dict() if not n.startswith(filled)),
    )


def _require_equal(path: Path, what: str, there: object, here: object) -> None:
    if there != here:
        raise DataError(
            f"{path}: pre-trained with {what} {there}, but this run has {here}; "
            f"use the same {what} settings."
        )


def _require_head(path: Path, network: AttributeNetwork, facts: PretrainedFacts) -> None:
    if "pst" not in facts.tasks:
        raise DataError(
            f"{path}: pre-trained without PST, so there is no segmentation to pool by; "
            "pre-train with pst among the tasks or set head.pooling=average."
        )
    _require_equal(path, "segmentation", facts.segmentation, network.segmentation)
    _require_equal(path, "classes", facts.classes, network.classes)
