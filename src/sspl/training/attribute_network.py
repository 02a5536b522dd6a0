"""How the network of stage 2 starts, and which of its weights learn how fast."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sspl.domain.attributes import AttributeSchema
from sspl.domain.taxonomy import load_taxonomy
from sspl.models.attributes import RegionPooling
from sspl.models.branches import Branches, RegionHeads
from sspl.models.splnet import AnyAttributeNetwork, build_attribute_network
from sspl.training.backbone_weights import load_backbone
from sspl.training.stage_settings import FinetuneSettings
from sspl.training.transfer import transfer

PRIOR_RANGE = (0.01, 0.99)


def log_odds(rates: NDArray[np.float64]) -> Tensor:
    """Return float32 (a,): log-odds of each attribute's share of positives."""
    return torch.logit(torch.from_numpy(rates).float().clamp(*PRIOR_RANGE))


def initialise_bias(head: nn.Linear | RegionHeads, bias: Tensor) -> None:
    """Start each attribute at the log-odds of its share among the labelled faces."""
    if isinstance(head, RegionHeads):
        head.set_bias(bias)
        return
    with torch.no_grad():
        head.bias.copy_(bias)


def started_network(
    settings: FinetuneSettings, schema: AttributeSchema, bias: Tensor
) -> tuple[AnyAttributeNetwork, str]:
    """Build the network with the weights it starts from; say where they are from.

    `bias` float (a,) is that of the attributes' heads.
    """
    network = build_attribute_network(
        settings.architecture,
        settings.backbone,
        settings.head,
        schema,
        settings.segmentation,
        load_taxonomy(settings.taxonomy).classes,
    )
    transferred = "from scratch"
    if settings.backbone_weights is not None:
        transferred = load_backbone(network.backbone, settings.backbone_weights).text()
    initialise_bias(network.head, bias)
    if settings.pretrained is not None:
        # Heads that are kept bring their own biases.
        transferred = transfer(network, settings.pretrained, schema).text()
    return network, transferred


def parameter_groups(
    network: AnyAttributeNetwork, settings: FinetuneSettings
) -> list[tuple[list[nn.Parameter], float]]:
    """Return (parameters, lr factor) from the heads to the stem, frozen groups left out."""
    stages = network.backbone.parameter_groups()
    groups = [(list(network.head.parameters()), settings.head_lr)]
    if settings.freeze == len(stages):
        network.pooling.requires_grad_(False)
    else:
        groups.append((list(network.pooling.parameters()), 1.0))
    for index, parameters in reversed(list(enumerate(stages))):
        if index < settings.freeze:
            for parameter in parameters:
                parameter.requires_grad_(False)
        else:
            groups.append((parameters, settings.layer_decay ** (len(stages) - 1 - index)))
    return [group for group in groups if group[0]]


def freeze_statistics(network: AnyAttributeNetwork, freeze: int) -> None:
    """Put the BatchNorm layers of the first `freeze` groups (stem, stages) in evaluation mode."""
    parts = network.backbone.parts()
    for part in parts[:freeze]:
        part.eval()
    if freeze == len(parts):
        if isinstance(network.pooling, RegionPooling):
            network.pooling.segmentation.eval()
        if isinstance(network.pooling, Branches):
            network.pooling.eval()


@torch.no_grad()
def settle_scales(network: AnyAttributeNetwork, views: Iterable[Tensor]) -> None:
    """Let the pooled features' averages begin at those of `views` float (n, 3, h, w).

    A few labels are a few steps, after which averages that begin at 0 and 1 are still far off, and
    heads that bring their weights along mean something from the start. Averages that have been
    learnt already, as a fine-tuned model's, stay. The network is left in evaluation mode.
    """
    pooling = network.pooling
    if not isinstance(pooling, RegionPooling) or pooling.norm.num_batches_tracked:
        return
    network.eval()
    maps = (network.backbone(view) for view in views)
    features = torch.cat([pooling.unscaled(m, *pooling.regions(m)) for m in maps])
    if len(features) > 1:
        pooling.norm.running_mean.copy_(features.mean(0))  # type: ignore[union-attr]
        pooling.norm.running_var.copy_(features.var(0))  # type: ignore[union-attr]
