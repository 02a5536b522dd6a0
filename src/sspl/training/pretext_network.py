"""The network of stage 1, one shared backbone and one head for each task, and what it is shown."""

import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from sspl.data.canvases import CanvasBatch
from sspl.data.images import Box
from sspl.data.transforms import draw_geometry, jitter_colour, normalise, warp_images, warp_masks
from sspl.distributed.random import sent
from sspl.domain.regions import REGIONS, WHOLE
from sspl.domain.taxonomy import Taxonomy, load_taxonomy
from sspl.metrics.tallies import Mean, Tally
from sspl.models.backbones import build_backbone
from sspl.models.backbones.base import Backbone, pooled
from sspl.models.branches import Branches, Fusion
from sspl.tasks import PretextTask, TaskContext, TaskResult, Views
from sspl.tasks.loading import build_tasks
from sspl.training.adversarial import FUSED
from sspl.training.backbone_weights import load_backbone
from sspl.training.stage_settings import PretrainSettings

log = logging.getLogger(__name__)

UNLABELLED: Final[Mapping[str, Tensor]] = {}


class Pretrainer(nn.Module):
    """The network of stage 1.

    With branches it is the `splnet` architecture, without the `sspl` one. `fusion` is there for the
    adversarial term alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        tasks: dict[str, PretextTask],
        branches: Branches | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.branches, self.fusion = branches, fusion
        self.tasks = nn.ModuleDict(tasks)
        self.uses_crop = any(task.uses_crop for task in tasks.values())

    def forward(self, views: Views) -> tuple[dict[str, TaskResult], Mapping[str, Tensor] | None]:
        """Return each task's loss and tallies on a batch, and what the adversary looks at, if any.

        That is the whole face's feature and the fused one, float32 (n, channels).
        """
        maps = self.backbone(views.crop) if self.uses_crop else None
        regions: dict[str, Tensor] | None = None
        compared = None
        if self.branches is not None and maps is not None:
            last = self.branches.maps(maps)
            regions = {region: pooled([feature]) for region, feature in last.items()}
            if self.fusion is not None:
                compared = {WHOLE: regions[WHOLE], FUSED: self.fusion(last)}
        results = {n: task(self.backbone, views, maps, regions) for n, task in self.tasks.items()}
        return results, compared

    def compile_parts(self) -> None:
        """Compile what all tasks share."""
        self.backbone.compile()
        if self.branches is not None:
            self.branches.compile_blocks()

    def all_used(self, taxonomy: Taxonomy) -> bool:
        """Tell whether every parameter surely has a part in the loss."""
        return all(task.uses_all_parameters for task in self.tasks.values()) and (
            self.branches is None or all(map(taxonomy.group, REGIONS))
        )


def task_context(settings: PretrainSettings, backbone: Backbone, taxonomy: Taxonomy) -> TaskContext:
    """Return what the tasks of a run are told of its network."""
    return TaskContext(
        backbone, taxonomy, settings.input_size, settings.architecture, settings.segmentation
    )


def build_network(settings: PretrainSettings, taxonomy: Taxonomy) -> Pretrainer:
    """Build the architecture that the settings name."""
    backbone = build_backbone(settings.backbone)
    if settings.backbone_weights is not None:
        log.info(load_backbone(backbone, settings.backbone_weights).text())
    tasks = build_tasks(settings.tasks, settings.task, task_context(settings, backbone, taxonomy))
    if settings.architecture == "sspl":
        return Pretrainer(backbone, tasks)
    fusion = Fusion(backbone.widths[-1]) if settings.adversarial.weight else None
    return Pretrainer(backbone, tasks, Branches(backbone.widths), fusion)


def pretrained_metadata(
    settings: PretrainSettings, network: Pretrainer, faces: int, boxes: Collection[Box]
) -> dict[str, Any]:
    """Return what a file of stage-1 weights says of them.

    `faces` is how many were learnt from, `boxes` what was used of their pictures.
    """
    taxonomy = load_taxonomy(settings.taxonomy)
    return {
        "kind": "pretrained",
        "architecture": settings.architecture,
        "backbone": settings.backbone.model_dump(mode="json"),
        "segmentation": settings.segmentation.model_dump(mode="json"),
        "canvas": settings.canvas,
        "input_size": settings.input_size,
        "taxonomy": taxonomy.name,
        "classes": taxonomy.classes,
        "tasks": [str(name) for name in network.tasks],
        "faces": faces,
        "box": next(iter(boxes)) if len(set(boxes)) == 1 else None,
    }


def make_views(
    batch: CanvasBatch,
    settings: PretrainSettings,
    mirror: Tensor,
    generator: torch.Generator,
    device: torch.device,
    labels: Mapping[str, Tensor] = UNLABELLED,
) -> Views:
    """Draw one random crop of each face of a batch, and of its mask.

    `labels` are int8 (faces,) by attribute, of all faces.
    """
    images = sent(batch.images, device)
    masks = None if batch.masks is None else sent(batch.masks, device)
    geometry = draw_geometry(len(images), settings.geometry, generator).to(device)
    crop = warp_images(images, geometry, settings.input_size)
    crop = normalise(jitter_colour(crop, settings.colour, generator))
    crop_mask = None if masks is None else warp_masks(masks, geometry, settings.input_size, mirror)
    crop = crop.contiguous(memory_format=torch.channels_last)
    known = {name: sent(column[batch.index], device) for name, column in labels.items()}
    return Views(images, masks, crop, crop_mask, generator, known)


def step_figures(results: Mapping[str, TaskResult], total: Tensor, faces: int) -> dict[str, Tally]:
    """Return what a step over `faces` faces says: the total loss, each task's and its metrics."""
    figures: dict[str, Tally] = {"loss": Mean.of(total, faces)}
    for name, result in results.items():
        figures[f"{name}/loss"] = Mean.of(result.loss, faces)
        figures |= {f"{name}/{metric}": tally for metric, tally in result.tallies.items()}
    return figures
