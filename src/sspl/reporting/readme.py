"""The results section of a README, written from a committed table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sspl.errors import DataError
from sspl.files import write_text
from sspl.reporting.differences import DIFFERENCES_FILE, read_differences, verdict_sentences
from sspl.reporting.results import (
    PROTOCOLS,
    TITLES,
    Group,
    group_rows,
    in_order,
    read_results_csv,
)

BEGIN: Final = "<!-- results: begin -->"
END: Final = "<!-- results: end -->"
FIGURES: Final = ("accuracy", "balanced_accuracy", "average_precision")
FIRST: Final = ("sspl", "splnet", "scratch")


def write_section(readme: Path, table: Path) -> bool:
    """Write the results between the two marker lines of `readme`; return whether it changed.

    Raises `DataError` when the markers are not there, once each and in order.
    """
    before = _read(readme)
    head, _, tail = split_at_markers(readme, before)
    text = f"{head}{BEGIN}\n{results_section(table)}{END}{tail}"
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


def results_section(table: Path) -> str:
    """Return the section as Markdown.

    `table` is a results table of a study. Where `NAME-differences.csv` lies beside `NAME.csv`, the
    section says what beats what; means alone say nothing of the kind.
    """
    groups = group_rows(read_results_csv(table))
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
            parts += _tables(protocol, [g for g in mine if g.protocol == protocol])
    differences = table.with_name(f"{table.stem}-{DIFFERENCES_FILE}")
    if differences.is_file():
        rows = read_differences(differences)
        sentences = "\n".join(f"- {sentence}" for sentence in verdict_sentences(rows))
        names = ", ".join(dict.fromkeys(f"`{row.a}`" for row in rows))
        parts.append(
            f"Where {names} wins and where not, by paired 95 % bootstrap intervals over test faces "
            f"and label subsets:\n\n{sentences}\n"
        )
    return "\n" + "\n".join(parts) + "\n"


def _tables(protocol: str, groups: Sequence[Group]) -> list[str]:
    counts = sorted({g.labels for g in groups})
    methods = in_order((g.method for g in groups), FIRST)
    found = {(g.method, g.labels): g for g in groups}
    parts = []
    for figure in FIGURES:
        lines = [
            [f"{PROTOCOLS[protocol]}: {TITLES[figure]}", *(f"{c:,}" for c in counts)],
            ["---"] * (len(counts) + 1),
        ]
        for method in methods:
            cells = (found.get((method, count)) for count in counts)
            lines.append([method, *(cell.text(figure) if cell else "" for cell in cells)])
        if figure == "accuracy":
            majority = {g.labels: g.mean("majority_accuracy") for g in reversed(groups)}
            shown = (majority[count] for count in counts)
            lines.append(["(majority)", *("-" if v is None else f"{100 * v:.2f}" for v in shown)])
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n")
    return parts
