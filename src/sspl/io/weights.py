"""Weights on disk: safetensors only, checked strictly, with the metadata about them in JSON."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sspl.errors import DataError, SettingsError
from sspl.io.early_files import renamed_keys, renamed_tensors
from sspl.io.files import atomic_path, parse_json
from sspl.settings import S, build

M = TypeVar("M", bound=nn.Module)

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


@dataclass(frozen=True)
class TransferReport:
    """Names of the tensors that were loaded, left behind and newly initialised."""

    loaded: tuple[str, ...]
    left: tuple[str, ...]
    new: tuple[str, ...]

    def text(self) -> str:
        """Return the report with tensors counted by their module."""
        lines = []
        for title, names in (
            ("transferred", self.loaded),
            ("left behind", self.left),
            ("new", self.new),
        ):
            modules = Counter(".".join(n.split(".")[:2]) for n in names)
            parts = ", ".join(f"{m} ({c})" for m, c in modules.items()) or "nothing"
            lines.append(f"{title}: {len(names)} tensors: {parts}")
        return "\n".join(lines)


def save_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any] | None,
    previous: Path | None = None,
) -> None:
    """Write tensors and JSON-able `metadata`, if any, atomically to one safetensors file.

    A checksum goes with them. With `previous`, the file that was at `path` is kept there.
    """
    contiguous = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps(metadata)
    header_texts = {"format": "pt"} if metadata is None else {METADATA_KEY: text}
    header_texts[CHECKSUM_KEY] = _checksum(contiguous, text)
    with atomic_path(path, previous) as temporary:
        try:
            save_file(contiguous, temporary, header_texts)
        except SafetensorError as error:
            # safetensors wraps the operating system's error, a full disk say, in its own.
            raise OSError(str(error)) from error


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of names, kinds, shapes and values of tensors, and of the metadata."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and metadata of a file that `save_tensors` wrote.

    Raises `DataError` when the file is missing, damaged or was not written by this software.
    """
    tensors, metadata = read_tensors(path)
    if not isinstance(metadata, dict):
        raise DataError(f"{path}: not a model of this software; it carries no 'sspl' metadata.")
    return tensors, metadata


def checked_metadata(kind: type[S], metadata: Mapping[str, Any], path: Path) -> S:
    """Return a file's metadata as settings; raise `DataError` naming each that does not fit."""
    try:
        return build(kind, dict(metadata))
    except SettingsError as error:
        reason = str(error).rstrip(".")
        raise DataError(f"{path}: metadata that this version cannot use ({reason}).") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of any safetensors file, and its metadata, None where it has none.

    Those of version 0.1 come under their names of today.

    Sizes are checked against the file's own before memory is taken for any of them. Raises
    `DataError` when the file is missing or damaged, does not have its checksum, or holds numbers
    of a kind that no network here has.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; give the folder of a finished run.")
    try:
        header_texts = _check_header(path)
        text = header_texts.get(METADATA_KEY, "null")
        metadata = parse_json(text)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged model file ({error}).") from None
    if CHECKSUM_KEY in header_texts and header_texts[CHECKSUM_KEY] != _checksum(tensors, text):
        raise DataError(f"{path}: damaged model file (its content has another checksum).")
    if isinstance(metadata, dict):
        metadata = renamed_keys(metadata)
    return renamed_tensors(tensors), metadata


def stated_checksum(path: Path) -> str | None:
    """Return the checksum of tensors and metadata that a file carries, None where it has none.

    Two files of equal content may differ in their bytes, not in this. Raises `DataError` for a
    file that is damaged or no safetensors file.
    """
    try:
        return _check_header(path).get(CHECKSUM_KEY)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged model file ({error}).") from None


def _check_header(path: Path) -> dict[str, str]:
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


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict that must fit name by name and shape by shape.

    Raises `DataError` naming the first tensor that is missing, unexpected, of another shape or
    kind of number, or holds values that are no finite numbers.
    """
    require_fit(module, tensors, where)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{where}: tensor '{name}' holds values that are no finite numbers.")
    module.load_state_dict(dict(tensors))


def build_strictly(make: Callable[[], M], tensors: Mapping[str, Tensor], where: str) -> M:
    """Build the network that a file describes, with its weights, as `load_strictly` does.

    It is first built without memory for its weights and compared with the file, so that a file
    that describes a huge network and brings none costs nothing.
    """
    with torch.device("meta"):
        require_fit(make(), tensors, where)
    network = make()
    load_strictly(network, tensors, where)
    return network


def require_fit(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `DataError` naming the first tensor that does not fit the module."""
    wanted = module.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise DataError(f"{where}: tensor '{name}' is missing.")
        if name not in wanted:
            raise DataError(f"{where}: tensor '{name}' has no place in this network.")
        if wanted[name].shape != tensors[name].shape:
            raise DataError(
                f"{where}: tensor '{name}' has shape {tuple(tensors[name].shape)}, "
                f"the network wants {tuple(wanted[name].shape)}."
            )
        if wanted[name].is_floating_point() != tensors[name].is_floating_point():
            raise DataError(
                f"{where}: tensor '{name}' holds {tensors[name].dtype}, "
                f"the network wants {wanted[name].dtype}."
            )
