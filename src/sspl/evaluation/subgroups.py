"""Figures for groups of people: does a model serve some of them worse than others?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.records import IDENTITY, MISSING, FaceSet
from sspl.errors import SettingsError
from sspl.evaluation.predictions import Predictions
from sspl.evaluation.statistics import (
    Array,
    DecisionCounts,
    Resampling,
    interval,
    outcomes,
)
from sspl.metrics.rankings import ratio

FEWEST: Final = 30
"""Cases below which a figure of a group is marked and has no part in a gap.

Cases are what the figure is a share of: faces for accuracy, positives for the true positive rate,
negatives for the false positive rate, the fewer of the two for balanced accuracy.
"""

DEFAULT_ATTRIBUTES: Final = ("Male", "Young")
MOST_GROUPS: Final = 20
Enough = NDArray[np.bool_]
SUBGROUP_FIGURES: Final = (
    "accuracy",
    "balanced_accuracy",
    "true_positive_rate",
    "false_positive_rate",
)


@dataclass(frozen=True)
class Grouping:
    """One way to divide the faces.

    Args:
        by: name of the attribute or group column.
        groups: names, in order.
        member: int64 (faces,), the group of each face, -1 where unknown.
    """

    by: str
    groups: tuple[str, ...]
    member: NDArray[np.int64]


def attribute_members(name: str, labels: NDArray[np.int8]) -> tuple[str, ...]:
    """Return the group of each face by one attribute's labels (faces,)."""
    words = {1: name, 0: f"not {name}", MISSING: ""}
    return tuple(words[int(label)] for label in labels)


def groups_of(faces: FaceSet, attributes: Sequence[str], by: Sequence[str]) -> dict[str, Any]:
    """Return the group columns of `faces`, and as more of them labels to report by.

    These are labels outside the model's `attributes`: `Male`, `Young` and what `by` names.
    Raises `SettingsError` for a name in `by` that is neither group nor label.
    """
    known = (*faces.groups, *faces.schema.names, *attributes)
    for name in by:
        if name not in known:
            there = ", ".join(dict.fromkeys(k for k in known if k != IDENTITY))
            raise SettingsError(f"--by {name}: {faces.source} has no such column; it has {there}.")
    wanted = [n for n in (*DEFAULT_ATTRIBUTES, *by) if n in faces.schema.names]
    labels = {n: faces.labels[:, faces.schema.index(n)] for n in wanted if n not in attributes}
    return dict(faces.groups) | {n: attribute_members(n, column) for n, column in labels.items()}


def groupings(predictions: Predictions, by: Sequence[str] = ()) -> list[Grouping]:
    """Return the ways in which to divide the faces.

    Unless `by` names others: the attributes `Male` and `Young` where there are such, and every
    group column with at most 20 groups, except for the identity. One with fewer than two groups
    is left out, and so is the only attribute there is: nothing would be left to compare. Raises
    `SettingsError` for a name in `by` that does not divide the faces so.
    """
    columns = dict(predictions.groups)
    for name in (*DEFAULT_ATTRIBUTES, *by):
        if name in predictions.attributes and len(predictions.attributes) > 1:
            place = predictions.attributes.index(name)
            columns[name] = attribute_members(name, predictions.labels[:, place])
    default: list[str] = [n for n in DEFAULT_ATTRIBUTES if n in columns]
    default += [n for n in predictions.groups if n not in (IDENTITY, *default)]
    found = []
    for name in by or default:
        if name not in columns:
            raise SettingsError(f"--by {name}: there is no such column; use {', '.join(columns)}.")
        groups = tuple(sorted({value for value in columns[name] if value}))
        if 2 <= len(groups) <= MOST_GROUPS:
            place_of = {value: i for i, value in enumerate(groups)}
            member = np.array([place_of.get(value, -1) for value in columns[name]])
            found.append(Grouping(name, groups, member))
        elif by:
            raise SettingsError(
                f"--by {name}: it has {len(groups)} groups here; from 2 to {MOST_GROUPS} can be "
                "reported."
            )
    return found


