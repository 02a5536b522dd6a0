"""Variables of MATLAB files, version 5 to 7.3.

Version 5 is read here and not by scipy, whose reader ends the whole process on some damaged files:
every length in the file is compared with what is there before it is believed. Version 7.3 is HDF5.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from sspl.errors import DataError, SsplError

MAX_BYTES: Final = 2**28
"""Of one variable, so that a small file cannot ask for all the memory."""

_HDF5_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
# MATLAB puts its own 512-byte header before the HDF5 signature; other writers none.
_HDF5_OFFSETS: Final = (0, 512)
_HEADER_BYTES: Final = 128
_ORDERS: Final = {b"IM": "<", b"MI": ">"}
_NUMBERS: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""Kinds of numbers, by the type of the element that holds them."""

_CODES: Final = {
    1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"
}  # fmt: skip
"""Encodings of texts, by the type of the element that holds them."""

_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHARACTERS, _DOUBLE, _SINGLE, _LAST_NUMERIC = 1, 4, 6, 7, 15
_COMPLEX: Final = 0x800
_HEADS: Final = {(5, 1), (5, 16), (6, 1), (6, 16)}


def read_mat(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Read variables of a MATLAB file: numeric arrays as MATLAB shapes them, cells as lists.

    Nothing in the file is ever executed, no other file is opened. Raises `DataError` when the file
    is damaged, is no MATLAB file or lacks a variable, `SsplError` when h5py is needed and not
    installed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HDF5_OFFSETS[-1] + len(_HDF5_SIGNATURE))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    is_hdf5 = any(head[at:].startswith(_HDF5_SIGNATURE) for at in _HDF5_OFFSETS)
    try:
        content = _read_hdf5(path, keys) if is_hdf5 else _read_5(path.read_bytes(), keys)
    except SsplError:
        raise
    except Exception as error:  # a damaged file fails in HDF5 in many ways
        raise DataError(f"{path}: not a readable MATLAB file ({error}).") from error
    for key in keys:
        if key not in content:
            raise DataError(f"{path}: has no variable '{key}'; needed are {', '.join(keys)}.")
    return content


@dataclass(frozen=True)
class _Element:
    """A piece of a file: what type of content, and its bytes."""

    type: int
    content: memoryview


def _read_5(content: bytes, keys: Sequence[str]) -> dict[str, Any]:
    order = _ORDERS.get(content[_HEADER_BYTES - 2 : _HEADER_BYTES])
    if order is None:
        raise ValueError("it begins like none")
    found: dict[str, Any] = {}
    for element in _elements(memoryview(content)[_HEADER_BYTES:], order):
        whole = _inflated(element, order) if element.type == _COMPRESSED else element
        if whole.type != _MATRIX:
            raise ValueError(f"an element of type {whole.type} where a variable should be")
        name, value = _variable(whole.content, order, keys)
        if name in found:
            raise ValueError(f"variable '{name}' is there twice")
        if name in keys:
            found[name] = value
    return found


