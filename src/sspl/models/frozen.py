"""Attribute heads on frozen features, alone or beside a fine-tuned network."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sspl.domain.attributes import AttributeSchema
from sspl.models.extractor_settings import FROZEN, FrozenSettings
from sspl.models.extractors import Extractor, build_extractor, shrunk
from sspl.models.model_metadata import not_alone
from sspl.models.splnet import AnyAttributeNetwork, network_from_metadata
from sspl.settings import build


class FrozenNetwork(nn.Module):
    """Linear heads on the features of frozen extractors, one after the other."""

    architecture: ClassVar[str] = FROZEN

    def __init__(self, extractors: Sequence[Extractor], attributes: int) -> None:
        super().__init__()
        self.extractors = nn.ModuleList(extractors)
        self.head = nn.Linear(sum(e.about.features for e in extractors), attributes)

    def set_heads(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Take over weights (features, attributes) and biases (attributes,)."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight.T))
            self.head.bias.copy_(torch.from_numpy(bias))

    def parts(self) -> list[Extractor]:
        """Return the extractors."""
        return list(self.extractors)  # type: ignore[arg-type]

    def forward(self, canvas: Tensor) -> Tensor:
        """Map RGB canvases float (n, 3, c, c) of 0 to 255 to logits, float32 (n, attributes)."""
        features = [e(shrunk(canvas, e.about.side)) for e in self.parts()]
        with torch.autocast(canvas.device.type, enabled=False):
            logits: Tensor = self.head(torch.cat([f.float() for f in features], dim=1))
        return logits

    def metadata(self) -> dict[str, Any]:
        """Return the settings that the network is built from, as JSON values."""
        settings = FrozenSettings(extractors=tuple(e.about for e in self.parts()))
        return {"frozen": settings.model_dump(mode="json")}


class JoinedNetwork(nn.Module):
    """A fine-tuned network and frozen heads, whose logits are averaged.

    Args:
        own: the fine-tuned network.
        frozen: heads on frozen features.
        share: weight of the frozen heads' logits.
        own_canvas: side in px of the canvas that the views of `own` are cut from.
    """

    def __init__(
        self, own: AnyAttributeNetwork, frozen: FrozenNetwork, share: float, own_canvas: int
    ) -> None:
        super().__init__()
        self.own, self.frozen = own, frozen
        self.share, self.own_canvas = share, own_canvas
        self.architecture = own.architecture

    def metadata(self) -> dict[str, Any]:
        """Return the settings that the network is built from, as JSON values."""
        settings = FrozenSettings(
            extractors=tuple(e.about for e in self.frozen.parts()),
            share=self.share,
            own_canvas=self.own_canvas,
        )
        return self.own.metadata() | {"frozen": settings.model_dump(mode="json")}


AnyNetwork = AnyAttributeNetwork | FrozenNetwork | JoinedNetwork


def frozen_part(network: AnyNetwork) -> FrozenNetwork | None:
    """Return the heads on frozen features, None where a network has none."""
    if isinstance(network, JoinedNetwork):
        return network.frozen
    return network if isinstance(network, FrozenNetwork) else None


def with_backbone(network: AnyNetwork, where: str) -> AnyAttributeNetwork:
    """Return a network that is one backbone with its heads; raise `DataError` for another one."""
    if frozen_part(network) is not None:
        raise not_alone(where)
    assert isinstance(network, AnyAttributeNetwork)
    return network


def any_network(metadata: Mapping[str, Any], schema: AttributeSchema) -> AnyNetwork:
    """Build the network that a model file describes, with weights as initialised."""
    if metadata.get("frozen") is None:
        return network_from_metadata(metadata, schema)
    settings = build(FrozenSettings, metadata["frozen"])
    frozen = FrozenNetwork([build_extractor(a) for a in settings.extractors], len(schema))
    if settings.own_canvas is None:
        return frozen
    own = network_from_metadata(metadata, schema)
    return JoinedNetwork(own, frozen, settings.share, settings.own_canvas)