def subgroup_summary(
    predictions: Predictions, grouping: Grouping, resampling: Resampling
) -> dict[str, Any]:
    """Return the figures of every group and the gaps between groups, JSON-able.

    `attributes` are all but the one that divides the faces. `mean` compares the groups that have
    enough cases for at least half as many attributes as any group has, over those attributes for
    which all of them have.
    """
    kept = [i for i, name in enumerate(predictions.attributes) if name != grouping.by]
    table = outcomes(predictions)[:, :, kept]
    inside = grouping.member[:, None] == np.arange(len(grouping.groups))
    # (4, faces, groups, attributes), and its sums over all faces and over those of each resample.
    split = table[:, :, None, :] & inside[None, :, :, None]
    shape = (len(table), *split.shape[2:])
    flat = split.transpose(1, 0, 2, 3).reshape(len(predictions), -1)
    counts = DecisionCounts(*split.sum(1).astype(np.float64))
    sums = resampling.sums(flat).reshape(-1, *shape)
    resampled = DecisionCounts(*sums.transpose(1, 0, 2, 3))
    values = {name: getattr(counts, name)() for name in SUBGROUP_FIGURES}
    samples = {name: getattr(resampled, name)() for name in SUBGROUP_FIGURES}
    alike = (accuracy_if_alike(counts), accuracy_if_alike(resampled))
    enough = {name: cases >= FEWEST for name, cases in _cases(counts).items()}
    names = [predictions.attributes[i] for i in kept]
    return {
        "by": grouping.by,
        "fewest": FEWEST,
        "groups": {g: int(inside[:, i].sum()) for i, g in enumerate(grouping.groups)},
        "mean": _mean_summary(grouping, names, values, samples, enough, alike),
        "attributes": {
            name: _attribute_summary(grouping, i, counts, values, samples, enough, alike)
            for i, name in enumerate(names)
        },
    }


def accuracy_if_alike(counts: DecisionCounts) -> Array:
    """Return the accuracy that groups would have if the model told the faces of all apart alike.

    Each group keeps its own share of positives and has the true and false positive rates of all
    groups together, so that these accuracies differ by base rates alone. The arrays of `counts`
    are (..., groups, attributes).
    """
    found = ratio(counts.true_positives.sum(-2), counts.positives.sum(-2))[..., None, :]
    mistaken = ratio(counts.false_positives.sum(-2), counts.negatives.sum(-2))[..., None, :]
    # A rate that is not defined is that of no face.
    right = counts.positives * np.nan_to_num(found) + counts.negatives * np.nan_to_num(1 - mistaken)
    return ratio(right, counts.positives + counts.negatives)


def _cases(counts: DecisionCounts) -> dict[str, Array]:
    positives, negatives = counts.positives, counts.negatives
    cases = (positives + negatives, np.minimum(positives, negatives), positives, negatives)
    return dict(zip(SUBGROUP_FIGURES, cases, strict=True))


def _attribute_summary(
    grouping: Grouping,
    column: int,
    counts: DecisionCounts,
    values: Mapping[str, Array],
    samples: Mapping[str, Array],
    enough: Mapping[str, Enough],
    alike: tuple[Array, Array],
) -> dict[str, Any]:
    groups = {}
    for i, group in enumerate(grouping.groups):
        positives, negatives = counts.positives[i, column], counts.negatives[i, column]
        groups[group] = {
            "positives": int(positives),
            "negatives": int(negatives),
            **{name: _number(values[name][i, column]) for name in SUBGROUP_FIGURES},
            "too_few_for": [name for name in SUBGROUP_FIGURES if not enough[name][i, column]],
        }
    gaps = {
        name: gap(
            grouping.groups,
            np.where(enough[name][:, column], values[name][:, column], np.nan),
            samples[name][:, :, column],
            (alike[0][:, column], alike[1][:, :, column]) if name == "accuracy" else None,
        )
        for name in SUBGROUP_FIGURES
    }
    return {"groups": groups, "gaps": gaps}


