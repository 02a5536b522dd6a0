"""Weights on disk: safetensors only, checked strictly, with the metadata about them in JSON."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sspl.errors import DataError, first_line
from sspl.io.files import atomic_path, parse_json
from sspl.io.weight_headers import CHECKSUM_KEY, METADATA_KEY, check_header
from sspl.settings.early_files import renamed_keys, renamed_tensors

WITHIN: Final = ("state_dict", "model_state_dict", "model", "network")
"""Under which keys training scripts leave a state dict."""

M = TypeVar("M", bound=nn.Module)


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
        header_texts = check_header(path)
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


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors that torch saved in a file, by name; no code in the file is run.

    A state dict that lies within others, as training scripts leave it, is found, and `module.` of
    training on several devices is taken off its names. Raises `DataError` when there is none.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the file's pickle leads to
        raise DataError(
            f"{path}: cannot be read as tensors alone ({first_line(error)}); save its state_dict, "
            "or convert that with safetensors.torch.save_file."
        ) from None
    found: dict[str, Tensor] = {}
    while isinstance(content, dict) and not found:
        tensors = {n: t for n, t in content.items() if isinstance(t, Tensor)}
        found = {str(name).removeprefix("module."): t for name, t in tensors.items()}
        content = next((content[key] for key in WITHIN if key in content), None)
    if not found:
        raise DataError(f"{path}: holds no state_dict, which has a tensor for each name.")
    return found


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict that must fit name by name and shape by shape.

    Raises `DataError` naming the first tensor that is missing, unexpected, of another shape or
    kind of number, or holds values that are no finite numbers.
    """
    require_fit(module, tensors, where)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{where}: tensor '{name}' holds values that are no finite numbers.")
    module.load_state_dict(dict(tensors))


class _Unfilled(TorchFunctionMode):
    """Leaves out the initial values of a network that is built for its shapes alone.

    On the meta device torch takes them through its compiler, which takes seconds to import.
    """

    _RANDOM: Final = (Tensor.normal_, Tensor.uniform_)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in self._RANDOM or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def build_strictly(make: Callable[[], M], tensors: Mapping[str, Tensor], where: str) -> M:
    """Build the network that a file describes, with its weights, as `load_strictly` does.

    It is first built without memory for its weights and compared with the file, so that a file
    that describes a huge network and brings none costs nothing.
    """
    with torch.device("meta"), _Unfilled():
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
