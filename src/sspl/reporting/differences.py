"""Paired differences between the methods of a study: as rows of a CSV, and in sentences."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

from sspl.data.adapters.dialect import read_csv
from sspl.errors import DataError
from sspl.io.files import write_csv
from sspl.reporting.result_table import PROTOCOLS, TITLES

DIFFERENCES_FILE: Final = "differences.csv"


@dataclass(frozen=True)
class Difference:
    """`a` less `b` in the mean of one figure, as shares, with its paired interval.

    `better` is "a" or "b" where the interval excludes zero, else empty.
    """

    protocol: str
    a: str
    b: str
    labels: int
    subsets: int
    figure: str
    value_a: float
    value_b: float
    low: float
    high: float
    better: str


DIFFERENCE_COLUMNS: Final = tuple(field.name for field in fields(Difference))


def write_differences(path: Path, rows: Sequence[Difference]) -> None:
    """Write differences as CSV, shares to six places."""
    shown = [[round(v, 6) if isinstance(v, float) else v for v in astuple(row)] for row in rows]
    write_csv(path, DIFFERENCE_COLUMNS, shown)


def read_differences(path: Path) -> list[Difference]:
    """Read what `write_differences` wrote.

    Raises `DataError` naming file and line for other columns or a value of the wrong kind.
    """
    lines = read_csv(path)
    line, header = next(lines)
    if tuple(header) != DIFFERENCE_COLUMNS:
        raise DataError(
            f"{path}, line {line}: expected the columns {','.join(DIFFERENCE_COLUMNS)}."
        )
    kinds = {field.name: field.type for field in fields(Difference)}
    rows = []
    for line, values in lines:
        content: dict[str, str | int | float] = {}
        for name, text in zip(header, values, strict=True):
            kind = kinds[name]
            assert isinstance(kind, type)
            try:
                content[name] = kind(text)
            except ValueError:
                raise DataError(
                    f"{path}, line {line}: '{name}' is '{text}'; give a number."
                ) from None
        if content["protocol"] not in PROTOCOLS or content["better"] not in ("a", "b", ""):
            raise DataError(f"{path}, line {line}: unknown protocol or verdict.")
        rows.append(Difference(**content))  # type: ignore[arg-type]
    return rows


def verdict_sentences(rows: Sequence[Difference]) -> list[str]:
    """Say plainly where `a` is better than the others, where worse, and where nothing is shown.

    One sentence for each protocol and figure; "better" and "worse" only where the paired interval
    of the difference excludes zero. Label counts follow in brackets unless the verdict is the same
    at all that were compared.
    """
    sentences = []
    for protocol, figure in dict.fromkeys((row.protocol, row.figure) for row in rows):
        mine = [row for row in rows if (row.protocol, row.figure) == (protocol, figure)]
        said = [
            f"{verb} {', '.join(_against(mine, verdict))}"
            for verdict, verb in (
                ("a", "Better than"),
                ("b", "Worse than"),
                ("", "No difference shown to"),
            )
            if any(row.better == verdict for row in mine)
        ]
        sentences.append(f"{PROTOCOLS[protocol]}, {TITLES[figure]}: {'. '.join(said)}.")
    return sentences


def _against(rows: Sequence[Difference], verdict: str) -> list[str]:
    """Return the methods with this verdict, first those where it holds at all label counts."""
    always, sometimes = [], []
    for other in dict.fromkeys(row.b for row in rows):
        counts = [f"{r.labels:,}" for r in rows if r.b == other and r.better == verdict]
        if len(counts) == sum(row.b == other for row in rows):
            always.append(other)
        elif counts:
            sometimes.append(f"{other} ({_listed(counts)})")
    return always + sometimes


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
