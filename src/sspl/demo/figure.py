"""The demo's picture: what the weights see in faces, figures, and whom each model finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from sspl.data.palette import overlay
from sspl.evaluation.comparison import ArmResult
from sspl.evaluation.predictions import Predictions
from sspl.io.files import atomic_path
from sspl.metrics.rankings import ranking_figures
from sspl.parsing.parser import Parser, Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

FACES: Final = 12
"""Shown with the parts that the weights see in them."""

SUREST: Final = 7
"""Faces shown of those that a model is surest of."""

ATTRIBUTES: Final = 4
"""Attributes of which they are shown."""

COLOURS: Final = ("#8a94a0", "#0b62a8")
Colour = tuple[int, int, int]
WHITE: Final[Colour] = (255, 255, 255)
RIGHT: Final[Colour] = (13, 122, 80)
WRONG: Final[Colour] = (240, 110, 20)
FRAME, GAP = 5, 4
"""In px of the faces."""


def draw_demo(
    path: Path,
    pictures: Sequence[Pixels],
    parser: Parser,
    said: Mapping[str, Predictions],
    results: Mapping[str, ArmResult],
    labels: int,
) -> None:
    """Write a PNG.

    Args:
        path: of the PNG.
        pictures: the test faces.
        parser: the weights, as a face parser.
        said: what the model of each of the two arms says of those faces; one subset.
        results: figures of both arms.
        labels: how many each has learnt from.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 10.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 4))[:, 0]
    left, right = bottom.subfigures(1, 2, squeeze=False)[0]
    _parts(top, pictures[:FACES], parser)
    _figures(left, next(iter(said.values())).attributes, results, labels)
    _surest(right, pictures, said)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def _parts(figure: "SubFigure", pictures: Sequence[Pixels], parser: Parser) -> None:
    figure.suptitle(
        "Drawn faces in a style new to the weights, and the parts that these see in them",
        fontsize=12,
    )
    classes = len(parser.taxonomy)
    masks = parser.parse(pictures)
    seen = [overlay(p, ids, classes, 0.75) for p, ids in zip(pictures, masks, strict=True)]
    for axes, row in zip(figure.subplots(2, 1), (pictures, seen), strict=True):
        _strip(axes, row, [WHITE] * len(row))


def _figures(
    figure: "SubFigure", names: Sequence[str], results: Mapping[str, ArmResult], labels: int
) -> None:
    axes = figure.subplots()
    (first, scratch), (second, trained) = results.items()
    # An attribute of which the test faces show one kind alone has no figure.
    shown = np.flatnonzero(~np.isnan(trained.balanced).all(axis=0))
    low, high = (100 * np.nanmean(r.balanced[:, shown], 0) for r in (scratch, trained))
    names = [names[i] for i in shown.tolist()]
    order = np.argsort(high)
    places = np.arange(len(order))
    axes.hlines(places, low[order], high[order], color="#c9d2dc", linewidth=2, zorder=1)
    for arm, values, colour in zip((first, second), (low, high), COLOURS, strict=True):
        mean = 100 * np.mean([row["balanced_accuracy"] for row in results[arm].means])
        axes.scatter(values[order], places, 34, colour, label=f"{arm}: mean {mean:.1f} %", zorder=2)
    axes.set_yticks(places, [names[i].replace("_", " ") for i in order], fontsize=9)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.axvline(50, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(min(48, np.nanmin(low) - 1), 101)
    axes.set_xlabel("balanced accuracy on the test faces, % (dotted: chance)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="lower right", fontsize=10)
    figure.suptitle(f"Learnt from {labels} labelled faces, the same training", fontsize=12)


def _surest(
    figure: "SubFigure", pictures: Sequence[Pixels], said: Mapping[str, Predictions]
) -> None:
    figure.suptitle(
        f"The {SUREST} test faces that each is surest of (green: right, orange: wrong)\n"
        f"for the {ATTRIBUTES} attributes that gain most in average precision",
        fontsize=12,
    )
    chosen = most_gained(*said.values())
    every = figure.subplots(2 * len(chosen), 1)
    for place, axes in enumerate(every):
        arm, attribute = list(said)[place % 2], chosen[place // 2]
        column = said[arm].attributes.index(attribute)
        first = np.argsort(-said[arm].probabilities[:, column], kind="stable")[:SUREST]
        right = said[arm].labels[first, column] == 1
        _strip(axes, [pictures[i] for i in first], [RIGHT if r else WRONG for r in right])
        name = attribute.replace("_", " ")
        axes.set_title(f"{name}, {arm}: {right.sum()} of {len(first)}", fontsize=10, loc="left")


def most_gained(before: Predictions, after: Predictions) -> list[str]:
    """Return the attributes whose average precision gains most, the most first.

    Those with fewer positives than faces are shown of are left out.
    """
    gains = {}
    for column, name in enumerate(before.attributes):
        truth = before.labels[:, column] == 1
        if truth.sum() >= SUREST:
            once = np.ones((len(truth), 1))
            low, high = (
                ranking_figures(p.probabilities[:, column], truth, once)[0][0]
                for p in (before, after)
            )
            gains[name] = float(high - low)
    return sorted(gains, key=lambda name: -gains[name])[:ATTRIBUTES]


def _strip(axes: "Axes", pictures: Sequence[Pixels], colours: Sequence[Colour]) -> None:
    """Show pictures of one size side by side, each in a frame."""
    framed = []
    for picture, colour in zip(pictures, colours, strict=True):
        side = len(picture) + 2 * FRAME
        tile = np.full((side, side + GAP, 3), WHITE, np.uint8)
        tile[:, :side] = colour
        tile[FRAME:-FRAME, FRAME : side - FRAME] = picture
        framed.append(tile)
    axes.imshow(np.concatenate(framed, axis=1))
    axes.set_axis_off()
