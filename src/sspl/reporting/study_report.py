"""The report of a study: curves, tables, paired comparisons, subgroups, and how to run it again."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.domain.wording import in_words
from sspl.errors import DataError, SettingsError
from sspl.evaluation.paired import holm, surely_better, verdicts
from sspl.evaluation.predictions import Predictions
from sspl.evaluation.statistics import LEVEL, RESAMPLES, Resampling
from sspl.evaluation.subgroups import groupings, subgroup_summary
from sspl.inference.card import RESPONSIBLE
from sspl.metrics.attributes import reliability
from sspl.reporting.charts import Bar, Series, bar_chart, line_chart, reliability_chart
from sspl.reporting.curves import curve_points, leading_methods
from sspl.reporting.differences import Difference, verdict_sentences
from sspl.reporting.mistakes import confident_mistakes
from sspl.reporting.notes import label_noise, notes
from sspl.reporting.page import render
from sspl.reporting.pairwise import MAIN, Cells, PairedComparison, middle_first, protocols_of
from sspl.reporting.result_table import (
    FIRST,
    PROTOCOLS,
    TITLES,
    Group,
    group_rows,
    in_order,
    read_results_csv,
)
from sspl.reporting.run_report import grouping_content, reliability_points, scaled
from sspl.study.results import RESULTS_FILE
from sspl.study.runner import STUDY_FILE

DEFAULT_PAIRS: Final = (("sspl", "scratch"), ("builtin", "scratch"))


def study_report(
    study: Path,
    pair: tuple[str, str] | None = None,
    resamples: int = RESAMPLES,
    faces: FaceSet | None = None,
    box: Box | None = None,
) -> tuple[str, list[Difference]]:
    """Return the HTML page of a study, and the differences that its verdicts rest on.

    Args:
        study: its folder, with `results.csv` and the predictions of its cells.
        pair: method to look at and method to compare it with; `sspl`, or `builtin`, and `scratch`
            unless given, or else the first two.
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
    comparisons = cells.comparisons(a, [m for m in methods if m != a])
    shown = middle_first([comparison for comparison in comparisons if comparison.b == b])
    both = cells.both(shown, (a, b))
    over = cells.comparisons(
        b, [m for m in methods if m != b], [comparison.labels for comparison in shown[:1]]
    )
    attributes = cells.first.attributes if cells.first else ()
    found = _differences(comparisons)
    page = render(
        "study.html",
        title=f"Study: {names[0]}",
        cells=sum(len(g.rows) for g in groups),
        methods=methods,
        a=a,
        b=b,
        protocols=[_protocol_content(p, groups, methods, (a, b)) for p in protocols_of(groups)],
        over=_over(over),
        sentences=[*verdict_sentences(found), *_after_holm(comparisons)],
        matrices=_matrices(comparisons),
        comparisons=[_pairwise_row(comparison) for comparison in comparisons],
        gains=[_gains(comparison) for comparison in shown],
        calibration=[_calibration(*each) for each in both],
        subgroups=_subgroups(both, cells.counted),
        mistakes=[{"title": t} | confident_mistakes(given, faces, box) for t, given in both],
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
        known = (each for each in DEFAULT_PAIRS if set(each) <= set(methods))
        return next(known, (methods[0], methods[min(1, len(methods) - 1)]))
    for method in pair:
        if method not in methods:
            raise SettingsError(f"--pair {method}: no such method; use {', '.join(methods)}.")
    if pair[0] == pair[1]:
        raise SettingsError(f"--pair {pair[0]} {pair[1]}: give two different methods.")
    return pair


def _calibration(title: str, given: Predictions) -> dict[str, Any]:
    points = reliability_points(reliability(given.labels, given.probabilities))
    return {"title": title, "chart": reliability_chart(points, f"Reliability, {title}")}


def _subgroups(
    both: Sequence[tuple[str, Predictions]], resampling: Resampling | None
) -> list[dict[str, Any]]:
    found = []
    for title, given in both:
        assert resampling is not None
        ways = [subgroup_summary(given, way, resampling) for way in groupings(given)]
        if ways:
            found.append({"title": title, "ways": [grouping_content(way) for way in ways]})
    return found


def _over(comparisons: Sequence[PairedComparison]) -> list[dict[str, Any]]:
    """Return what every method gains over one, protocol by protocol, the largest gain first."""
    found = []
    for protocol in dict.fromkeys(comparison.protocol for comparison in comparisons):
        mine = [comparison for comparison in comparisons if comparison.protocol == protocol]
        title = f"{PROTOCOLS[protocol]}, {mine[0].labels:,} labels"
        charts = [
            {"title": capitalised(TITLES[f]), "chart": bar_chart(bars, f"{title}: {f}", "points")}
            for f in MAIN
            if (bars := bars_over(mine, f))
        ]
        found.append({"title": title, "charts": charts})
    return found


def bars_over(comparisons: Sequence[PairedComparison], figure: str) -> list[Bar]:
    """Return what the second method of each comparison gains over the first, in points."""
    summary = {comparison.b: comparison.summary["mean"][figure] for comparison in comparisons}
    bars = []
    for method, found in summary.items():
        if found is not None:
            ends = found["interval"]
            bounds = None if ends is None else scaled((-ends[1], -ends[0]))
            gain = -100 * found["difference"]
            bars.append(Bar(method, gain, bounds, found["better"] is not None))
    return sorted(bars, key=lambda bar: -bar.value)


def _protocol_content(
    protocol: str, groups: Sequence[Group], methods: Sequence[str], pair: Collection[str]
) -> dict[str, Any]:
    mine = [g for g in groups if g.protocol == protocol]
    counts = sorted({g.labels for g in mine})
    present = [m for m in methods if any(g.method == m for g in mine)]
    leading = leading_methods(mine, present, pair)
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
            {"title": capitalised(TITLES[f]), "chart": _curve(f, mine, leading, present, counts)}
            for f in MAIN
            if len(counts) > 1
        ],
    }


