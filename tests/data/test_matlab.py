"""MATLAB files, against scipy's reader: its own test files, which MATLAB wrote, and new ones."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.io import loadmat, savemat, whosmat

from sspl.data.adapters import matlab
from sspl.data.adapters.matlab import read_mat
from sspl.errors import DataError

NUMERIC = {
    "double",
    "single",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


OTHERS = re.compile(r"_4\.2c_|_4_|mat4|m4\.|hdf5|complex|sparse|bad_|corrupted|malformed|duplicate")


def written_by_matlab() -> list[Path]:
    """Scipy's test files of version 5 to 7, without damage."""
    folder = Path(str(resources.files("scipy.io.matlab"))) / "tests" / "data"
    return sorted(f for f in folder.glob("*.mat") if not OTHERS.search(f.name))


@pytest.mark.skipif(not written_by_matlab(), reason="scipy came without its test files")
def test_files_that_matlab_wrote_on_many_machines() -> None:
    arrays_read = texts_read = 0
    for path in written_by_matlab():
        for name, _, kind in whosmat(path):
            if name == "__function_workspace__":
                continue
            expected = loadmat(path, variable_names=[name])[name]
            if kind in NUMERIC:
                found = read_mat(path, [name])[name]
                assert found.shape == expected.shape
                assert np.array_equal(found, expected)
                arrays_read += 1
            elif kind == "cell":
                cells = [c.item() if c.dtype.kind == "U" else "" for c in expected.ravel("F")]
                assert read_mat(path, [name])[name] == cells
                texts_read += sum(map(bool, cells))
            else:
                with pytest.raises(DataError, match=f"variable '{name}' is neither"):
                    read_mat(path, [name])
    assert arrays_read > 20
    assert texts_read > 5


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_arrays_and_texts_of_all_kinds(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8", "?"]
    array = data.draw(
        arrays(data.draw(st.sampled_from(kinds)), array_shapes(min_dims=2, max_dims=3, max_side=5))
    )
    # Scipy writes a text without its trailing zeros, and none with half a surrogate pair.
    character = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    texts = data.draw(st.lists(st.text(character, min_size=1, max_size=9), min_size=1, max_size=4))
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = texts
    path = tmp_path_factory.mktemp("mat") / "x.mat"
    content = {"more": {"a": 1}, "array": array, "cells": cells, "row": cells.T}
    savemat(path, content, do_compression=data.draw(st.booleans()))
    found = read_mat(path, ["array", "cells", "row"])
    assert np.array_equal(found["array"], array, equal_nan=array.dtype.kind == "f")
    assert found["cells"] == found["row"] == texts


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(flags: int, shape: tuple[int, ...], *parts: bytes, name: bytes = b"label") -> bytes:
    head = element(6, struct.pack("<II", flags, 0)) + element(
        5, struct.pack(f"<{len(shape)}i", *shape)
    )
    return element(14, head + element(1, name) + b"".join(parts))


def file(*variables: bytes) -> bytes:
    return b"by hand".ljust(124) + b"\0\1IM" + b"".join(variables)


def doubles(*values: float) -> bytes:
    return element(9, struct.pack(f"<{len(values)}d", *values))


def cell_of_text(units: int, kind: int, text: bytes) -> bytes:
    return variable(1, (1, 1), variable(4, (1, units), element(kind, text), name=b""))


def read(tmp_path: Path, content: bytes) -> object:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    return read_mat(path, ["label"])["label"]


def test_files_made_by_hand(tmp_path: Path) -> None:
    found = read(tmp_path, file(variable(6, (2, 1), doubles(1, 0))))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [[1.0], [0.0]]
    # MATLAB itself writes texts in units of UTF-16, of which the second of these takes two.
    assert read(tmp_path, file(cell_of_text(3, 4, "ë😀".encode("utf-16-le")))) == ["ë😀"]
    assert read(tmp_path, file(cell_of_text(2, 16, "ë😀".encode()))) == ["ë😀"]


def squeezed(content: bytes, cut: int | None = None) -> bytes:
    packed = zlib.compress(content)[:cut]
    return struct.pack("<II", 15, len(packed)) + packed


WRONG = {
    "fewer numbers than the shape says": file(variable(6, (3, 1), doubles(1, 0))),
    "more numbers than the shape says": file(variable(6, (1, 1), doubles(1, 0))),
    "a shape below nothing": file(variable(6, (-2, -1), doubles(1, 0))),
    "one side alone": file(variable(6, (2,), doubles(1, 0))),
    "a shape beyond memory": file(variable(6, (2**31 - 1, 2**31 - 1), doubles(1))),
    "a length beyond the file": file(struct.pack("<II", 14, 2**32 - 1)),
    "half a tag": file(variable(6, (2, 1), doubles(1, 0)), b"\x0e\0\0"),
    "complex numbers": file(variable(0x806, (1, 1), doubles(1), doubles(1))),
    "numbers of no kind": file(variable(6, (1, 1), element(8, bytes(8)))),
    "a variable twice": file(*[variable(6, (1, 1), doubles(x)) for x in (0, 1)]),
    "more cells than there are": file(variable(1, (2, 1), element(14, b""))),
    "a text shorter than its shape": file(cell_of_text(0x7B000005, 16, b"b.png")),
    "a text of no kind": file(cell_of_text(1, 9, bytes(8))),
    "half a pair of UTF-16": file(cell_of_text(1, 17, b"\0\xd8")),
    "a compressed variable cut short": file(squeezed(variable(6, (1, 1), doubles(1)), -2)),
    "nothing, compressed": file(squeezed(b"")),
    "compressed twice": file(squeezed(squeezed(variable(6, (1, 1), doubles(1))))),
    "no order of bytes": b"by hand".ljust(128) + variable(6, (1, 1), doubles(1)),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused(tmp_path: Path, what: str) -> None:
    with pytest.raises(DataError, match=r"x.mat: not a readable MATLAB file \(.+\)\.$"):
        read(tmp_path, WRONG[what])


def test_a_variable_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MAX_BYTES", 1000)
    whole = variable(6, (100, 1), doubles(*[0.0] * 100))
    assert len(whole) <= 1000
    assert np.shape(read(tmp_path, file(squeezed(whole)))) == (100, 1)
    swelling = variable(6, (200, 1), doubles(*[0.0] * 200))
    with pytest.raises(DataError, match="a variable of more than 1,000 bytes"):
        read(tmp_path, file(squeezed(swelling)))


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as opened:
        fill(opened)
    return content.getvalue()


def test_hdf5_files_bring_nothing_of_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(struct.pack("<2d", 1, 0))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["label"] = [[1.0, 0.0]]

    def outside(opened: h5py.File) -> None:
        opened.create_dataset("label", (1, 2), "f8", external=[(str(secret), 0, 16)])

    def linked(opened: h5py.File) -> None:
        opened["label"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "label")

    def virtual(opened: h5py.File) -> None:
        layout = h5py.VirtualLayout((1, 2), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "label", (1, 2))
        opened.create_virtual_dataset("label", layout)

    def huge(opened: h5py.File) -> None:
        opened.create_dataset("label", (2**40, 2), "f8", chunks=(1, 2))

    for fill, reason in (
        (outside, "has its content in another file"),
        (virtual, "has its content in another file"),
        (linked, "is a link to something else"),
        (huge, "a variable of more than"),
    ):
        with pytest.raises(DataError, match=reason):
            read(tmp_path, hdf5(fill))
    sound = hdf5(lambda opened: opened.create_dataset("label", (1, 2), "f4"))
    assert np.shape(read(tmp_path, sound)) == (2, 1)
