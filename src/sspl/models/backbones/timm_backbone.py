"""Backbones from the timm package: any model with four feature maps that halve in size."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sspl.errors import SettingsError, first_line
from sspl.models.backbones.base import MAPS, TRIAL, Backbone
from sspl.models.network_settings import BackboneSettings


class TimmBackbone(Backbone):
    """The last four feature maps of a timm model, with weights as timm initialises them.

    Nothing is downloaded; weights come from a file (`backbone_weights`). Raises `SettingsError`
    when timm cannot be imported, has no such model, or the model has no four maps that each halve
    the size of the one before.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        name = str(settings.timm)
        self.net: nn.Module = _create(name)
        info: Any = self.net.feature_info
        strides = info.reduction()[-MAPS:]
        if len(strides) < MAPS or any(b != 2 * a for a, b in itertools.pairwise(strides)):
            raise SettingsError(
                f"backbone.timm: the maps of '{name}' have strides {strides}, and four are needed "
                "that double from each to the next; choose a ResNet, ConvNeXt or the like."
            )
        self.widths = tuple(info.channels()[-MAPS:])
        self.ends = [plain_name(module) for module in info.module_name()[-MAPS:]]
        self.parts()
        self._try(name)

    @classmethod
    def takes(cls, settings: BackboneSettings) -> bool:
        """Tell whether the settings name a model of timm."""
        return settings.timm is not None

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the last four maps."""
        return list(self.net(image))[-MAPS:]

    def _try(self, name: str) -> None:
        """Refuse a model that takes one size of picture alone or puts channels last."""
        training = self.training
        try:
            with torch.no_grad():
                shapes = [tuple(m.shape) for m in self.eval()(torch.zeros(1, 3, TRIAL, TRIAL))]
        except (AssertionError, RuntimeError) as error:
            raise SettingsError(
                f"backbone.timm: '{name}' cannot take a picture of {TRIAL} px ({error}); choose a "
                "model without a fixed input size."
            ) from None
        if [shape[1] for shape in shapes] != list(self.widths):
            raise SettingsError(
                f"backbone.timm: the maps of '{name}' are not (faces, channels, height, width) but "
                f"have shapes {shapes}; choose a ResNet, ConvNeXt or the like."
            )
        self.train(training)

    def parts(self) -> list[nn.Module]:
        """Return the layers up to each map's own layer; the stem ends where stage 1 begins."""
        names = [name for name, _ in _layers(self.net, self.ends)]
        layers = [layer for _, layer in _layers(self.net, self.ends)]
        if any(end not in names for end in self.ends):
            raise SettingsError(
                f"backbone.timm: the layers of this model ({', '.join(names)}) do not run stage by "
                "stage; choose a ResNet, ConvNeXt, EfficientNet or the like."
            )
        places = [names.index(end) for end in self.ends]
        starts = [0, places[0], *(place + 1 for place in places[:-1]), len(layers)]
        return [nn.ModuleList(layers[a:b]) for a, b in itertools.pairwise(starts)]

    def body(self) -> nn.Module:
        """Return the timm model itself."""
        return self.net


def _create(name: str) -> Any:
    # A torchvision that does not fit torch raises RuntimeError, a missing one ImportError.
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"backbone.timm: timm cannot be imported ({reason}); run in the clone of sspl: "
            "pip install '.[timm]', with a torchvision that fits your torch."
        ) from None
    try:
        return timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
        raise SettingsError(
            f"backbone.timm: '{name}' is no timm model that yields feature maps "
            f"({first_line(error)})."
        ) from None


def plain_name(name: str) -> str:
    """Return a module's name as timm writes it in models that it has flattened."""
    return name.replace(".", "_")


def _layers(net: nn.Module, ends: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """Return the layers in order; a container of stages counts as its stages."""
    layers = []
    for name, child in net.named_children():
        inside = {f"{plain_name(name)}_{key}": item for key, item in child.named_children()}
        if any(end in inside for end in ends):
            layers += list(inside.items())
        else:
            layers.append((plain_name(name), child))
    return layers
