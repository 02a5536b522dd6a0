"""Figures of merit of a segmentation, as pure functions."""

from typing import Final

import torch
from torch import Tensor

TABLES: Final = 64


def confusion_matrix(target: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Count pixels: int64 (classes, classes), rows true, columns predicted.

    `target` and `prediction` are integer tensors of one shape; places whose target is not a
    class id (such as `UNKNOWN`) are left out.

    Examples:
        >>> true, said = torch.tensor([0, 0, 1, 255]), torch.tensor([0, 1, 1, 0])
        >>> confusion_matrix(true, said, classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    target, prediction = target.flatten().long(), prediction.flatten()
    kinds = classes * classes
    pairs = (target * classes + prediction).masked_fill(target >= classes, kinds)
    return count_ids(pairs, kinds + 1)[:kinds].view(classes, classes)


def count_ids(ids: Tensor, kinds: int) -> Tensor:
    """Count int64 ids below `kinds`: int64 (kinds,), where the ids are.

    Examples:
        >>> count_ids(torch.tensor([2, 0, 2]), kinds=4).tolist()
        [1, 0, 2, 0]
    """
    # CUDA's bincount waits for the largest id; MPS has no other way.
    if ids.device.type in {"cpu", "mps"}:
        return torch.bincount(ids.flatten(), minlength=kinds)
    return _count_apart(ids.flatten(), kinds)


def _count_apart(ids: Tensor, kinds: int) -> Tensor:
    """Count in many tables at a time, so that threads seldom wait for the same number."""
    table = torch.arange(len(ids), device=ids.device) % TABLES
    tables = torch.zeros(TABLES * kinds, dtype=torch.int64, device=ids.device)
    ones = torch.ones_like(ids[:1]).expand(len(ids))
    return tables.scatter_add_(0, table * kinds + ids, ones).view(TABLES, kinds).sum(0)


def intersection_over_union(confusion: Tensor) -> Tensor:
    """Return float64 (classes,): IoU per class, NaN where a class neither occurs nor is predicted.

    Jaccard index: diagonal / (row sum + column sum - diagonal).

    Examples:
        >>> intersection_over_union(torch.tensor([[1, 1], [0, 1]])).tolist()
        [0.5, 0.5]
    """
    counts = confusion.double()
    hit = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hit
    return hit / union


def mean_iou(confusion: Tensor) -> float:
    """Return the mean IoU over the classes that occur in the targets.

    Examples:
        >>> mean_iou(torch.tensor([[3, 1], [0, 1]]))
        0.625
    """
    present = confusion.sum(1) > 0
    return float(intersection_over_union(confusion)[present].mean())
