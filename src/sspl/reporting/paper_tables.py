"""The tables of a study as a paper prints them: CSV, Markdown and LaTeX.

One for each figure, methods by label count with published figures below; one for each label count
with the accuracy on every attribute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sspl.io.files import write_csv, write_text
from sspl.reporting.notes import notes
from sspl.reporting.pairwise import MAIN
from sspl.reporting.result_table import PROTOCOLS, TITLES
from sspl.study.cells import KTH, Cell
from sspl.study.results import cell_of, read_results
from sspl.study.study_settings import StudySettings

TABLES_FOLDER: Final = "tables"
CITED: Final = "as cited"
CHECKED: Final = "*"
"""After a published figure that a second source confirms."""

_LATEX: Final = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"±": "$\\pm$"})

Found = list[tuple[Cell, dict[str, Any]]]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the row.

    Args:
        caption: what the figures are.
        header: of the columns.
        rows: as many fields each, empty where there is no figure.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table for a page."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        shown = ([field or "-" for field in line] for line in lines)
        return f"{self.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in shown)

    def latex(self) -> str:
        """Return a tabular that needs no package."""
        columns = "l" + "r" * (len(self.header) - 1)
        head, *body = (
            " & ".join((field or "-").translate(_LATEX) for field in line) + r" \\"
            for line in (self.header, *self.rows)
        )
        lines = [f"\\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *body, r"\hline"]
        caption = f"% {self.caption}"
        return "\n".join([caption, *lines, r"\end{tabular}", ""])

    def write(self, path: Path) -> list[Path]:
        """Write the three files whose name, without its ending, is `path`."""
        files = [path.with_name(f"{path.name}.{ending}") for ending in ("csv", "md", "tex")]
        write_csv(files[0], self.header, self.rows)
        write_text(files[1], self.markdown())
        write_text(files[2], self.latex())
        return files


def write_tables(settings: StudySettings, out: Path) -> list[Path]:
    """Write the tables of the finished cells of a study in its folder; return the files."""
    found = [(cell_of(r), r["figures"]["test"]) for r in read_results(out)]
    folder, files = out / TABLES_FOLDER, list[Path]()
    for protocol in dict.fromkeys(cell.protocol for cell, _ in found):
        mine = [(cell, test) for cell, test in found if cell.protocol == protocol]
        for figure in MAIN:
            table = main_table(settings, mine, figure)
            files += table.write(folder / f"{protocol}-{figure}")
        for labels in sorted({cell.labels for cell, _ in mine}):
            chosen = [(cell, test) for cell, test in mine if cell.labels == labels]
            table = attribute_table(settings, chosen)
            files += table.write(folder / f"{protocol}-attributes-{labels}")
    return files


def main_table(settings: StudySettings, found: Found, figure: str) -> Table:
    """Return one figure of each method at each label count, in percent.

    Random subsets and the paper's have rows of their own; of several cells it is mean and standard
    deviation. Published accuracies follow, where the study names their set.
    """
    counts = sorted({cell.labels for cell, _ in found})
    values: dict[tuple[str, bool], dict[int, list[float]]] = {}
    for cell, test in _in_order(settings, found):
        row = values.setdefault((cell.method, cell.subset == KTH), {})
        if test["mean"][figure] is not None:
            row.setdefault(cell.labels, []).append(test["mean"][figure])
    rows = [
        (_row_name(method, kth), *(_spread(by_count.get(count, [])) for count in counts))
        for (method, kth), by_count in values.items()
    ]
    if figure == "accuracy" and settings.published is not None:
        rows += _published(settings, counts)
    header = ("method", *(_column(settings, count) for count in counts))
    about = "random subsets unless marked, mean ± standard deviation over subsets and seeds"
    protocol = PROTOCOLS[found[0][0].protocol]
    caption = f"{settings.name}, {protocol.lower()}: mean {TITLES[figure]} in percent; {about}"
    if figure == "accuracy" and settings.published is not None:
        caption += f"; {CITED}: from other papers, {CHECKED} confirmed by a second source"
    return Table(f"{caption}.", header, tuple(rows))


def attribute_table(settings: StudySettings, found: Found) -> Table:
    """Return the accuracy on each attribute, in percent, of cells with one label count."""
    values: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for cell, test in _in_order(settings, found):
        values.setdefault((cell.method, cell.subset == KTH), []).append(test["attributes"])
    names = list(found[0][1]["attributes"])
    rows = [
        (name, *(_mean([a[name]["accuracy"] for a in cells]) for cells in values.values()))
        for name in names
    ]
    labels = _column(settings, found[0][0].labels)
    caption = f"{settings.name}, {labels}: accuracy on each attribute in percent."
    header = ("attribute", *(_row_name(*key) for key in values))
    return Table(caption, header, tuple(rows))


def _in_order(settings: StudySettings, found: Found) -> Found:
    """Return cells in the order of the study's methods, the paper's subset first."""
    places = {method: i for i, method in enumerate(settings.methods)}
    return sorted(found, key=lambda each: (places.get(each[0].method, len(places)), each[0]))


def _row_name(method: str, kth: bool) -> str:
    return f"{method}, every k-th" if kth else method


def _column(settings: StudySettings, count: int) -> str:
    given = settings.counts.get(count)
    share = f"{given.percent:g} %, " if given is not None and given.percent else ""
    return f"{share}{count:,} labels"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _mean(values)
    return f"{_mean(values)} ± {100 * float(np.std(values, ddof=1)):.2f}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * float(np.mean(known)):.2f}" if known else ""


def _published(settings: StudySettings, counts: Sequence[int]) -> list[tuple[str, ...]]:
    """Return a row for each published method; its figures stand where the shares are the same."""
    known = {each["name"]: each for each in notes("published")["sets"]}
    given = known[str(settings.published)]
    shares = [c.percent if (c := settings.counts.get(n)) else None for n in counts]
    return [
        (
            f"{method}, {CITED}",
            *(
                _cited(
                    dict(zip(given["shares"], values, strict=True)),
                    share,
                    given["checked"].get(method, []),
                )
                for share in shares
            ),
        )
        for method, values in given["methods"].items()
    ]


def _cited(values: Mapping[float, float], share: float | None, checked: Sequence[float]) -> str:
    if share is None or share not in values:
        return ""
    return f"{values[share]:.2f}" + (CHECKED if share in checked else "")
