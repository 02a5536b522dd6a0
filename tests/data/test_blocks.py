"""Many rows at once: what is cut together is what row by row gives, or is not cut together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sspl.data.adapters import dialect
from sspl.data.adapters.blocks import Block, Grid
from sspl.data.adapters.maad import read_maad
from sspl.data.adapters.source import NameBook
from sspl.data.adapters.table import read_table
from sspl.data.records import FaceSet
from sspl.errors import DataError
from sspl.io.names import are_plain_names, is_plain_name

PLAIN = ("a.jpg", "b/c.png", "b/d-1.jpg", "7", "_x/y.z")
ODD = ("", "con.jpg", "b/nul", "/x", "x/", "a//b", ".h", "x/.h", "-a", "a b", "é.jpg", "b/../c")


def grid_of(text: str, columns: int) -> Grid:
    found = Block(text, ",", 5).grid(columns)
    assert found is not None
    return found


@pytest.mark.parametrize("end", ["", "\n"])
def test_fields_are_where_separators_say(end: str) -> None:
    grid = grid_of(f"a.jpg,1,-1,\nb,0,,x{end}", 4)
    assert len(grid) == 2
    assert [grid.column(i) for i in range(4)] == [["a.jpg", "b"], ["1", "0"], ["-1", ""], ["", "x"]]
    known = {"1": 1, "0": 0, "-1": 7, "": 255}
    assert grid.codes([1, 2], known) == bytes([1, 7, 0, 255])
    assert grid.codes(slice(1, 3), known) == bytes([1, 7, 0, 255])
    assert grid.codes([2, 1], known) == bytes([7, 1, 255, 0])


@pytest.mark.parametrize("field", ["2", "01", "1-", "1.0", "true", "-", "x"])
def test_a_value_without_a_code_is_not_guessed(field: str) -> None:
    known = {"1": 1, "0": 0, "-1": 7, "": 255, "true": 1}
    assert grid_of(f"a,1\nb,{field}\nc,-1", 2).codes([1], known) is None


@pytest.mark.parametrize(
    "text", ["a,1\nb\n", "a,1\n\nb,1\n", "a,1\nb,1,\n", "a\n1,b,c\n", "a,1,b,1\n"]
)
def test_rows_of_another_length_have_no_grid(text: str) -> None:
    assert Block(text, ",", 1).grid(2) is None


@given(st.lists(st.one_of(st.sampled_from(PLAIN + ODD), st.text(max_size=6)), min_size=1))
def test_names_that_are_plain_together_are_plain_each(names: list[str]) -> None:
    if are_plain_names(names):
        assert all(map(is_plain_name, names))


def test_nearly_all_names_there_are_are_plain_together() -> None:
    assert are_plain_names(PLAIN)
    for odd in ODD:
        assert not are_plain_names([*PLAIN, odd, "z"])
        assert not are_plain_names([*PLAIN, odd])


def test_a_book_takes_all_names_or_none() -> None:
    book = NameBook(Path("x.csv"))
    assert book.add_all(["a", "b"], 2)
    for again in (["c", "b"], ["c", "c"], ["c", "../d"]):
        assert not book.add_all(again, 4)
    assert (book.names, book.places) == (("a", "b"), (2, 3))


def read(kind: Any, file: Path) -> Any:
    try:
        faces = kind(file, missing="skip")
    except DataError as error:
        return str(error)
    assert isinstance(faces, FaceSet)
    groups = {name: list(members) for name, members in faces.groups.items()}
    return faces.names, faces.splits, faces.labels.tolist(), groups


def both_ways(kind: Any, file: Path) -> tuple[Any, Any]:
    """What is read in blocks of a line or two, and row by row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "_BLOCK", 30)
        fast = read(kind, file)
        patch.setattr(Block, "grid", lambda self, columns: None)
        return fast, read(kind, file)


FIELDS = st.one_of(
    st.sampled_from(["1", "0", "-1", "1", "0", "", "true", "1.0", "2", " 1", '"1"', "na", "'1"])
)
NAMES = st.sampled_from([*(f"{c}.jpg" for c in "abcdef"), *(f"f/{i}.jpg" for i in range(4)), *ODD])
ENDS = st.sampled_from(["\n", "\n", "\r\n", "\n\n", "\n,,,\n"])
ROWS = st.lists(
    st.tuples(
        NAMES, st.sampled_from(["train", "test", "", "NaN", "tests"]), FIELDS, FIELDS, ENDS
    ),
    max_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "f").mkdir()
    for name in [*(f"{c}.jpg" for c in "abcdef"), *(f"f/{i}.jpg" for i in range(4))]:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("kind", "header"), [(read_table, "image,split,A,B"), (read_maad, "Filename,Identity,A,B")]
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(rows=ROWS)
def test_files_are_read_as_row_by_row(
    place: Path, kind: Any, header: str, rows: list[tuple[str, ...]]
) -> None:
    text = "".join(",".join(row[:-1]) + row[-1] for row in rows)
    file = place / "t.csv"
    file.write_text(f"{header}\n{text}", newline="")
    fast, slow = both_ways(kind, file)
    assert fast == slow


def test_a_table_without_oddities_is_read_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one row of it goes through the slow way."""
    lines = [f"f/{i}.jpg,p{i % 2},{i % 2},-1" for i in range(4)]
    file = place / "plain.csv"
    file.write_text("\n".join(["Filename,Identity,A,B", *lines]))
    monkeypatch.setattr(NameBook, "add", None)
    faces = read_maad(file)
    assert faces.labels.tolist() == [[MAAD[i % 2], 0] for i in range(4)]
    assert list(faces.groups["identity"]) == ["p0", "p1", "p0", "p1"]
    assert np.dtype(faces.labels.dtype) == np.int8


MAAD = {0: -1, 1: 1}