def _elements(content: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that lie one after another; each begins at a multiple of 8 bytes."""
    at = 0
    while at < len(content):
        if len(content) - at < 8:
            raise ValueError("it ends within an element")
        kind, length = (int(n) for n in np.frombuffer(content[at : at + 8], f"{order}u4"))
        start, small = at + 8, kind >> 16
        if small:  # up to four bytes within the tag itself
            kind, length, start = kind & 0xFFFF, small, at + 4
        if length > (4 if small else len(content) - start):
            raise ValueError(f"an element of {length} bytes where fewer are left")
        yield _Element(kind, content[start : start + length])
        at = at + 8 if small else start + length
        if not small and kind != _COMPRESSED:
            at += -length % 8


def _inflated(element: _Element, order: str) -> _Element:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(element.content, MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a variable of more than {MAX_BYTES:,} bytes")
    if not unpacker.eof:
        raise ValueError("a compressed variable is cut short")
    return next(_elements(memoryview(content), order), _Element(0, memoryview(b"")))


def _variable(content: memoryview, order: str, keys: Sequence[str]) -> tuple[str, Any]:
    """Return the name and value of a variable; None for one that is not asked for."""
    parts = _elements(content, order)
    flags, shape, name = _head(parts, order)
    if name not in keys:
        return name, None
    if flags & 0xFF == _CELL:
        return name, _cells(list(parts), math.prod(shape), order)
    if flags & 0xFF not in range(_DOUBLE, _LAST_NUMERIC + 1) or flags & _COMPLEX:
        raise ValueError(f"variable '{name}' is neither an array of numbers nor of cells")
    part = next(parts, None)
    if part is None or part.type not in _NUMBERS:
        raise ValueError(f"variable '{name}' holds no numbers")
    numbers = np.frombuffer(part.content, order + _NUMBERS[part.type])
    if len(numbers) != math.prod(shape):
        raise ValueError(f"variable '{name}' is {shape}, but holds {len(numbers)} numbers")
    # Whole numbers are kept in fewer bytes, fractions or not.
    if flags & 0xFF in (_DOUBLE, _SINGLE):
        numbers = numbers.astype(np.float64)
    return name, numbers.reshape(shape, order="F")


def _head(parts: Iterator[_Element], order: str) -> tuple[int, tuple[int, ...], str]:
    """Return class and flags, shape and name, with which every variable begins."""
    flags, shape, name = (next(parts, None) for _ in range(3))
    if flags is None or shape is None or name is None:
        raise ValueError("a variable is cut short")
    # Some writers call sizes unsigned, and names UTF-8.
    if (flags.type, len(flags.content)) != (6, 8) or (shape.type, name.type) not in _HEADS:
        raise ValueError("a variable does not begin like one")
    sides = tuple(int(n) for n in np.frombuffer(shape.content, f"{order}i4"))
    if len(sides) < 2 or min(sides) < 0:
        raise ValueError(f"a variable of shape {sides}")
    word = int(np.frombuffer(flags.content[:4], f"{order}u4")[0])
    return word, sides, bytes(name.content).decode("ascii")


def _cells(parts: list[_Element], count: int, order: str) -> list[str]:
    if len(parts) != count:
        raise ValueError(f"{count} cells should be there, and {len(parts)} are")
    return [_cell_text(part, order) for part in parts]


def _cell_text(cell: _Element, order: str) -> str:
    """Return the text of a cell, an empty one for a cell of something else."""
    if cell.type != _MATRIX:
        raise ValueError(f"an element of type {cell.type} where a cell should be")
    if not len(cell.content):
        return ""
    parts = _elements(cell.content, order)
    flags, shape, _ = _head(parts, order)
    if flags & 0xFF != _CHARACTERS or shape[0] > 1:
        return ""
    part = next(parts, _Element(16, memoryview(b"")))
    if part.type not in _CODES:
        raise ValueError(f"a text in an element of type {part.type}")
    code = _CODES[part.type]
    text = bytes(part.content).decode(
        f"{code}-{'le' if order == '<' else 'be'}" if code in ("utf-16", "utf-32") else code
    )
    # MATLAB counts units of UTF-16, other writers characters.
    if math.prod(shape) not in (len(text), len(text.encode("utf-16-le")) // 2):
        raise ValueError(f"a text of {len(text)} characters in a cell for {math.prod(shape)}")
    return text


def _read_hdf5(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise SsplError(
            f"{path} is a MATLAB 7.3 file, which needs h5py; run in the clone of sspl: "
            "pip install '.[lfwa]'."
        ) from None

    def numbers(dataset: Any) -> np.ndarray:
        # Either would bring what is in other files.
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name} has its content in another file")
        if dataset.size * dataset.dtype.itemsize > MAX_BYTES:
            raise ValueError(f"a variable of more than {MAX_BYTES:,} bytes")
        return np.asarray(dataset[()])

    def value(key: str) -> Any:
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"'{key}' is a link to something else")
        # MATLAB stores column-major, so HDF5 shows every array transposed.
        content = numbers(file[key])
        if h5py.check_ref_dtype(content.dtype) is None:
            return content.T
        return [_text(numbers(file[reference])) for reference in content.ravel()]

    with h5py.File(path, "r") as file:
        return {key: value(key) for key in keys if key in file}


def _text(characters: np.ndarray) -> str:
    if characters.dtype != np.uint16:
        return ""
    return characters.ravel().astype("<u2").tobytes().decode("utf-16-le")
