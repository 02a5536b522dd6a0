"""What a stage-1 task is: a module that turns views of faces into a loss and its metrics."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sspl.domain.taxonomy import Taxonomy
from sspl.metrics.tallies import Mean, Tally
from sspl.models.backbones.base import Backbone
from sspl.models.network_settings import Architecture, SegmentationSettings
from sspl.settings import Settings as BaseSettings

Maps = list[Tensor] | None
"""The backbone's four feature maps of the crop; None when no task of the run uses it."""

Regions = Mapping[str, Tensor] | None
"""The branches' pooled features of the crop, float32 (n, channels) by region; None without them."""


@dataclass(frozen=True)
class Views:
    """One batch of faces, as the tasks see it.

    Args:
        canvas: uint8 (n, 3, c, c), the whole face picture.
        canvas_mask: uint8 (n, c, c) class ids with `UNKNOWN`, or None without masks.
        crop: float32 (n, 3, s, s) in [-1, 1], one random crop of each canvas.
        crop_mask: uint8 (n, s, s), the same crop of the mask, or None.
        generator: CPU source of every random draw a task makes.
        labels: int8 (n,) by attribute, 1 yes, 0 no, -1 unknown, where a task needs labels.

    Examples:
        >>> canvas = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
        >>> views = Views(canvas, None, torch.zeros(2, 3, 32, 32), None, torch.Generator())
        >>> len(views.crop)
        2
    """

    canvas: Tensor
    canvas_mask: Tensor | None
    crop: Tensor
    crop_mask: Tensor | None
    generator: torch.Generator
    labels: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """A task's loss on one batch (scalar) and its tallies by metric name.

    Examples:
        >>> TaskResult(torch.tensor(0.7), {"accuracy": Mean(3, 4)}).tallies["accuracy"].value()
        0.75
    """

    loss: Tensor
    tallies: dict[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskContext:
    """The network that a task becomes part of.

    Args:
        backbone: what all tasks share; a task reads its `widths`, or copies it, at most.
        taxonomy: the semantic classes of the masks.
        input_size: side of the network's input, px.
        architecture: with `splnet` the branches' features come along with the maps.
        segmentation: shape of the head that PST and stage 2 have in common.

    Examples:
        >>> backbone = build_backbone(BackboneSettings(width=0.125))
        >>> context = TaskContext(backbone, load_taxonomy("celebamask19"), input_size=32)
        >>> context.widths, context.features
        ((8, 16, 32, 64), 64)
    """

    backbone: Backbone
    taxonomy: Taxonomy
    input_size: int
    architecture: Architecture = "sspl"
    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the backbone's four feature maps."""
        return self.backbone.widths

    @property
    def features(self) -> int:
        """Channels of the pooled feature."""
        return self.widths[-1]


class PretextTask(nn.Module, ABC):
    """Base of the stage-1 tasks.

    A task owns its head as submodules and makes its own targets; it is built as
    `Task(settings, context)`. `name` keys its settings, loss weight, metrics and saved tensors;
    `uses_crop` tells that it reads the shared crop's feature maps; `needs_masks` that it cannot
    work without semantic masks; `needs_labels` that it learns from labels. `sspl.tasks.TASKS` lists
    those that come along; one from a file of the user's is named FILE.py:CLASS.

    Examples:
        >>> [task.name for task in TASKS if task.needs_masks]
        ['pst', 'pct']
        >>> issubclass(PatchRotation, PretextTask)
        True
    """

    name: ClassVar[str]
    uses_crop: ClassVar[bool]
    needs_masks: ClassVar[bool]
    needs_labels: ClassVar[bool] = False
    Settings: ClassVar[type[BaseSettings]] = BaseSettings
    """Model of what `task.NAME` may hold; none of its own unless given."""

    uses_all_parameters: bool = False
    """Whether every parameter surely has a part in every loss; several processes look else."""

    def __init__(self, settings: BaseSettings, context: TaskContext) -> None:
        """Build the head for a network.

        Args:
            settings: of the task's own `Settings`.
            context: the network that the task becomes part of.
        """
        super().__init__()

    @abstractmethod
    def forward(
        self, backbone: Backbone, views: Views, maps: Maps, regions: Regions = None
    ) -> TaskResult:
        """Return the loss on a batch; `maps` are shared by the tasks with `uses_crop`."""

    @staticmethod
    def beside_crops(backbone: Backbone, maps: Maps) -> AbstractContextManager[object]:
        """Return the context in which pictures of another kind go through the backbone.

        Stage 2 feeds the backbone plain crops; where a task of the run does so too (`maps`),
        BatchNorm's running averages are those of the crops (docs/method.md#do-not-repeat-12).
        """
        return nullcontext() if maps is None else frozen_running_averages(backbone)


def accuracy_tally(logits: Tensor, target: Tensor, ignore: int = -100) -> Mean:
    """Return how often the largest of `logits` (n, k) is `target` (n,), `ignore` left out."""
    known = target != ignore
    hits = (logits.argmax(1) == target) & known
    return Mean(hits.sum(), known.sum())


@contextmanager
def frozen_running_averages(module: nn.Module) -> Iterator[None]:
    """Let a module's BatchNorm layers leave their running averages alone."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
