"""Which part of a face moves an attribute's logit, and by how much.

The heads are linear, so a logit is a sum, and the sum can be taken apart without approximation:

- Average pooling: place p of the last feature map F adds `w . F(p) / places`. This is CAM (Zhou
  et al., CVPR 2016), and what Grad-CAM gives for such a head before it drops what is negative.
- `splnet`: the same on the last map of the attribute's branch.
- Pooling by region: every feature f, standardised to `(f - mean) / deviation`, adds its weight
  times that. Added up by semantic class (the class's look and its share of the face) and for the
  average-pooled feature, the sums say how far each part moves the logit from that of an average
  face. The map shows how the look of each place does; what a class adds by being large, small or
  absent has no place, and stands in the sums alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sspl.data.transforms import normalise
from sspl.domain.sides import side_pairs
from sspl.models.attributes import AttributeNetwork, RegionPooling
from sspl.models.branches import Branches, RegionHeads
from sspl.models.bundle import AttributeModel
from sspl.models.frozen import with_backbone
from sspl.models.splnet import AnyAttributeNetwork, BranchAttributeNetwork


@dataclass(frozen=True)
class Parts:
    """Logits of some faces taken apart; `baseline` plus what the parts add is the logit.

    Args:
        baseline: float32 (attributes,).
        maps: float32 (n, attributes, h, w), what each place adds.
        regions: float32 (n, attributes, classes), what each semantic class adds; None without
            pooling by region: the places then add everything.
        whole: float32 (n, attributes), what the average-pooled feature adds; None likewise.
        segmentation: float32 (n, classes, h, w), probability of each class; None likewise.
    """

    baseline: Tensor
    maps: Tensor
    regions: Tensor | None = None
    whole: Tensor | None = None
    segmentation: Tensor | None = None

    def logits(self) -> Tensor:
        """Put the logits together again, float32 (n, attributes)."""
        if self.regions is None or self.whole is None:
            return self.baseline + self.maps.sum((2, 3))
        return self.baseline + self.regions.sum(2) + self.whole


def take_apart(network: AnyAttributeNetwork, view: Tensor) -> Parts:
    """Return the parts of the logits of faces float (n, 3, h, w) in [-1, 1].

    The network is in evaluation mode.
    """
    maps = network.backbone(view)
    if isinstance(network, BranchAttributeNetwork):
        return _of_branches(network.pooling, network.head, maps)
    if isinstance(network.pooling, RegionPooling):
        return _of_regions(network, network.pooling, maps)
    return Parts(network.head.bias, _by_place(maps[-1], network.head.weight))


def _by_place(feature: Tensor, weight: Tensor) -> Tensor:
    """Return what each place of (n, c, h, w) adds to logits of weight (a, c): (n, a, h, w)."""
    added = torch.einsum("nchw,ac->nahw", feature.float(), weight)
    return added / (feature.shape[2] * feature.shape[3])


def _of_branches(pooling: Branches, head: RegionHeads, maps: list[Tensor]) -> Parts:
    features = pooling.maps(maps, tuple(head.groups))
    layers = {region: head[region] for region in head.groups}
    parts = [_by_place(features[region], layers[region].weight) for region in head.groups]  # type: ignore[arg-type]
    bias = torch.cat([layers[region].bias for region in head.groups])  # type: ignore[misc]
    return Parts(bias[head.order], torch.cat(parts, dim=1)[:, head.order])


def _of_regions(network: AttributeNetwork, pooling: RegionPooling, maps: list[Tensor]) -> Parts:
    shares, weights = pooling.regions(maps)
    features = pooling.unscaled(maps, shares, weights)
    mean, variance = pooling.norm.running_mean, pooling.norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    scale = 1 / ((variance + pooling.norm.eps).sqrt() * pooling.features**0.5)
    weight = network.head.weight * scale
    chosen = maps[pooling.region_map - 1].float()
    classes, channels = shares.shape[1], chosen.shape[1]
    looks, sizes = classes * channels, classes
    added = weight[None] * (features - mean)[:, None]
    regions = added[..., :looks].unflatten(2, (classes, channels)).sum(3)
    regions = regions + added[..., looks : looks + sizes]
    whole = added[..., looks + sizes :].sum(2)
    look_weight = weight[:, :looks].unflatten(1, (classes, channels))
    offset = (look_weight * mean[:looks].view(classes, channels)).sum(2)
    places = torch.einsum("ncp,akc->nakp", chosen.flatten(2), look_weight) - offset[..., None]
    near = (places * weights[:, None]).sum(2).unflatten(2, tuple(chosen.shape[2:]))
    last = weight[:, looks + sizes :]
    far = _by_place(maps[-1], last) - (last @ mean[looks + sizes :])[:, None, None] / _places(
        maps[-1]
    )
    size = tuple(chosen.shape[2:])
    far = F.interpolate(far, size, mode="bilinear", align_corners=False)
    far = far * (_places(maps[-1]) / _places(chosen))
    return Parts(network.head.bias, near + far, regions, whole, shares)


def _places(feature: Tensor) -> int:
    return feature.shape[2] * feature.shape[3]


def mirrored_classes(classes: Sequence[str]) -> list[int]:
    """Return for each class its counterpart in a mirrored face: `l_eye` for `r_eye`."""
    places = {name: i for i, name in enumerate(classes)}
    other = {a: b for pair in side_pairs(classes) for a, b in (pair, pair[::-1])}
    return [places[other.get(name, name)] for name in classes]


@torch.no_grad()
def explain_canvases(model: AttributeModel, canvases: NDArray[np.uint8]) -> Parts:
    """Take apart the calibrated logits of faces uint8 (n, canvas, canvas, 3).

    Where the model averages over the mirrored face, so do the parts, each in its place on the
    face as it is.
    """
    network, size = with_backbone(model.network, "explain"), model.input_size
    device = next(network.parameters()).device
    pixels = torch.from_numpy(canvases).permute(0, 3, 1, 2).float().to(device)
    view = normalise(F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False))
    parts = take_apart(network, view)
    if model.flip_average:
        order = mirrored_classes(network.classes if isinstance(network, AttributeNetwork) else ())
        parts = _mean(parts, _mirrored(take_apart(network, view.flip(3)), order))
    cooler = torch.from_numpy(1 / model.temperatures).float().to(device)
    return Parts(
        parts.baseline * cooler,
        parts.maps * cooler[:, None, None],
        None if parts.regions is None else parts.regions * cooler[:, None],
        None if parts.whole is None else parts.whole * cooler,
        parts.segmentation,
    )


def _mirrored(parts: Parts, order: Sequence[int]) -> Parts:
    """Bring the parts of mirrored faces back to the faces as they are."""
    regions, segmentation = parts.regions, parts.segmentation
    return Parts(
        parts.baseline,
        parts.maps.flip(3),
        None if regions is None else regions[..., list(order)],
        parts.whole,
        None if segmentation is None else segmentation[:, list(order)].flip(3),
    )


def _mean(one: Parts, other: Parts) -> Parts:
    def middle(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else (a + b) / 2

    maps = middle(one.maps, other.maps)
    assert maps is not None
    return Parts(
        one.baseline,
        maps,
        middle(one.regions, other.regions),
        middle(one.whole, other.whole),
        middle(one.segmentation, other.segmentation),
    )
