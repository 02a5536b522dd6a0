"""Predictions as CSV, JSON lines or Parquet, by the suffix of the file.

Probabilities are written with all their digits, so that the decision beside one is what the
model's threshold makes of the number as it is read back.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sspl.data.streams import in_batches
from sspl.domain.attributes import PROBABILITY
from sspl.errors import SettingsError, SsplError
from sspl.io.files import atomic_path, cell

CHUNK: Final = 4096
"""Rows of one group of a Parquet file."""


@dataclass(frozen=True)
class PredictionRow:
    """What a model says of one face.

    Args:
        image: name of the picture.
        frame, seconds: place in a video, None for still pictures.
        face: number of the face in its picture, the largest first; None without detection.
        box: left, top, right, bottom in px; None without detection.
        score: the detector's; None without detection.
        probabilities: one for each attribute.
        present: for each attribute whether it is there; None: not sure.
    """

    image: str
    frame: int | None
    seconds: float | None
    face: int | None
    box: tuple[float, float, float, float] | None
    score: float | None
    probabilities: Sequence[float]
    present: Sequence[bool | None]


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Args:
        attributes: names, in order.
        moving: whether frames of videos are among the pictures.
        detected: whether faces were searched for in some.
    """

    attributes: tuple[str, ...]
    moving: bool = False
    detected: bool = False

    def place_columns(self) -> list[str]:
        """Return the columns before those of the attributes."""
        columns = ["image"]
        columns += ["frame", "seconds"] if self.moving else []
        columns += ["face", "left", "top", "right", "bottom", "score"] if self.detected else []
        return columns

    def place(self, row: PredictionRow) -> list[Any]:
        """Return a row's values of `place_columns`."""
        values: list[Any] = [row.image]
        if self.moving:
            values += [row.frame, None if row.seconds is None else round(row.seconds, 3)]
        if self.detected:
            sides = row.box or (None,) * 4
            values += [row.face, *(None if px is None else round(px, 2) for px in sides)]
            values.append(None if row.score is None else round(row.score, 4))
        return values


def write_csv_table(path: Path, layout: Layout, rows: Iterable[PredictionRow]) -> None:
    """Write one row a face: where it is, then decision (1, 0, empty: not sure) and probability."""
    header = layout.place_columns()
    for name in layout.attributes:
        header += [name, f"{name}{PROBABILITY}"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            cells = [cell("image", row.image), *layout.place(row)[1:]]
            for probability, present in zip(row.probabilities, row.present, strict=True):
                cells += [None if present is None else int(present), repr(float(probability))]
            writer.writerow(cells)


def write_json_lines(path: Path, layout: Layout, rows: Iterable[PredictionRow]) -> None:
    """Write one JSON object a face; an attribute's `present` is null where it is not sure."""
    columns = layout.place_columns()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            entry = dict(zip(columns, layout.place(row), strict=True))
            entry["attributes"] = {
                name: {"probability": float(probability), "present": present}
                for name, probability, present in zip(
                    layout.attributes, row.probabilities, row.present, strict=True
                )
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def write_parquet(path: Path, layout: Layout, rows: Iterable[PredictionRow]) -> None:
    """Write the columns of the CSV, decisions as booleans that may be null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"image": pa.string(), "frame": pa.int64(), "face": pa.int32()}
    fields = [(column, kinds.get(column, pa.float64())) for column in layout.place_columns()]
    for name in layout.attributes:
        fields += [(name, pa.bool_()), (f"{name}{PROBABILITY}", pa.float64())]
    schema = pa.schema(fields)

    def flat(row: PredictionRow) -> list[Any]:
        pairs = zip(row.present, row.probabilities, strict=True)
        return [*layout.place(row), *(value for pair in pairs for value in pair)]

    with pq.ParquetWriter(path, schema) as writer:
        for chunk in in_batches(map(flat, rows), CHUNK):
            columns = zip(*chunk, strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


WRITERS: Final[dict[str, Callable[[Path, Layout, Iterable[PredictionRow]], None]]] = {
    ".csv": write_csv_table,
    ".jsonl": write_json_lines,
    ".parquet": write_parquet,
}


def check_table(path: Path) -> None:
    """Raise `SsplError` when a table cannot be written under this name."""
    if path.suffix not in WRITERS:
        raise SettingsError(f"{path}: give the file a name that ends in {', '.join(WRITERS)}.")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise SsplError(
                "Parquet files need pyarrow, which is not installed; "
                "run in the clone of sspl: pip install '.[parquet]'."
            ) from None


def write_table(path: Path, layout: Layout, rows: Iterable[PredictionRow]) -> None:
    """Write rows atomically, in the format that the suffix names; see `check_table`."""
    with atomic_path(path) as temporary:
        WRITERS[path.suffix](temporary, layout, rows)
