"""Two models on the same faces: is one better than the other?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import norm

from sspl.errors import DataError
from sspl.evaluation.predictions import Predictions
from sspl.evaluation.statistics import (
    LEVEL,
    RESAMPLED,
    RESAMPLES,
    Array,
    Resampling,
    drawn_text,
    interval,
    mean_over_attributes,
    point_figures,
    resampled_figures,
    resampling_of,
)

TITLES: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "average_precision": "average precision",
    "auc": "AUC",
}


def on_the_same_faces(a: Predictions, b: Predictions, where: str) -> Predictions:
    """Return `b` with its faces and attributes in the order of `a`.

    Attributes that only one of them has are left out by `shared_attributes` beforehand. Raises
    `DataError`, beginning with `where`, when the faces or their labels differ.
    """
    places = {name: i for i, name in enumerate(b.names)}
    if len(places) != len(b) or set(places) != set(a.names):
        raise DataError(f"{where}: the two were judged on different faces; judge both on the same.")
    order = [places[name] for name in a.names]
    b = b.select(order, a.attributes)
    if not np.array_equal(a.labels, b.labels):
        face, attribute = np.argwhere(a.labels != b.labels)[0]
        raise DataError(
            f"{where}: the two have different labels, the first for '{a.names[face]}', "
            f"{a.attributes[attribute]}; judge both on the same data."
        )
    return b


def shared_attributes(a: Predictions, b: Predictions, where: str) -> tuple[str, ...]:
    """Return the attributes of both, in the order of `a`; raise `DataError` if there are none."""
    shared = tuple(name for name in a.attributes if name in b.attributes)
    if not shared:
        raise DataError(f"{where}: the two have no attribute in common.")
    return shared


@dataclass(frozen=True)
class Sampled:
    """Figures of one set of predictions.

    Args:
        attributes: their names.
        points: for each figure float64 (attributes,), NaN where it is not defined.
        samples: for each figure float64 (resamples, attributes).
    """

    attributes: tuple[str, ...]
    points: Mapping[str, Array]
    samples: Mapping[str, Array]


def sample(
    predictions: Predictions, resampling: Resampling, figures: Sequence[str] = RESAMPLED
) -> Sampled:
    """Return the figures of predictions and of every resample of their faces."""
    points = point_figures(predictions, figures)
    samples = resampled_figures(predictions, resampling, figures)
    return Sampled(predictions.attributes, points, samples)


def differences(
    a: Sequence[Sampled], b: Sequence[Sampled], resampling: Resampling
) -> dict[str, Any]:
    """Compare two methods that were sampled on the same faces in the same resamples.

    `a` and `b` hold one set for each label subset, in the same order. Where there are several,
    every resample draws subsets too, the same for both. Returns JSON-able differences of the
    `mean` and of the `attributes`; `better` is "a" or "b" where the interval excludes zero, else
    None. `p` is that of no difference; an attribute's `holm` is it after Holm's correction for all
    attributes.
    """
    size = (resampling.count, len(a))
    draws = np.random.default_rng(resampling.seed + 1).integers(len(a), size=size)
    figures = list(a[0].points)
    samples = {name: np.zeros_like(a[0].samples[name]) for name in figures}
    for subset, (one, other) in enumerate(zip(a, b, strict=True)):
        share = ((draws == subset).sum(1) / len(a))[:, None]
        for name in figures:
            samples[name] += share * (one.samples[name] - other.samples[name])
    points_a, points_b = _mean_points(a), _mean_points(b)
    found: dict[str, Any] = {
        "mean": {
            name: _difference(
                float(np.nanmean(points_a[name])),
                float(np.nanmean(points_b[name])),
                mean_over_attributes(samples[name]),
            )
            for name in figures
        },
        "attributes": {
            attribute: {
                name: _difference(
                    float(points_a[name][i]), float(points_b[name][i]), samples[name][:, i]
                )
                for name in figures
            }
            for i, attribute in enumerate(a[0].attributes)
        },
    }
    for name in figures:
        known = [f[name] for f in found["attributes"].values() if f[name] is not None]
        for each, corrected in zip(known, holm([f["p"] for f in known]), strict=True):
            each["holm"] = corrected
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for how many there are (Holm, Scand. J. Statist. 1979).

    One that stays below a level is significant at it, and among all of them at most that share of
    families has any false one.

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected, largest = np.empty(len(p_values)), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected.tolist()


def p_value(difference: float, samples: Array) -> float:
    """Return the two-sided p of no difference, its resamples (n,) taken to be normal.

    Counted, they could not fall below one in their number, which Holm's correction would make a
    multiple of.
    """
    deviation = float(np.nanstd(samples))
    if deviation == 0:
        return float(difference == 0)
    return float(2 * norm.sf(abs(difference) / deviation))


def _mean_points(side: Sequence[Sampled]) -> dict[str, Array]:
    return {name: np.mean([s.points[name] for s in side], axis=0) for name in side[0].points}


def paired_summary(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    where: str,
    resamples: int = RESAMPLES,
    figures: Sequence[str] = RESAMPLED,
) -> dict[str, Any]:
    """Compare two methods on the same faces; return a JSON-able summary, as `differences` does.

    `a` and `b` hold one set of predictions for each label subset, in the same order. Attributes
    that only one has are left out. Raises `DataError`, beginning with `where`, when the faces or
    labels differ.
    """
    attributes = shared_attributes(a[0], b[0], where)
    first = a[0].select(range(len(a[0])), attributes)
    if len(a) != len(b):
        raise DataError(f"{where}: {len(a)} label subsets of one, {len(b)} of the other.")
    resampling = resampling_of(first, resamples)
    sampled_a, sampled_b = (
        [sample(on_the_same_faces(first, p, where), resampling, figures) for p in side]
        for side in (a, b)
    )
    return {
        "faces": len(first),
        "subsets": len(a),
        "level": LEVEL,
        "resamples": resamples,
        "drawn": resampling.unit_name,
        "units": resampling.units,
        **differences(sampled_a, sampled_b, resampling),
    }


def _difference(a: float, b: float, samples: Array) -> dict[str, Any] | None:
    if np.isnan(a) or np.isnan(b):
        return None
    bounds = interval(samples)
    better = None
    if bounds is not None and (bounds[0] > 0 or bounds[1] < 0):
        better = "a" if bounds[0] > 0 else "b"
    p = 1.0 if bounds is None else p_value(a - b, samples)
    return {"a": a, "b": b, "difference": a - b, "interval": bounds, "better": better, "p": p}


def verdicts(summary: Mapping[str, Any], figure: str) -> dict[str | None, list[str]]:
    """Return the attributes on which "a" is better, "b" is, and (None) no difference is shown."""
    found: dict[str | None, list[str]] = {"a": [], "b": [], None: []}
    for attribute, figures in summary["attributes"].items():
        if figures[figure] is not None:
            found[figures[figure]["better"]].append(attribute)
    return found


def surely_better(
    found: Sequence[Mapping[str, Any]], corrected: Sequence[float], level: float
) -> dict[str, int]:
    """Return of how many comparisons "a" and "b" come out better by their corrected p."""
    signs = [f["difference"] for f, p in zip(found, corrected, strict=True) if p < level]
    return {"a": sum(d > 0 for d in signs), "b": sum(d < 0 for d in signs)}


def paired_table(summary: Mapping[str, Any], figure: str) -> str:
    """Return a plain table in percent: the means, then `figure` of each attribute."""
    lines = [_line("mean of", "A", "B", "A - B", f"{100 * summary['level']:g} %")]
    lines += [_row(TITLES[name], found) for name, found in summary["mean"].items()]
    lines += ["", _line(TITLES[figure], "A", "B", "A - B", f"{100 * summary['level']:g} %")]
    lines += [_row(name, found[figure]) for name, found in summary["attributes"].items()]
    counts = {who: len(names) for who, names in verdicts(summary, figure).items()}
    chance = (1 - summary["level"]) * sum(counts.values())
    known = [f[figure] for f in summary["attributes"].values() if f[figure] is not None]
    surely = surely_better(known, [f["holm"] for f in known], 1 - summary["level"])
    return "\n".join(
        [
            *lines,
            "",
            f"{TITLES[figure]}: A is better on {counts['a']} attributes, B on {counts['b']}; "
            f"no difference is shown on {counts[None]}.",
            f"{drawn_text(summary)}, the same for both. Where nothing differs, about {chance:.0f} "
            f"of {sum(counts.values())} attributes would still seem to. With Holm's correction for "
            f"them all A is better on {surely['a']}, B on {surely['b']}.",
        ]
    )


def _row(title: str, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return _line(title, "-", "-", "-", "-")
    cells = [f"{100 * found[key]:.2f}" for key in ("a", "b", "difference")]
    bounds = found["interval"]
    cells.append("-" if bounds is None else f"[{100 * bounds[0]:.2f}, {100 * bounds[1]:.2f}]")
    said = {"a": "  A is better", "b": "  B is better", None: ""}[found["better"]]
    return _line(title, *cells) + said


def _line(title: str, *cells: str) -> str:
    *numbers, bounds = cells
    return f"{title:<20}" + "".join(f"{c:>9}" for c in numbers) + f"{bounds:>18}"
