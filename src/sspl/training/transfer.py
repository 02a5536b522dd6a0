"""What stage 2 takes over from stage 1 or from a fine-tuned model, strictly, and what not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.io.weight_headers import checked_metadata
from sspl.io.weights import TransferReport, load_strictly, read_tensors
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.branches import Branches, RegionHeads
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.frozen import with_backbone
from sspl.models.model_metadata import CONFIG_FILE
from sspl.models.splnet import AnyAttributeNetwork
from sspl.training.starts import (
    READY_WEIGHT,
    PretrainedMetadata,
    ReadyHeads,
    not_a_start,
    weights_file,
)

PST_HEAD: Final = "tasks.pst.head."

SHOWN: Final = 5
"""Heads left behind that a report names: weights bring many that nobody asked for."""

Tensors = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Names of the tensors that were loaded, left behind and newly initialised."""


@dataclass(frozen=True)
class ContinuedReport(TransferReport):
    """What was taken over where heads were, too; those are named by their attributes."""

    heads: tuple[str, ...]
    new_heads: tuple[str, ...]
    left_heads: tuple[str, ...]

    def text(self) -> str:
        """Return the report with a line on the heads."""
        left, more = self.left_heads[:SHOWN], len(self.left_heads) - SHOWN
        left += (f"{more} more",) if more > 0 else ()
        parts = {"kept": self.heads, "new": self.new_heads, "left behind": left}
        shown = (f"{title}: {', '.join(names) or 'none'}" for title, names in parts.items())
        return f"{super().text()}\nheads {'; '.join(shown)}"


def transfer(
    network: AnyAttributeNetwork, start: Path, schema: AttributeSchema | None = None
) -> TransferReport:
    """Load what a network can use of a run of either stage, or of a packed model.

    Of stage 1 that is the backbone, every tensor of it (docs/method.md#do-not-repeat-6); `splnet`
    takes over the branches too, a network that pools by region PST's segmentation head and, where
    the weights bring heads (`ready_heads`), those of attributes in `schema`. Of a fine-tuned model
    it is the backbone, the pooling where the network pools alike, and then the heads of those
    attributes of `schema` that it has by the same name (and, for `splnet`, region).

    Raises `DataError` when `start` is neither, has another architecture, backbone or head, or a
    tensor does not fit.
    """
    path = weights_file(start)
    tensors, metadata = read_tensors(path)
    kind = metadata.get("kind") if isinstance(metadata, dict) else None
    if kind == "pretrained":
        return _from_stage_1(network, path, tensors, metadata, schema)
    packed = metadata is None and (path.parent / CONFIG_FILE).is_file()
    if schema is None or not (kind == "attributes" or packed):
        raise not_a_start(path, metadata)
    return _from_stage_2(network, path, load_model(path), schema)


def _from_stage_1(
    network: AnyAttributeNetwork,
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, Any],
    schema: AttributeSchema | None,
) -> TransferReport:
    known = checked_metadata(PretrainedMetadata, metadata, path)
    _require_equal(path, "architecture", known.architecture, network.architecture)
    _require_equal(path, "backbone", known.backbone, network.backbone_settings)
    pairs: list[tuple[str, str, nn.Module]] = [("backbone.", "backbone.", network.backbone)]
    if isinstance(network.pooling, Branches):
        pairs.append(("branches.", "pooling.", network.pooling))
    if isinstance(network, AttributeNetwork) and isinstance(network.pooling, RegionPooling):
        _require_head(path, network, known)
        pairs.append((PST_HEAD, "pooling.segmentation.", network.pooling.segmentation))
    report = _load(network, tensors, pairs, path)
    if schema is None or known.heads is None:
        return TransferReport(*report)
    return _with_ready_heads(network, path, tensors, report, known.heads, schema)


def _with_ready_heads(
    network: AnyAttributeNetwork,
    path: Path,
    tensors: Mapping[str, Tensor],
    report: Tensors,
    ready: ReadyHeads,
    schema: AttributeSchema,
) -> ContinuedReport:
    """Start heads at those that come with the weights, where they read the same features.

    Biases stay: how common an attribute is among drawn faces says nothing of others.
    """
    rows: dict[str, int] = {}
    pooling = network.pooling
    if isinstance(pooling, RegionPooling) and pooling.region_map == ready.region_map:
        rows = ready.rows(schema.names)
        weight = tensors.get(READY_WEIGHT, torch.empty(0))
        if weight.shape != (len(ready.names), pooling.features):
            raise DataError(
                f"{path}: {READY_WEIGHT} has shape {tuple(weight.shape)} and not "
                f"({len(ready.names)}, {pooling.features}); make the heads again by 'sspl heads'."
            )
        with torch.no_grad():
            for name, row in rows.items():
                _head_of(network, schema.index(name))[0].copy_(weight[row])
    loaded, left, new = report
    if rows:
        loaded, left = (*loaded, READY_WEIGHT), tuple(n for n in left if n != READY_WEIGHT)
    return ContinuedReport(
        loaded,
        left,
        new,
        tuple(rows),
        tuple(n for n in schema.names if n not in rows),
        tuple(n for i, n in enumerate(ready.names) if i not in rows.values()),
    )


