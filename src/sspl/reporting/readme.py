"""The results section of a README or another page, written from committed tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sspl.errors import DataError
from sspl.io.files import write_text
from sspl.reporting.differences import DIFFERENCES_FILE, read_differences, verdict_sentences
from sspl.reporting.result_table import (
    FIRST,
    PROTOCOLS,
    TITLES,
    Group,
    group_rows,
    in_order,
    read_results_csv,
)

BEGIN: Final = "<!-- results: begin -->"
END: Final = "<!-- results: end -->"
README_FIGURES: Final = ("accuracy", "balanced_accuracy", "average_precision")
BRIEF_FIGURES: Final = ("accuracy", "average_precision")
BRIEF_PROTOCOL: Final = "finetune"


def write_section(
    readme: Path, tables: Sequence[Path], brief: bool = False, methods: Sequence[str] = ()
) -> bool:
    """Write the results between the two marker lines of `readme`; return whether it changed.

    `tables` follow one another. `brief` is one table of fine-tuning, at the numbers of labels that
    every method was measured at. `methods` are those shown; all without any. Raises `DataError`
    when the markers are not there, once each and in order, or a table lacks one of the methods.
    """
    before = _read(readme)
    head, _, tail = split_at_markers(readme, before)
    text = f"{head}{BEGIN}\n{results_section(tables, brief, methods)}{END}{tail}"
    if text != before:
        write_text(readme, text)
    return text != before


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None


def split_at_markers(readme: Path, text: str) -> tuple[str, str, str]:
    """Return what stands before, between and after the marker lines."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise DataError(
            f"{readme}: mark the place of the results with the lines '{BEGIN}' and '{END}', "
            "once each."
        )
    head, rest = text.split(BEGIN)
    section, tail = rest.split(END)
    return head, section, tail


def results_section(
    tables: Sequence[Path], brief: bool = False, methods: Sequence[str] = ()
) -> str:
    """Return the section as Markdown.

    Each of `tables` is a results table of a study. Where `NAME-differences.csv` lies beside
    `NAME.csv`, the section says which method is better; means alone say nothing of the kind.
    """
    parts = []
    for table in tables:
        parts += _of_table(table, brief, methods)
    return "\n" + "\n".join(parts) + "\n"


def _of_table(table: Path, brief: bool, methods: Sequence[str]) -> list[str]:
    groups = group_rows(read_results_csv(table))
    if brief:
        groups = [g for g in groups if g.protocol == BRIEF_PROTOCOL]
    if not groups:
        raise DataError(f"{table}: holds no cells of the protocol '{BRIEF_PROTOCOL}'.")
    missing = set(methods) - {g.method for g in groups}
    if missing:
        raise DataError(f"{table}: holds no cells of the method '{min(missing)}'.")
    groups = [g for g in groups if not methods or g.method in methods]
    parts = []
    for data in dict.fromkeys(g.data for g in groups):
        mine = [g for g in groups if g.data == data]
        subsets = sorted({len(g.rows) for g in mine})
        drawn = f"{subsets[0]} to {subsets[-1]}" if len(subsets) > 1 else str(subsets[0])
        parts.append(
            f"`{data}`: test faces, mean and standard deviation over {drawn} label "
            "subsets, in percent, by number of labelled faces. Made by `sspl benchmark`, written "
            f"here by `sspl results` from `{table.name}`.\n"
        )
        for protocol in in_order((g.protocol for g in mine), tuple(PROTOCOLS)):
            parts += _tables(protocol, [g for g in mine if g.protocol == protocol], brief)
    return parts + _verdicts(table, brief, {g.method for g in groups})


def _verdicts(table: Path, brief: bool, methods: set[str]) -> list[str]:
    file = table.with_name(f"{table.stem}-{DIFFERENCES_FILE}")
    if not file.is_file():
        return []
    rows = [r for r in read_differences(file) if {r.a, r.b} <= methods]
    if brief:
        rows = [r for r in rows if r.protocol == BRIEF_PROTOCOL and r.figure in BRIEF_FIGURES]
    if not rows:
        return []
    sentences = "\n".join(f"- {sentence}" for sentence in verdict_sentences(rows))
    names = ", ".join(dict.fromkeys(f"`{row.a}`" for row in rows))
    return [
        f"Where {names} wins and where not, by paired 95 % bootstrap intervals over test faces "
        "and label subsets (in brackets the numbers of labelled faces, where it is not so at all "
        f"that were compared):\n\n{sentences}\n"
    ]


def _tables(protocol: str, groups: Sequence[Group], brief: bool) -> list[str]:
    """Return a table for each figure; one for all in brief, and where there is one label count."""
    counts = sorted({g.labels for g in groups})
    methods = in_order((g.method for g in groups), FIRST)
    found = {(g.method, g.labels): g for g in groups}
    majority = {g.labels: g.mean("majority_accuracy") for g in reversed(groups)}
    figures = BRIEF_FIGURES if brief else README_FIGURES
    if brief:
        shared = [c for c in counts if all((method, c) in found for method in methods)]
        columns = [(f"{TITLES[f]}, {c:,}", c, f) for f in figures for c in shared]
        tables = [(PROTOCOLS[protocol], columns)]
    elif len(counts) == 1:
        title = f"{PROTOCOLS[protocol]}, {counts[0]:,} labels"
        tables = [(title, [(TITLES[f], counts[0], f) for f in figures])]
    else:
        tables = [
            (f"{PROTOCOLS[protocol]}: {TITLES[f]}", [(f"{c:,}", c, f) for c in counts])
            for f in figures
        ]
    parts = []
    for title, columns in tables:
        lines = [[title, *(name for name, _, _ in columns)], ["---"] * (len(columns) + 1)]
        for method in methods:
            cells = ((found.get((method, count)), figure) for _, count, figure in columns)
            lines.append([method, *(cell.text(figure) if cell else "" for cell, figure in cells)])
        if any(figure == "accuracy" for _, _, figure in columns):
            shown = (majority[c] if f == "accuracy" else None for _, c, f in columns)
            lines.append(["(majority)", *("" if v is None else f"{100 * v:.2f}" for v in shown)])
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n")
    return parts
