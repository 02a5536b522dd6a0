"""How good a model's own decisions are: at its thresholds, and outside its "not sure" bands."""

from collections.abc import Mapping
from typing import Any

from sspl.data.records import MISSING
from sspl.evaluation.predictions import Predictions
from sspl.metrics.attributes import one_answer
from sspl.models.decisions import Decisions


def decided_summary(predictions: Predictions, decisions: Decisions) -> dict[str, Any]:
    """Return for each attribute what its decisions are worth, JSON-able.

    `accuracy` and `balanced_accuracy` count every face, at the model's threshold; `unsure` is the
    share of faces in the band, `sure_accuracy` the accuracy outside it. None where not defined.
    """
    names = predictions.attributes
    present, unsure = decisions.decide(names, predictions.probabilities)
    thresholds = decisions.threshold_array(names)
    summary: dict[str, Any] = {}
    for i, name in enumerate(names):
        known = predictions.labels[:, i] != MISSING
        truth = predictions.labels[known, i] == 1
        right, doubt = present[known, i] == truth, unsure[known, i]
        rates = [float(right[kind].mean()) for kind in (truth, ~truth) if kind.any()]
        summary[name] = {
            "threshold": float(thresholds[i]),
            "band": decisions.unsure.get(name),
            "accuracy": float(right.mean()) if len(right) else None,
            "balanced_accuracy": sum(rates) / 2 if len(rates) == 2 else None,
            "unsure": float(doubt.mean()) if len(doubt) else None,
            "sure_accuracy": float(right[~doubt].mean()) if (~doubt).any() else None,
        }
    return summary


def own_decisions(predictions: Predictions, decisions: Decisions) -> dict[str, Any]:
    """Return what an evaluation tells of a model's decisions; what they are worth if not usual."""
    present, _ = decisions.decide(predictions.attributes, predictions.probabilities)
    own: dict[str, Any] = {"one_answer": one_answer(predictions.attributes, present)}
    if decisions != Decisions():
        own["decisions"] = decided_summary(predictions, decisions)
    return own


def decided_mean(summary: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the means of `decided_summary` over the attributes where they are defined."""
    means: dict[str, float | None] = {}
    for figure in ("accuracy", "balanced_accuracy", "unsure", "sure_accuracy"):
        found = [row[figure] for row in summary.values() if row[figure] is not None]
        means[figure] = sum(found) / len(found) if found else None
    return means


def decided_lines(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a plain table of `decided_summary` and their means, in percent."""
    titles = ("decided", "from", "acc", "bal", "not sure", "acc sure")
    lines = [f"{titles[0]:<20}" + "".join(f"{t:>10}" for t in titles[1:])]
    figures = ("threshold", "accuracy", "balanced_accuracy", "unsure", "sure_accuracy")
    mean = {"threshold": None, **decided_mean(summary)}
    for name, found in [*summary.items(), ("mean", mean)]:
        cells = ("-" if found[f] is None else f"{100 * found[f]:.2f}" for f in figures)
        lines.append(f"{name:<20}" + "".join(f"{c:>10}" for c in cells))
    return lines