def capitalised(text: str) -> str:
    """Return a title with its first letter large and the others as they are."""
    return text[:1].upper() + text[1:]


def _curve(
    figure: str,
    groups: Sequence[Group],
    leading: Sequence[str],
    methods: Sequence[str],
    counts: Sequence[int],
) -> Markup:
    series = []
    for method in [*leading, *(m for m in methods if m not in leading)]:
        points, spreads = curve_points(groups, method, figure)
        bars = [
            None if spread is None else (mean - spread, mean + spread)
            for (_, mean), spread in zip(points, spreads, strict=True)
        ]
        if points:
            series.append(Series(method, points, bars, quiet=method not in leading))
    title = f"{TITLES[figure]}, %"
    return line_chart(
        series, f"{title} by label count", "labelled faces", title, log_x=True, x_ticks=counts
    )


def _matrices(comparisons: Sequence[PairedComparison]) -> list[dict[str, Any]]:
    """Return tables of differences by method and label count; by figure where there is one count.

    All but the first of a protocol are to be folded.
    """
    found = []
    for protocol in dict.fromkeys(comparison.protocol for comparison in comparisons):
        mine = {(d.b, d.labels): d.summary["mean"] for d in comparisons if d.protocol == protocol}
        others = list(dict.fromkeys(other for other, _ in mine))
        counts = sorted({count for _, count in mine})
        if len(counts) == 1:
            keys = [("", [(counts[0], figure) for figure in MAIN])]
        else:
            keys = [(TITLES[figure], [(count, figure) for count in counts]) for figure in MAIN]
        for title, columns in keys:
            rows = [
                [mine.get((other, count), {}).get(figure) for count, figure in columns]
                for other in others
            ]
            named = [f"{count:,}" if title else TITLES[figure] for count, figure in columns]
            found.append(
                {
                    "title": f"{PROTOCOLS[protocol]}, {title or f'{counts[0]:,} labels'}",
                    "columns": named,
                    "rows": [{"other": o, "cells": r} for o, r in zip(others, rows, strict=True)],
                    "folded": title not in ("", TITLES[MAIN[0]]),
                }
            )
    return found


def _pairwise_row(comparison: PairedComparison) -> dict[str, Any]:
    counted = verdicts(comparison.summary, "balanced_accuracy")
    return {
        "other": comparison.b,
        "protocol": PROTOCOLS[comparison.protocol],
        "labels": comparison.labels,
        "subsets": len(comparison.subsets),
        "figures": {name: comparison.summary["mean"][name] for name in MAIN},
        "better": len(counted["a"]),
        "worse": len(counted["b"]),
        "neither": len(counted[None]),
    }


def _differences(comparisons: Sequence[PairedComparison]) -> list[Difference]:
    rows = []
    for comparison in comparisons:
        for figure in MAIN:
            found = comparison.summary["mean"][figure]
            if found is None or found["interval"] is None:
                continue
            low, high = found["interval"]
            rows.append(
                Difference(
                    comparison.protocol,
                    comparison.a,
                    comparison.b,
                    comparison.labels,
                    len(comparison.subsets),
                    figure,
                    found["a"],
                    found["b"],
                    low,
                    high,
                    found["better"] or "",
                )
            )
    return rows


def _after_holm(comparisons: Sequence[PairedComparison]) -> list[str]:
    """Say of each figure how many comparisons are left when all of them are corrected for."""
    sentences = []
    for figure in MAIN:
        means = [c.summary["mean"][figure] for c in comparisons]
        found = [f for f in means if f is not None and f["interval"] is not None]
        if len(found) > 1:
            surely = surely_better(found, holm([f["p"] for f in found]), 1 - LEVEL)
            sentences.append(
                f"With Holm's correction for all {len(found)} comparisons of {TITLES[figure]}: "
                f"better in {surely['a']}, worse in {surely['b']}."
            )
    return sentences


def _gains(comparison: PairedComparison) -> dict[str, Any]:
    rows = [
        {"attribute": name, **figures["balanced_accuracy"]}
        for name, figures in comparison.summary["attributes"].items()
        if figures["balanced_accuracy"] is not None
    ]
    rows.sort(key=lambda row: -row["difference"])
    bars = [
        Bar(
            in_words(row["attribute"]),
            100 * row["difference"],
            scaled(row["interval"]),
            row["better"] is not None,
        )
        for row in rows
    ]
    better = [row["better"] for row in rows]
    title = f"{comparison.a} less {comparison.b}, {comparison.labels:,} labels"
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
