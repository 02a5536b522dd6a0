"""What a file of weights says of itself, read without its tensors, and so without torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sspl.errors import DataError, SettingsError
from sspl.io.files import parse_json
from sspl.settings import S, build
from sspl.settings.early_files import renamed_keys

METADATA_KEY: Final = "sspl"
CHECKSUM_KEY: Final = "sspl_sha256"
LENGTH_BYTES: Final = 8
MAX_HEADER: Final = 16 * 2**20
MAX_TENSORS: Final = 100_000
MAX_DIMENSIONS: Final = 8
ITEM_BYTES: Final = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip
"""Bytes of one number, by the name of its kind in a safetensors header."""


def checked_metadata(kind: type[S], metadata: Mapping[str, Any], path: Path) -> S:
    """Return a file's metadata as settings; raise `DataError` naming each that does not fit."""
    try:
        return build(kind, dict(metadata))
    except SettingsError as error:
        reason = str(error).rstrip(".")
        raise DataError(f"{path}: metadata that this version cannot use ({reason}).") from None


def stated_metadata(path: Path) -> Any:
    """Return the metadata in a safetensors file, None where it has none; tensors are not read.

    Raises `DataError` for a file that is missing, damaged or no safetensors file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; give the folder of a finished run.")
    try:
        metadata = parse_json(check_header(path).get(METADATA_KEY, "null"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged model file ({error}).") from None
    return renamed_keys(metadata) if isinstance(metadata, dict) else metadata


def stated_checksum(path: Path) -> str | None:
    """Return the checksum of tensors and metadata that a file carries, None where it has none.

    Two files of equal content may differ in their bytes, not in this. Raises `DataError` for a
    file that is damaged or no safetensors file.
    """
    try:
        return check_header(path).get(CHECKSUM_KEY)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged model file ({error}).") from None


def check_header(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; raise `ValueError` when its parts do not fit.

    The header must describe the rest of the file exactly: byte ranges without gaps, each as long
    as its shape and kind of number say, ending where the file ends.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 2 <= length <= min(MAX_HEADER, size - LENGTH_BYTES):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = parse_json(file.read(length).decode("utf-8"))
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise ValueError(f"its header is no list of up to {MAX_TENSORS} tensors")
    header_texts = header.pop("__metadata__", {})
    if not isinstance(header_texts, dict) or not all(
        isinstance(v, str) for v in header_texts.values()
    ):
        raise ValueError("its metadata are no texts")
    end = 0
    for name, (start, stop) in sorted(
        ((name, _extent(name, entry)) for name, entry in header.items()), key=lambda pair: pair[1]
    ):
        if start != end:
            raise ValueError(f"tensor '{name}' starts at byte {start}, not {end}")
        end = stop
    if end != size - LENGTH_BYTES - length:
        raise ValueError(f"{end} bytes of tensors in a file that has {size - 8 - length} for them")
    return header_texts


def _extent(name: str, entry: Any) -> tuple[int, int]:
    """Return where a tensor's bytes start and end; raise `ValueError` when they do not fit it."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor '{name}' has no dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in ITEM_BYTES:
        raise ValueError(f"tensor '{name}' holds {kind}, not one of {', '.join(ITEM_BYTES)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor '{name}' has no proper shape and data_offsets")
    start, stop = offsets
    if stop - start != math.prod(shape) * ITEM_BYTES[kind]:
        raise ValueError(f"tensor '{name}' has {stop - start} bytes for shape {shape} of {kind}")
    return start, stop


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**48 for n in value)
    )
