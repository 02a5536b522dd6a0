"""The demo's picture: faces, masks and what pre-training changes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sspl.data.images import read_image, read_mask
from sspl.data.palette import overlay
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.evaluation.comparison import ArmResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#9aa5b1", "#2563eb")
FACES = 10


def draw_comparison(
    path: Path,
    faces: Path,
    masks: Path,
    names: tuple[str, ...],
    results: dict[str, ArmResult],
    labels: int,
) -> None:
    """Write a PNG: sample faces, their parsed masks, balanced accuracy per attribute and arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.2), layout="constrained")
    grid = figure.add_gridspec(3, FACES, height_ratios=(1, 1, 4.6))
    classes = len(built_in_taxonomy("celebamask19"))
    for column in range(FACES):
        name = f"{column + 1:06d}"
        picture = np.asarray(read_image(faces / "img_align_celeba" / f"{name}.jpg"))
        ids = np.asarray(read_mask(masks / f"{name}.png", None, classes))
        for row, pixels in enumerate((picture, overlay(picture, ids, classes, 0.75))):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(pixels)
            axes.set_axis_off()
    _bars(figure.add_subplot(grid[2, :]), names, results, labels)
    figure.suptitle("Synthetic faces, what the parser sees, and what pre-training is worth")
    figure.savefig(path, dpi=110)


def _bars(axes: "Axes", names: tuple[str, ...], results: dict[str, ArmResult], labels: int) -> None:
    (first, scratch), (second, trained) = results.items()
    gain = np.nan_to_num(np.nanmean(trained.balanced, 0) - np.nanmean(scratch.balanced, 0))
    order = np.argsort(gain)
    places = np.arange(len(order))
    for offset, (arm, result) in zip((-0.2, 0.2), results.items(), strict=True):
        mean = 100 * np.nanmean(result.balanced, 0)[order]
        spread = 100 * np.nanstd(result.balanced, 0)[order]
        mean_all = 100 * np.mean([row["balanced_accuracy"] for row in result.means])
        axes.barh(
            places + offset,
            mean,
            0.4,
            xerr=spread,
            color=COLOURS[offset > 0],
            error_kw={"elinewidth": 0.8},
            label=f"{arm}: mean {mean_all:.1f} %",
        )
    axes.set_yticks(places, [names[i].replace("_", " ") for i in order], fontsize=8)
    axes.axvline(50, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(40, 100)
    axes.set_xlabel(
        f"balanced accuracy on the test faces, {labels} labels, % "
        "(bars: spread over label subsets; dotted: chance)"
    )
    axes.legend(loc="upper right", fontsize=9)
    axes.set_title(f"sorted by the gain of {second} over {first}", fontsize=9)
