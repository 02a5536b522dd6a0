"""What a parser's test says, in figures."""

from typing import Any, Final

import torch
from torch import Tensor

from sspl.domain.taxonomy import Taxonomy, called
from sspl.metrics.pixels import intersection_over_union, mean_iou

BIG_CLASSES: Final = (("background",), ("skin",), ("hair",), ("nose",), ("neck", "cloth"))
"""Classes that cover most of a face picture; each group counts as one class."""


def merge_classes(confusion: Tensor, groups: list[list[int]]) -> Tensor:
    """Return a confusion matrix in which each group is one class, the rest one more."""
    rest = sorted(set(range(len(confusion))) - {i for group in groups for i in group})
    everything = [*groups, rest]
    merged = torch.zeros(len(everything), len(everything), dtype=confusion.dtype)
    for row, rows in enumerate(everything):
        for column, columns in enumerate(everything):
            merged[row, column] = confusion[rows][:, columns].sum()
    return merged


def parser_figures(confusion: Tensor, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return IoU per class, their mean over the classes present, and the big classes' mean."""
    iou = intersection_over_union(confusion)
    pixels = confusion.sum(1)
    figures: dict[str, Any] = {
        "mean_iou": round(mean_iou(confusion), 4),
        "pixel_accuracy": round(float(confusion.diagonal().sum() / confusion.sum()), 4),
        "iou": {
            name: round(float(iou[i]), 4) if pixels[i] > 0 else None
            for i, name in enumerate(taxonomy.classes)
        },
        "pixel_share": {
            name: round(float(pixels[i] / pixels.sum()), 5)
            for i, name in enumerate(taxonomy.classes)
        },
    }
    groups = [[taxonomy.index(c) for c in g if called(c, taxonomy.classes)] for g in BIG_CLASSES]
    if all(groups):
        merged = intersection_over_union(merge_classes(confusion, groups))[: len(groups)]
        figures["big_iou"] = {
            "+".join(g): None if v.isnan() else round(float(v), 4)
            for g, v in zip(BIG_CLASSES, merged, strict=True)
        }
        figures["mean_big_iou"] = round(float(merged.nanmean()), 4)
    return figures


def parser_table(figures: dict[str, Any]) -> str:
    """Return the figures as a plain table."""
    lines = [f"{'class':<12} {'IoU':>6} {'pixels':>8}"]
    for name, iou in figures["iou"].items():
        shown = "absent" if iou is None else f"{iou:.3f}"
        lines.append(f"{name:<12} {shown:>6} {100 * figures['pixel_share'][name]:>7.2f}%")
    lines.append(f"mean IoU over classes present {figures['mean_iou']:.4f}")
    if "mean_big_iou" in figures:
        lines.append(f"mean IoU over big classes     {figures['mean_big_iou']:.4f}")
    lines.append(f"pixel accuracy                {figures['pixel_accuracy']:.4f}")
    return "\n".join(lines)
