"""The file of predictions: what is written is read back, and what is wrong is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sspl.errors import DataError
from sspl.evaluation.predictions import Predictions, load_predictions, save_predictions

ARRAYS = {
    "names": np.array(["a.jpg", "b.jpg"]),
    "attributes": np.array(["Male", "Young", "Bald"]),
    "labels": np.array([[1, 0, -1], [0, -1, 1]], dtype=np.int8),
    "probabilities": np.array([[0.25, 0.5, 1], [0, 0.75, 0.125]], dtype=np.float32),
}


def test_predictions_are_read_back_as_they_were(tmp_path: Path) -> None:
    groups = {"identity": ("7", "8"), "race": ("", "Sámi")}
    given = Predictions(
        ("ä/1.jpg", "b.jpg"),
        ("Male", "Young", "Bald"),
        ARRAYS["labels"],
        ARRAYS["probabilities"],
        groups,
    )
    save_predictions(tmp_path / "p.npz", given)
    read = load_predictions(tmp_path / "p.npz")
    assert (read.names, read.attributes, read.groups) == (given.names, given.attributes, groups)
    np.testing.assert_array_equal(read.labels, given.labels)
    np.testing.assert_array_equal(read.probabilities, given.probabilities)
    assert read.labels.dtype == np.int8
    assert read.probabilities.dtype == np.float32


def test_four_arrays_are_enough(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **ARRAYS)  # type: ignore[arg-type]
    read = load_predictions(tmp_path / "p.npz")
    assert read.names == ("a.jpg", "b.jpg")
    assert read.groups == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "no array 'labels'"),
        ({"labels": np.array([[1, 0, 2], [0, 0, 0]], np.int8)}, "'labels' may be 1, 0 or -1"),
        ({"labels": np.zeros((2, 2), np.int8)}, "'labels' must be int8 of shape (2, 3)"),
        ({"labels": np.zeros((2, 3), np.int64)}, "'labels' must be int8 of shape (2, 3)"),
        ({"probabilities": np.full((2, 3), 1.5, np.float32)}, "between 0 and 1"),
        ({"probabilities": np.full((2, 3), np.nan, np.float32)}, "between 0 and 1"),
        ({"names": np.array([1, 2])}, "'names' must be text"),
        ({"names": np.array([None, "b"], dtype=object)}, "damaged"),
        ({"groups": np.array([["x"], ["y"]])}, "'groups' must have"),
        ({"group_columns": np.array(["race"])}, "'groups' must have"),
    ],
)
def test_wrong_predictions_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    arrays = {name: a for name, a in (ARRAYS | change).items() if a is not None}
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(DataError) as error:
        load_predictions(tmp_path / "p.npz")
    assert said in str(error.value)
    assert str(tmp_path / "p.npz") in str(error.value)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (8, 1, "encrypted"),
        (10, 99, "compression method is not supported"),
        (6, 99, "zip file version 9.9"),
    ],
)
def test_an_archive_with_a_strange_entry_is_refused(
    tmp_path: Path, at: int, value: int, reason: str
) -> None:
    """Each byte stands in the first entry of the directory at the end of a zip file."""
    path = tmp_path / "p.npz"
    said = Predictions(("a",), ("Male",), np.array([[1]], np.int8), np.array([[0.5]], "f4"))
    save_predictions(path, said)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + at] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged predictions .*{reason}"):
        load_predictions(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_damaged_and_missing_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load_predictions(tmp_path / "p.npz")
    with pytest.raises(DataError, match="sspl evaluate"):
        load_predictions(tmp_path / "q.npz")