def _mean_summary(
    grouping: Grouping,
    names: Sequence[str],
    values: Mapping[str, Array],
    samples: Mapping[str, Array],
    enough: Mapping[str, Enough],
    alike: tuple[Array, Array],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SUBGROUP_FIGURES:
        able = enough[name].sum(1)
        compared = np.flatnonzero((able > 0) & (2 * able >= able.max()))
        shared = np.flatnonzero(enough[name][compared].all(0))
        if len(compared) < 2 or not len(shared):
            found[name] = {"attributes": [], "groups": {}, "gap": None}
            continue
        groups = [grouping.groups[i] for i in compared.tolist()]
        means = values[name][compared][:, shared].mean(1)
        each = samples[name][:, compared][:, :, shared].mean(2)
        same = [a[..., compared, :][..., shared].mean(-1) for a in alike]
        found[name] = {
            "attributes": [names[i] for i in shared.tolist()],
            "groups": {g: float(m) for g, m in zip(groups, means, strict=True)},
            "gap": gap(groups, means, each, (same[0], same[1]) if name == "accuracy" else None),
        }
    return found


def gap(
    groups: Sequence[str],
    values: Array,
    samples: Array,
    alike: tuple[Array, Array] | None = None,
) -> dict[str, Any] | None:
    """Return the largest difference between two groups, with its bootstrap interval.

    The two groups are those with the highest and the lowest value, so the difference is positive;
    in the resamples the same two are compared, and their difference may be negative. With more
    than two groups, to look for the largest gap is to overstate it a little.

    Args:
        groups: names.
        values: (groups,), NaN where a group is not to be compared.
        samples: (resamples, groups).
        alike: values and samples as they would be if the groups differed in base rates alone; the
            gap that those have is given as `base_rates`, the interval of the rest as `beyond`.
    """
    compared = np.flatnonzero(~np.isnan(values))
    if len(compared) < 2:
        return None
    high = compared[np.argmax(values[compared])]
    low = compared[len(compared) - 1 - np.argmin(values[compared][::-1])]
    found = {
        "high": groups[high],
        "low": groups[low],
        "gap": float(values[high] - values[low]),
        "interval": interval(samples[:, high] - samples[:, low]),
    }
    if alike is not None:
        rest = samples - alike[1]
        found["base_rates"] = float(alike[0][high] - alike[0][low])
        found["beyond"] = interval(rest[:, high] - rest[:, low])
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def is_clear(difference: Mapping[str, Any] | None) -> bool:
    """Tell whether a gap's interval is above zero, and that of what base rates do not explain."""
    if not difference:
        return False
    bounds = difference["interval"]
    return all(b is not None and b[0] > 0 for b in (bounds, difference.get("beyond", bounds)))


def subgroup_rows(summary: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the rows of a CSV: one for each grouping, attribute and group."""
    return [
        (
            grouping["by"],
            attribute,
            group,
            row["positives"],
            row["negatives"],
            *(row[name] for name in SUBGROUP_FIGURES),
            " ".join(row["too_few_for"]),
        )
        for grouping in summary
        for attribute, content in grouping["attributes"].items()
        for group, row in content["groups"].items()
    ]


ROW_TITLES: Final = (
    "by",
    "attribute",
    "group",
    "positives",
    "negatives",
    *SUBGROUP_FIGURES,
    "too_few_for",
)


def subgroup_lines(summary: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a short summary: the mean of each group and the largest gap between groups."""
    lines = []
    for grouping in summary:
        sizes = ", ".join(f"{group} {size:,}" for group, size in grouping["groups"].items())
        lines.append(f"by {grouping['by']} ({sizes} faces), balanced accuracy")
        mean = grouping["mean"]["balanced_accuracy"]
        if mean["gap"] is None:
            lines.append(f"  no attribute has {grouping['fewest']} of both kinds in two groups")
        else:
            cells = ", ".join(f"{g} {100 * v:.2f}" for g, v in mean["groups"].items())
            lines.append(
                f"  mean of {len(mean['attributes'])} attributes: {cells}; {_gap(mean['gap'])}"
            )
        gaps = {
            name: content["gaps"]["balanced_accuracy"]
            for name, content in grouping["attributes"].items()
            if content["gaps"]["balanced_accuracy"]
        }
        if gaps:
            widest = max(gaps, key=lambda name: float(gaps[name]["gap"]))
            clear = sum(is_clear(g) for g in gaps.values())
            lines.append(
                f"  largest: {widest}, {gaps[widest]['low']} below {gaps[widest]['high']}, "
                f"{_gap(gaps[widest])}; interval excludes zero on {clear} of {len(gaps)} attributes"
            )
    return lines


def _gap(difference: Mapping[str, Any]) -> str:
    text = f"gap {100 * difference['gap']:.2f}"
    bounds = difference["interval"]
    return text if bounds is None else f"{text} [{100 * bounds[0]:.2f}, {100 * bounds[1]:.2f}]"
