"""Two models on the same faces: is one better than the other?"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from sspl.errors import DataError
from sspl.evaluation.predictions import Predictions
from sspl.evaluation.statistics import (
    LEVEL,
    RESAMPLED,
    RESAMPLES,
    Array,
    drawn_text,
    interval,
    mean_over_attributes,
    resampled_figures,
    resampling_of,
)
from sspl.metrics.attributes import all_figures

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


def paired_facts(
    a: Sequence[Predictions], b: Sequence[Predictions], where: str, resamples: int = RESAMPLES,
    figures: Sequence[str] = RESAMPLED,
) -> dict[str, Any]:  # fmt: skip
    """Compare two methods on the same faces; return JSON-able facts.

    `a` and `b` hold one set of predictions for each label subset, in the same order. Every
    resample draws faces (or people) and, where there are several, label subsets, the same for
    both; the interval is that of the difference. `better` is "a" or "b" where the interval
    excludes zero, else None.

    Raises `DataError`, beginning with `where`, when the faces or labels differ.
    """
    attributes = shared_attributes(a[0], b[0], where)
    first = a[0].select(range(len(a[0])), attributes)
    a = [on_the_same_faces(first, other, where) for other in a]
    b = [on_the_same_faces(first, other, where) for other in b]
    if len(a) != len(b):
        raise DataError(f"{where}: {len(a)} label subsets of one, {len(b)} of the other.")
    resampling = resampling_of(first, resamples)
    draws = np.random.default_rng(resampling.seed + 1).integers(len(a), size=(resamples, len(a)))
    one, other = _points(a, figures), _points(b, figures)
    samples = {name: np.zeros((resamples, len(attributes))) for name in figures}
    for subset, pair in enumerate(zip(a, b, strict=True)):
        share = ((draws == subset).sum(1) / len(a))[:, None]
        sampled = [resampled_figures(p, resampling, figures) for p in pair]
        for name in figures:
            samples[name] += share * (sampled[0][name] - sampled[1][name])
    return {
        "faces": len(first),
        "subsets": len(a),
        "level": LEVEL,
        "resamples": resamples,
        "drawn": resampling.unit_name,
        "units": resampling.units,
        "mean": {
            name: _difference(
                float(np.nanmean(one[name])),
                float(np.nanmean(other[name])),
                mean_over_attributes(samples[name]),
            )
            for name in figures
        },
        "attributes": {
            attribute: {
                name: _difference(float(one[name][i]), float(other[name][i]), samples[name][:, i])
                for name in figures
            }
            for i, attribute in enumerate(attributes)
        },
    }


def _points(side: Sequence[Predictions], figures: Sequence[str]) -> dict[str, Array]:
    """Return each figure (attributes,), its mean over the subsets, NaN where not defined."""
    found = []
    for p in side:
        rates = np.zeros(len(p.attributes))
        found.append(all_figures(p.attributes, p.labels, p.probabilities, rates))
    return {
        name: np.mean([[_number(getattr(f, name)) for f in each] for each in found], axis=0)
        for name in figures
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _difference(a: float, b: float, samples: Array) -> dict[str, Any] | None:
    if np.isnan(a) or np.isnan(b):
        return None
    bounds = interval(samples)
    better = None
    if bounds is not None and (bounds[0] > 0 or bounds[1] < 0):
        better = "a" if bounds[0] > 0 else "b"
    return {"a": a, "b": b, "difference": a - b, "interval": bounds, "better": better}


def verdicts(facts: Mapping[str, Any], figure: str) -> dict[str | None, list[str]]:
    """Return the attributes on which "a" is better, "b" is, and (None) no difference is shown."""
    found: dict[str | None, list[str]] = {"a": [], "b": [], None: []}
    for attribute, figures in facts["attributes"].items():
        if figures[figure] is not None:
            found[figures[figure]["better"]].append(attribute)
    return found


def paired_table(facts: Mapping[str, Any], figure: str) -> str:
    """Return a plain table in percent: the means, then `figure` of each attribute."""
    lines = [_line("mean of", "A", "B", "A - B", f"{100 * facts['level']:g} %")]
    lines += [_row(TITLES[name], found) for name, found in facts["mean"].items()]
    lines += ["", _line(TITLES[figure], "A", "B", "A - B", f"{100 * facts['level']:g} %")]
    lines += [_row(name, found[figure]) for name, found in facts["attributes"].items()]
    counts = {who: len(names) for who, names in verdicts(facts, figure).items()}
    chance = (1 - facts["level"]) * sum(counts.values())
    return "\n".join(
        [
            *lines,
            "",
            f"{TITLES[figure]}: A is better on {counts['a']} attributes, B on {counts['b']}; "
            f"no difference is shown on {counts[None]}.",
            f"{drawn_text(facts)}, the same for both. Where nothing differs, about {chance:.0f} "
            f"of {sum(counts.values())} attributes would still seem to.",
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