def _load(
    network: AnyAttributeNetwork,
    tensors: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str, nn.Module]],
    path: Path,
) -> Tensors:
    """Load modules by the prefixes of their tensors there and here; return what a report names."""
    for there, _, module in pairs:
        mine = {n.removeprefix(there): t for n, t in tensors.items() if n.startswith(there)}
        load_strictly(module, mine, str(path))
    taken = tuple(there for there, _, _ in pairs)
    filled = tuple(here for _, here, _ in pairs)
    return (
        tuple(n for n in tensors if n.startswith(taken)),
        tuple(n for n in tensors if not n.startswith(taken)),
        tuple(n for n in network.state_dict() if not n.startswith(filled)),
    )


def _from_stage_2(
    network: AnyAttributeNetwork, path: Path, model: AttributeModel, schema: AttributeSchema
) -> ContinuedReport:
    before = with_backbone(model.network, str(path))
    _require_equal(path, "architecture", before.architecture, network.architecture)
    _require_equal(path, "backbone", before.backbone_settings, network.backbone_settings)
    pairs: list[tuple[str, str, nn.Module]] = [("backbone.", "backbone.", network.backbone)]
    alike = _pools_alike(path, before, network)
    if alike:
        pairs.append(("pooling.", "pooling.", network.pooling))
    loaded, left, new = _load(network, before.state_dict(), pairs, path)
    there, here = (dict(zip(s.names, s.regions, strict=True)) for s in (model.schema, schema))
    # A head of `splnet` reads the branch of its region.
    fits = {
        n for n in here if n in there and (before.architecture == "sspl" or there[n] == here[n])
    }
    kept = tuple(n for n in here if alike and n in fits)
    for name in kept:
        _copy_head(before, model.schema.index(name), network, schema.index(name))
    return ContinuedReport(
        loaded,
        left,
        new,
        kept,
        tuple(n for n in here if n not in kept),
        tuple(n for n in there if n not in kept),
    )


def _pools_alike(path: Path, before: AnyAttributeNetwork, network: AnyAttributeNetwork) -> bool:
    """Tell whether both networks' heads read the same features.

    Raises `DataError` where a segmentation is wanted that the model has not.
    """
    if not isinstance(before, AttributeNetwork) or not isinstance(network, AttributeNetwork):
        return True
    if isinstance(network.pooling, RegionPooling):
        if not isinstance(before.pooling, RegionPooling):
            raise DataError(
                f"{path}: was fine-tuned with head.pooling=average, so there is no segmentation "
                "to pool by; set head.pooling=average."
            )
        _require_equal(path, "segmentation", before.segmentation, network.segmentation)
        _require_equal(path, "classes", before.classes, network.classes)
        there, here = (n.head_settings.region_map for n in (before, network))
        _require_equal(path, "head.region_map", there, here)
        return True
    return not isinstance(before.pooling, RegionPooling)


def _copy_head(
    before: AnyAttributeNetwork, source: int, network: AnyAttributeNetwork, target: int
) -> None:
    """Copy what one attribute's logit is made with, from its place there to its place here."""
    with torch.no_grad():
        for mine, theirs in zip(_head_of(network, target), _head_of(before, source), strict=True):
            mine.copy_(theirs)


def _head_of(network: AnyAttributeNetwork, place: int) -> tuple[Tensor, Tensor]:
    """Return the weight (features,) and bias () of one attribute's head, sharing its memory."""
    head: nn.Module = network.head
    if isinstance(head, RegionHeads):
        region = next(r for r, places in head.groups.items() if place in places)
        place = head.groups[region].index(place)
        head = head.get_submodule(region)
    assert isinstance(head, nn.Linear)
    return head.weight[place], head.bias[place]


def _require_equal(path: Path, what: str, there: object, here: object) -> None:
    if there != here:
        raise DataError(
            f"{path}: trained with {what} {there}, but this run has {here}; "
            f"use the same {what} settings."
        )


def _require_head(path: Path, network: AttributeNetwork, metadata: PretrainedMetadata) -> None:
    if "pst" not in metadata.tasks:
        raise DataError(
            f"{path}: pre-trained without PST, so there is no segmentation to pool by; "
            "pre-train with pst among the tasks or set head.pooling=average."
        )
    _require_equal(path, "segmentation", metadata.segmentation, network.segmentation)
    _require_equal(path, "classes", metadata.classes, network.classes)
