"""Figures of merit of a segmentation, as pure functions."""

import torch
from torch import Tensor


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
    known = target < classes
    pairs = target[known] * classes + prediction[known]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes).cpu()


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
