"""The report of a study: curves, tables, what beats what, for whom, and how to run it again."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from markupsafe import Markup
from tqdm import tqdm

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.errors import DataError, SettingsError
from sspl.evaluation.paired import (
    Sampled,
    differences,
    on_the_same_faces,
    sample,
    verdicts,
)
from sspl.evaluation.predictions import Predictions, load_predictions, predictions_file
from sspl.evaluation.statistics import LEVEL, RESAMPLES, Resampling, resampling_of
from sspl.evaluation.subgroups import groupings, subgroup_facts
from sspl.inference.card import RESPONSIBLE
from sspl.metrics.attributes import reliability
from sspl.reporting.charts import Bar, Series, bar_chart, line_chart, reliability_chart
from sspl.reporting.differences import Difference, verdict_sentences
from sspl.reporting.mistakes import confident_mistakes
from sspl.reporting.notes import label_noise, notes
from sspl.reporting.page import render, words
from sspl.reporting.results import (
    PROTOCOLS,
    TITLES,
    Group,
    group_rows,
    in_order,
    read_results_csv,
)
from sspl.reporting.run import grouping_content, reliability_points, scaled
from sspl.study.cells import Cell, cell_folder
from sspl.study.results import RESULTS_FILE
from sspl.study.run import STUDY_FILE
from sspl.study.settings import Protocol

MAIN: Final = ("accuracy", "balanced_accuracy", "average_precision")
"""Figures that are drawn, tabulated by label count and compared."""

COUNTED: Final = MAIN[:2]
RANKED: Final = MAIN[2:]
RANKED_RESAMPLES: Final = 200
"""Rankings take far longer to resample than decisions; a study has hundreds of cells."""

FIRST: Final = ("sspl", "splnet", "scratch")
DEFAULT_PAIR: Final = ("sspl", "scratch")


@dataclass(frozen=True)
class Duel:
    """Two methods under one protocol at one label count, on the label subsets of both."""

    a: str
    b: str
    protocol: str
    labels: int
    subsets: tuple[int, ...]
    facts: dict[str, Any]


def study_report(
    study: Path, pair: tuple[str, str] | None = None, resamples: int = RESAMPLES,
    faces: FaceSet | None = None, box: Box | None = None,
) -> tuple[str, list[Difference]]:  # fmt: skip
    """Return the HTML page of a study, and the differences that its verdicts rest on.

    Args:
        study: its folder, with `results.csv` and the predictions of its cells.
        pair: method to look at and method to compare it with; `sspl` and `scratch` unless given,
            or else the first two.
        resamples: of the test faces, for all intervals.
        faces: those of the study, to show some of them with confident mistakes. Without them no
            real face is in the page.
        box: part of each picture to show.

    Raises `DataError` when the results cannot be read or are those of several data sets,
    `SettingsError` for a method that has none.
    """
    groups = group_rows(read_results_csv(study / RESULTS_FILE))
    names = list(dict.fromkeys(g.data for g in groups))
    if len(names) > 1:
        raise DataError(f"{study / RESULTS_FILE}: holds several data sets ({', '.join(names)}).")
    methods = in_order((g.method for g in groups), FIRST)
    a, b = _pair(methods, pair)
    cells = Cells(study, groups, resamples)
    duels = cells.duels(a, [m for m in methods if m != a])
    shown = _middle_first([duel for duel in duels if duel.b == b])
    attributes = cells.first.attributes if cells.first else ()
    found = _differences(duels)
    page = render(
        "study.html",
        title=f"Study: {names[0]}",
        cells=sum(len(g.rows) for g in groups),
        methods=methods,
        a=a,
        b=b,
        protocols=[_protocol_content(p, groups, methods) for p in _protocols(groups)],
        sentences=verdict_sentences(found),
        duels=[_duel_row(duel) for duel in duels],
        gains=[_gains(duel) for duel in shown],
        calibration=cells.calibration(shown, (a, b)),
        subgroups=cells.subgroups(shown, (a, b)),
        mistakes=cells.mistakes(shown, (a, b), faces, box),
        faces_shown=faces is not None,
        published=_published(),
        noise=label_noise(attributes),
        noise_note=notes("label_noise")["general"],
        drawn=cells.drawn(),
        level=LEVEL,
        commands=_commands(study, groups),
        responsible=RESPONSIBLE,
        main=MAIN,
        titles=TITLES,
        all_rows=[row for group in groups for row in group.rows],
        protocol_titles=PROTOCOLS,
    )
    return page, found


def _pair(methods: Sequence[str], pair: tuple[str, str] | None) -> tuple[str, str]:
    if pair is None:
        known = all(m in methods for m in DEFAULT_PAIR)
        return DEFAULT_PAIR if known else (methods[0], methods[min(1, len(methods) - 1)])
    for method in pair:
        if method not in methods:
            raise SettingsError(f"--pair {method}: no such method; use {', '.join(methods)}.")
    if pair[0] == pair[1]:
        raise SettingsError(f"--pair {pair[0]} {pair[1]}: give two different methods.")
    return pair


def _protocols(groups: Sequence[Group]) -> list[str]:
    return in_order((g.protocol for g in groups), tuple(PROTOCOLS))


class Both(NamedTuple):
    """Figures of one cell in all resamples, and those of rankings in fewer."""

    counted: Sampled
    ranked: Sampled


class Cells:
    """The predictions of a study's cells on one order of faces, each sampled once.

    Cells whose predictions are not there have no part in what is worked out from them.
    """

    def __init__(self, study: Path, groups: Sequence[Group], resamples: int) -> None:
        self.groups, self.resamples = groups, resamples
        self.predictions: dict[Cell, Predictions] = {}
        self.first: Predictions | None = None
        for cell in (_cell(group, row.subset) for group in groups for row in group.rows):
            file = predictions_file(cell_folder(study, cell), "test")
            if file.is_file():
                found = load_predictions(file)
                self.first = self.first or found
                self.predictions[cell] = on_the_same_faces(self.first, found, str(file))
        self.resampling: Resampling | None = None
        if self.first is not None:
            self.resampling = resampling_of(self.first, resamples)

    def drawn(self) -> str:
        """Return in words what the intervals are made of."""
        if self.resampling is None:
            return ""
        fewer = min(self.resamples, RANKED_RESAMPLES)
        text = (
            f"{self.resamples:,} resamples of {self.resampling.units:,} test "
            f"{self.resampling.unit_name}, and of the label subsets where there are several"
        )
        return text if fewer == self.resamples else f"{text}; {fewer} for average precision"

    def duels(self, a: str, others: Sequence[str]) -> list[Duel]:
        """Compare `a` with every other method wherever both have cells on the same subsets."""
        meetings = []
        for group in (g for g in self.groups if g.method == a):
            for other in self.groups:
                same = (other.protocol, other.labels) == (group.protocol, group.labels)
                subsets = tuple(sorted(self._subsets(group) & self._subsets(other)))
                if same and subsets and other.method in others:
                    meetings.append((group, other, subsets))
        wanted = {
            _cell(group, subset)
            for one, other, subsets in meetings
            for group in (one, other)
            for subset in subsets
        }
        if self.resampling is None:
            return []
        counted = self.resampling
        ranked = replace(counted, count=min(counted.count, RANKED_RESAMPLES))
        sampled = {
            cell: Both(
                sample(self.predictions[cell], counted, COUNTED),
                sample(self.predictions[cell], ranked, RANKED),
            )
            for cell in tqdm(sorted(wanted), "resample", unit="cell", leave=False)
        }
        found = [_duel(*meeting, sampled, counted, ranked) for meeting in meetings]
        order = _protocols(self.groups)
        return sorted(found, key=lambda d: (order.index(d.protocol), others.index(d.b), d.labels))

    def _subsets(self, group: Group) -> set[int]:
        return {r.subset for r in group.rows if _cell(group, r.subset) in self.predictions}

    def calibration(self, duels: Sequence[Duel], pair: tuple[str, str]) -> list[dict[str, Any]]:
        """Return reliability diagrams of both methods in the first of `duels`, on one subset."""
        charts = []
        for title, given in self._both(duels, pair):
            points = reliability_points(reliability(given.labels, given.probabilities))
            charts.append(
                {"title": title, "chart": reliability_chart(points, f"Reliability, {title}")}
            )
        return charts

    def subgroups(self, duels: Sequence[Duel], pair: tuple[str, str]) -> list[dict[str, Any]]:
        """Return the subgroup figures of both methods in the first of `duels`, on one subset."""
        found = []
        for title, given in self._both(duels, pair):
            assert self.resampling is not None
            ways = [subgroup_facts(given, way, self.resampling) for way in groupings(given)]
            if ways:
                found.append({"title": title, "ways": [grouping_content(way) for way in ways]})
        return found

    def mistakes(
        self, duels: Sequence[Duel], pair: tuple[str, str], faces: FaceSet | None, box: Box | None
    ) -> list[dict[str, Any]]:
        """Return the confident mistakes of both methods in the first of `duels`, on one subset."""
        return [
            {"title": title} | confident_mistakes(given, faces, box)
            for title, given in self._both(duels, pair)
        ]

    def _both(self, duels: Sequence[Duel], pair: tuple[str, str]) -> list[tuple[str, Predictions]]:
        return [
            (
                f"{method}, {duel.labels:,} labels, subset {duel.subsets[0]}",
                self.predictions[
                    Cell(method, _protocol(duel.protocol), duel.labels, duel.subsets[0])
                ],
            )
            for duel in duels[:1]
            for method in pair
        ]


def _cell(group: Group, subset: int) -> Cell:
    return Cell(group.method, _protocol(group.protocol), group.labels, subset)


def _protocol(name: str) -> Protocol:
    (found,) = (p for p in get_args(Protocol) if p == name)
    protocol: Protocol = found
    return protocol


def _duel(
    one: Group, other: Group, subsets: tuple[int, ...], sampled: dict[Cell, Both],
    counted: Resampling, ranked: Resampling,
) -> Duel:  # fmt: skip
    a, b = ([sampled[_cell(group, subset)] for subset in subsets] for group in (one, other))
    parts = (
        differences([s.counted for s in a], [s.counted for s in b], counted),
        differences([s.ranked for s in a], [s.ranked for s in b], ranked),
    )
    facts = {
        "mean": parts[0]["mean"] | parts[1]["mean"],
        "attributes": {
            name: found | parts[1]["attributes"][name]
            for name, found in parts[0]["attributes"].items()
        },
    }
    return Duel(one.method, other.method, one.protocol, one.labels, subsets, facts)


def _middle_first(duels: Sequence[Duel]) -> list[Duel]:
    """Return the duels of fine-tuning, that of the median label count first.

    Where nothing was fine-tuned, those of the first other protocol.
    """
    protocols = in_order((d.protocol for d in duels), tuple(PROTOCOLS))
    of_one = [d for d in duels if d.protocol == protocols[0]] if protocols else []
    if not of_one:
        return []
    middle = statistics.median_low([d.labels for d in of_one])
    return sorted(of_one, key=lambda d: (d.labels != middle, d.labels))


def _protocol_content(
    protocol: str, groups: Sequence[Group], methods: Sequence[str]
) -> dict[str, Any]:
    mine = [g for g in groups if g.protocol == protocol]
    counts = sorted({g.labels for g in mine})
    present = [m for m in methods if any(g.method == m for g in mine)]
    found = {(g.method, g.labels): g for g in mine}
    majority = {g.labels: g.mean("majority_accuracy") for g in reversed(mine)}
    return {
        "title": PROTOCOLS[protocol],
        "counts": counts,
        "tables": {
            figure: [
                {"method": m, "groups": [found.get((m, count)) for count in counts]}
                for m in present
            ]
            for figure in (*MAIN, "ece")
        },
        "majority": [majority[count] for count in counts],
        "charts": [
            {"title": capitalised(TITLES[f]), "chart": _curve(f, mine, present, counts)}
            for f in MAIN
            if len(counts) > 1
        ],
    }


def capitalised(text: str) -> str:
    """Return a title with its first letter large and the others as they are."""
    return text[:1].upper() + text[1:]


def _curve(
    figure: str, groups: Sequence[Group], methods: Sequence[str], counts: Sequence[int]
) -> Markup:
    series = []
    for method in methods:
        points: list[tuple[float, float]] = []
        bars: list[tuple[float, float] | None] = []
        for group in sorted((g for g in groups if g.method == method), key=lambda g: g.labels):
            mean, spread = group.mean(figure), group.spread(figure)
            if mean is not None:
                points.append((group.labels, 100 * mean))
                ends = None if spread is None else (100 * (mean - spread), 100 * (mean + spread))
                bars.append(ends)
        if points:
            series.append(Series(method, points, bars))
    title = f"{TITLES[figure]}, %"
    return line_chart(
        series, f"{title} by label count", "labelled faces", title, log_x=True, x_ticks=counts
    )


def _duel_row(duel: Duel) -> dict[str, Any]:
    counted = verdicts(duel.facts, "balanced_accuracy")
    return {
        "other": duel.b,
        "protocol": PROTOCOLS[duel.protocol],
        "labels": duel.labels,
        "subsets": len(duel.subsets),
        "figures": {name: duel.facts["mean"][name] for name in MAIN},
        "better": len(counted["a"]),
        "worse": len(counted["b"]),
        "neither": len(counted[None]),
    }


def _differences(duels: Sequence[Duel]) -> list[Difference]:
    rows = []
    for duel in duels:
        for figure in MAIN:
            found = duel.facts["mean"][figure]
            if found is None or found["interval"] is None:
                continue
            low, high = found["interval"]
            rows.append(
                Difference(
                    duel.protocol, duel.a, duel.b, duel.labels, len(duel.subsets), figure,
                    found["a"], found["b"], low, high, found["better"] or "",
                )
            )  # fmt: skip
    return rows


def _gains(duel: Duel) -> dict[str, Any]:
    rows = [
        {"attribute": name, **figures["balanced_accuracy"]}
        for name, figures in duel.facts["attributes"].items()
        if figures["balanced_accuracy"] is not None
    ]
    rows.sort(key=lambda row: -row["difference"])
    bars = [
        Bar(
            words(row["attribute"]),
            100 * row["difference"],
            scaled(row["interval"]),
            row["better"] is not None,
        )
        for row in rows
    ]
    better = [row["better"] for row in rows]
    title = f"{duel.a} less {duel.b}, {duel.labels:,} labels"
    chart = bar_chart(bars, f"Gain in balanced accuracy, {title}", "points") if bars else ""
    counted = {"better": better.count("a"), "worse": better.count("b")}
    return {"title": title, "chart": chart, "rows": rows, "neither": better.count(None)} | counted


def _published() -> dict[str, Any]:
    content = notes("published")
    for each in content["sets"]:
        each["rows"] = [
            {
                "method": method,
                "cells": [
                    {"value": value, "checked": share in each["checked"].get(method, [])}
                    for share, value in zip(each["shares"], values, strict=True)
                ],
            }
            for method, values in each["methods"].items()
        ]
    return content


def _commands(study: Path, groups: Sequence[Group]) -> list[str]:
    """Return a command for each method and label count; its subsets and protocols come along."""
    config = f"{study.resolve().name}/{STUDY_FILE}"
    return [
        f"sspl benchmark --config {config} --out again --only {method} --labels {labels}"
        for method, labels in dict.fromkeys((g.method, g.labels) for g in groups)
    ]
