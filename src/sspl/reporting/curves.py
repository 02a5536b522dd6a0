"""Curves of a study: which methods a chart tells apart, and their points."""

from collections.abc import Collection, Sequence
from typing import Final

from sspl.reporting.result_table import Group

MOST_LINES: Final = 6
"""Methods that a chart of curves tells apart."""


def leading_methods(
    groups: Sequence[Group], methods: Sequence[str], pair: Collection[str]
) -> list[str]:
    """Return the methods that charts are to tell apart, in order.

    The pair, then those with cells at the most label counts, then the most accurate on average.
    """

    def standing(method: str) -> tuple[bool, int, float]:
        means = [m for g in groups if g.method == method and (m := g.mean("accuracy")) is not None]
        return method not in pair, -len(means), -sum(means)

    chosen = sorted(methods, key=standing)[:MOST_LINES]
    return [m for m in methods if m in chosen]


def curve_points(
    groups: Sequence[Group], method: str, figure: str
) -> tuple[list[tuple[float, float]], list[float | None]]:
    """Return (label count, mean in percent), and the spread over subsets in percent."""
    points, spreads = [], []
    for group in sorted((g for g in groups if g.method == method), key=lambda g: g.labels):
        mean, spread = group.mean(figure), group.spread(figure)
        if mean is not None:
            points.append((float(group.labels), 100 * mean))
            spreads.append(None if spread is None else 100 * spread)
    return points, spreads
