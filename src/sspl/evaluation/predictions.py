"""Predictions of a labelled split as one file, from which every figure can be made again."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.records import MISSING, Labels
from sspl.errors import DataError, first_line
from sspl.io.files import ARCHIVE_DAMAGES, write_bytes

_ARRAYS: Final = ("names", "attributes", "labels", "probabilities")


@dataclass(frozen=True)
class Predictions:
    """What a model said about labelled faces, and what is true.

    Args:
        names: of the faces.
        attributes: their names, in the order of the columns.
        labels: int8 (faces, attributes), 1 yes, 0 no, `MISSING` unknown.
        probabilities: float32 (faces, attributes).
        groups: as in `FaceSet`: for each name (such as `race`) the group of every face.
    """

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    labels: Labels
    probabilities: NDArray[np.float32]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.attributes))
        if self.labels.shape != shape or self.probabilities.shape != shape:
            raise ValueError(f"labels and probabilities must have the shape {shape}")
        if any(len(values) != len(self.names) for values in self.groups.values()):
            raise ValueError("every group column needs one value for each face")

    def __len__(self) -> int:
        return len(self.names)

    def select(self, faces: Sequence[int], attributes: Sequence[str]) -> "Predictions":
        """Return the faces at some places and the attributes of some names, in that order.

        Raises `DataError` for an attribute that is not there.
        """
        for name in attributes:
            if name not in self.attributes:
                raise DataError(f"there are no predictions of the attribute '{name}'.")
        block = np.ix_(list(faces), [self.attributes.index(name) for name in attributes])
        return Predictions(
            tuple(self.names[i] for i in faces),
            tuple(attributes),
            self.labels[block],
            self.probabilities[block],
            {name: tuple(values[i] for i in faces) for name, values in self.groups.items()},
        )


def predictions_file(folder: Path, split: str) -> Path:
    """Return where a run folder keeps the predictions of a split."""
    return folder / f"predictions-{split}.npz"


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions atomically as a NumPy archive of plain arrays (nothing pickled).

    Arrays: `names` and `attributes` (text), `labels` (int8, -1 missing), `probabilities`
    (float32), `group_columns` and `groups` (text; faces x columns).
    """
    columns = list(predictions.groups)
    groups = [predictions.groups[column] for column in columns]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(predictions.names, dtype=np.str_),
        attributes=np.array(predictions.attributes, dtype=np.str_),
        labels=predictions.labels.astype(np.int8),
        probabilities=predictions.probabilities.astype(np.float32),
        group_columns=np.array(columns, dtype=np.str_),
        groups=np.array(groups, dtype=np.str_).reshape(len(columns), len(predictions)).T,
    )
    write_bytes(path, buffer.getvalue())


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote; group columns may be absent.

    Raises `DataError` when the file is missing, damaged, or an array is not what it should be.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of predictions; make it with 'sspl evaluate'.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except ARCHIVE_DAMAGES as error:
        raise DataError(
            f"{path}: damaged predictions ({first_line(error)}); make them anew."
        ) from None
    _check(path, arrays)
    columns = arrays.get("group_columns", np.empty(0, np.str_))
    groups = arrays.get("groups", np.empty((len(arrays["names"]), 0), np.str_))
    return Predictions(
        tuple(arrays["names"].tolist()),
        tuple(arrays["attributes"].tolist()),
        arrays["labels"],
        arrays["probabilities"],
        {str(c): tuple(groups[:, i].tolist()) for i, c in enumerate(columns)},
    )


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name in _ARRAYS:
        if name not in arrays:
            raise DataError(f"{path}: has no array '{name}'; it holds {', '.join(arrays)}.")
    names, attributes, labels, probabilities = (arrays[name] for name in _ARRAYS)
    shape = (names.size, attributes.size)
    for name in ("names", "attributes", "group_columns", "groups"):
        if name in arrays and arrays[name].dtype.kind != "U":
            raise DataError(f"{path}: '{name}' must be text, not {arrays[name].dtype}.")
    for name, wanted in (("labels", np.int8), ("probabilities", np.float32)):
        array = arrays[name]
        if array.dtype != wanted or array.shape != shape:
            raise DataError(
                f"{path}: '{name}' must be {np.dtype(wanted)} of shape {shape}, "
                f"not {array.dtype} of {array.shape}."
            )
    if not np.isin(labels, (MISSING, 0, 1)).all():
        raise DataError(f"{path}: 'labels' may be 1, 0 or {MISSING} (unknown) alone.")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DataError(f"{path}: 'probabilities' must lie between 0 and 1.")
    columns, groups = arrays.get("group_columns"), arrays.get("groups")
    counted = (names.size, 0) if groups is None else groups.shape
    if counted != (names.size, 0 if columns is None else columns.size):
        raise DataError(f"{path}: 'groups' must have a row a face and a column a group column.")
