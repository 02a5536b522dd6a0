"""What a cell costs, counted in floating-point operations.

The operations of one picture through each network are counted by torch without computing it; a
backward pass is taken for two forward ones, as is usual. Linear heads, reading and augmenting are
left out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from sspl.domain.taxonomy import load_taxonomy
from sspl.models.backbones import build_backbone
from sspl.models.branches import Branches
from sspl.models.network_settings import Architecture, BackboneSettings, SegmentationSettings
from sspl.models.segmentation import SegmentationHead
from sspl.study.cells import StudyPlan
from sspl.study.study_settings import CostSettings
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

TRAINING: Final = 3
"""Passes that a step of training counts for: forward, and two for backward."""

OF_CROP: Final = {"pst", "pct"}
"""Tasks that read the maps of the shared crop; another has a pass of its own."""

TWO_VIEWS: Final = {"simclr": 2, "byol": 4}
"""Passes of tasks that look at two views of a face."""

GIGA: Final = 1e9


def stage1_minutes(each: StudyPlan, cost: CostSettings) -> float:
    """Return the minutes of a cell's stage 1."""
    assert each.pretrain is not None
    settings = each.pretrain
    operations = stage1_gflop(settings) * TRAINING * cost.unlabelled * settings.optim.epochs
    return operations / cost.gflops / 60


def cell_minutes(each: StudyPlan, cost: CostSettings) -> float:
    """Return the minutes of a cell without its stage 1: learning, looking at val, the test."""
    settings, labels = each.finetune, each.cell.labels
    one = stage2_gflop(settings)
    seen = labels + cost.val + cost.test
    if each.cell.protocol == "finetune":
        looks = -(-settings.optim.epochs // settings.evaluate_every)
        judged = (1 + settings.flip_average) * (looks * cost.val + cost.val + cost.test)
        seen = TRAINING * labels * settings.optim.epochs + judged
    return one * seen / cost.gflops / 60


def stage1_gflop(settings: PretrainSettings) -> float:
    """Return the billions of operations of one face in stage 1, forward alone."""
    tasks = set(settings.tasks)
    plain = _network_gflop(settings.backbone, "sspl", settings.input_size)
    total = plain * sum(TWO_VIEWS.get(task, 1) for task in tasks - OF_CROP - {"prt"})
    if "prt" in tasks:
        patch = settings.task["prt"].patch_size or settings.input_size
        total += _network_gflop(settings.backbone, "sspl", patch)
    if tasks & OF_CROP:
        total += _network_gflop(settings.backbone, settings.architecture, settings.input_size)
    if "pst" in tasks:
        classes = len(load_taxonomy(settings.taxonomy))
        size = settings.input_size
        total += _head_gflop(settings.backbone, settings.segmentation, size, classes)
    return total


def stage2_gflop(settings: FinetuneSettings) -> float:
    """Return the billions of operations of one face in stage 2, forward alone."""
    return _network_gflop(settings.backbone, settings.architecture, settings.input_size)


@cache
def _network_gflop(backbone: BackboneSettings, architecture: Architecture, size: int) -> float:
    with _uncomputed() as counter:
        network = build_backbone(backbone)
        branches = Branches(network.widths) if architecture == "splnet" else None
        with counter:
            maps = network(torch.empty(2, 3, size, size))
            if branches is not None:
                branches.maps(maps)
    return counter.get_total_flops() / 2 / GIGA


@cache
def _head_gflop(
    backbone: BackboneSettings, segmentation: SegmentationSettings, size: int, classes: int
) -> float:
    with _uncomputed() as counter:
        network = build_backbone(backbone)
        head = SegmentationHead(segmentation, network.widths, classes)
        maps = network(torch.empty(2, 3, size, size))
        with counter:
            head(maps)
    return counter.get_total_flops() / 2 / GIGA


@contextmanager
def _uncomputed() -> Iterator[FlopCounterMode]:
    """Make what is built inside without memory, and run it without arithmetic."""
    with torch.device("meta"), torch.no_grad():
        yield FlopCounterMode(display=False)
