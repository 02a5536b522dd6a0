"""How far two people agree who labelled the same faces: what a model cannot be surer than."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.adapters.label_studio import Export
from sspl.data.adapters.source import LabelTable
from sspl.data.adapters.table import label_columns, label_table
from sspl.data.records import MISSING
from sspl.errors import DataError
from sspl.evaluation.statistics import LEVEL, RESAMPLES, Interval, interval, wilson
from sspl.io.files import write_csv
from sspl.metrics.rankings import ratio

SEED: Final = 0
_WORDS: Final = {1: "yes", 0: "no", MISSING: ""}


@dataclass(frozen=True)
class Agreement:
    """What two annotators said of one attribute.

    Args:
        pair: whose answers.
        attribute: of what.
        counts: int64 (2, 2), faces by the answer of the first (0 no, 1 yes) and of the second.
        kappa_interval: 95 % bootstrap interval of `kappa`; None where it is not defined.
    """

    pair: tuple[str, str]
    attribute: str
    counts: NDArray[np.int64]
    kappa_interval: Interval | None

    @property
    def faces(self) -> int:
        """Faces that both answered by yes or no."""
        return int(self.counts.sum())

    @property
    def agreed(self) -> tuple[float, float, float]:
        """The share of equal answers, and its 95 % interval after Wilson."""
        return wilson(int(np.trace(self.counts)), self.faces)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; None where both gave one and the same answer to every face."""
        found = float(kappas(self.counts.reshape(1, 4))[0])
        return None if math.isnan(found) else found

    def result(self) -> dict[str, Any]:
        """Return it as JSON values."""
        share, low, high = self.agreed
        return {
            "annotators": list(self.pair),
            "attribute": self.attribute,
            "faces": self.faces,
            "counts": self.counts.tolist(),
            "agreement": share,
            "agreement_interval": [low, high],
            "kappa": self.kappa,
            "kappa_interval": self.kappa_interval,
        }


def kappas(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Cohen's kappa (n,) of counts (n, 4): no-no, no-yes, yes-no, yes-yes.

    It is the agreement beyond that of answers by chance at both persons' own rates (Cohen,
    Educational and Psychological Measurement 1960), NaN where that chance is 1.
    """
    table = counts.reshape(-1, 2, 2).astype(np.float64)
    total = table.sum((1, 2))
    same = np.trace(table, axis1=1, axis2=2) * total
    chance = (table.sum(1) * table.sum(2)).sum(1)
    return ratio(same - chance, total**2 - chance)


def annotations(files: Sequence[Path]) -> dict[str, LabelTable]:
    """Return the labels of each annotator: one of a CSV file, several of Label Studio's exports.

    Raises `DataError` for a file that cannot be read, and for fewer than two annotators.
    """
    found: dict[str, LabelTable] = {}
    columns = {file: label_columns(file) for file in files if file.suffix.lower() != ".json"}
    answered = {column for labels, _ in columns.values() for column in labels}
    for file in files:
        if file not in columns:
            export = Export(file)
            several = {f"{file.name}, {who}": export.table(who=who) for who in export.annotators}
        else:
            # A column that another one has as labels is meant as such: what is wrong in it is said.
            ignored = tuple(column for column in columns[file][1] if column not in answered)
            several = {file.name: label_table(file, file.parent, ignore=ignored, settable=False)}
        for who, table in several.items():
            found[str(table.file) if who in found else who] = table
    if len(found) < 2:
        raise DataError(
            f"{files[0]}: holds the labels of one annotator; give the file of another one, too."
        )
    return found


def agreements(tables: Mapping[str, LabelTable]) -> list[Agreement]:
    """Return the agreement of every two annotators on every attribute that both answered.

    Faces are the same where their names are. Raises `DataError` where no two have any in common.
    """
    found = []
    for one, other in combinations(tables, 2):
        a, b = tables[one], tables[other]
        rows = {name: row for row, name in enumerate(b.names)}
        shared = [(i, rows[name]) for i, name in enumerate(a.names) if name in rows]
        places = np.array(shared, dtype=np.int64).reshape(-1, 2)
        for attribute in (name for name in a.attributes if name in b.attributes):
            x = a.labels[places[:, 0], a.attributes.index(attribute)]
            y = b.labels[places[:, 1], b.attributes.index(attribute)]
            both = (x != MISSING) & (y != MISSING)
            counts = np.bincount(2 * x[both] + y[both], minlength=4)
            if counts.sum():
                table = counts.astype(np.int64).reshape(2, 2)
                found.append(Agreement((one, other), attribute, table, _bounds(counts)))
    if not found:
        raise DataError(
            f"{' and '.join(tables)}: no two have a yes or no for the same attribute of the same "
            "face; are 'image' and the attributes called alike?"
        )
    return found


def _bounds(counts: NDArray[np.int64]) -> Interval | None:
    drawn = np.random.default_rng(SEED).multinomial(
        counts.sum(), counts / counts.sum(), size=RESAMPLES
    )
    return interval(kappas(drawn), LEVEL)


def write_disputed(out: Path, tables: Mapping[str, LabelTable]) -> int:
    """Write each face and attribute with a yes and a no, and who said which; return how many."""
    attributes = dict.fromkeys(name for table in tables.values() for name in table.attributes)
    names = dict.fromkeys(name for table in tables.values() for name in table.names)
    places = {
        who: ({n: i for i, n in enumerate(t.names)}, {a: i for i, a in enumerate(t.attributes)})
        for who, t in tables.items()
    }

    def answer(who: str, name: str, attribute: str) -> int:
        rows, columns = places[who]
        known = name in rows and attribute in columns
        return int(tables[who].labels[rows[name], columns[attribute]]) if known else MISSING

    rows = []
    for attribute in attributes:
        for name in names:
            given = [answer(who, name, attribute) for who in tables]
            if {0, 1} <= set(given):
                rows.append([name, attribute, *(_WORDS[value] for value in given)])
    write_csv(out, ["image", "attribute", *tables], rows)
    return len(rows)


def agreement_text(found: Sequence[Agreement]) -> str:
    """Return a table for each two annotators."""
    rows = [("attribute", "faces", "agree", "95 %", "kappa", "95 %"), *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *lines = (
        "  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in rows
    )
    parts = [
        [f"{pair[0]} and {pair[1]}", head]
        + [line for line, one in zip(lines, found, strict=True) if one.pair == pair]
        for pair in dict.fromkeys(one.pair for one in found)
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _row(one: Agreement) -> tuple[str, ...]:
    share, low, high = one.agreed
    kappa, bounds = one.kappa, one.kappa_interval
    return (
        one.attribute,
        f"{one.faces:,}",
        f"{100 * share:.0f} %",
        f"{100 * low:.0f} to {100 * high:.0f}",
        "-" if kappa is None else f"{kappa:.2f}",
        "-" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}",
    )
