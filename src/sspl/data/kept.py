"""Bytes in a file that all processes of a machine map into memory, so that they are there once."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from sspl.data.inputs import of_faces
from sspl.data.records import FaceSource
from sspl.io.files import atomic_path, remove_leftovers
from sspl.io.locks import locked

VERSION: Final = 1
"""Of how canvases are made of pictures; files of another one are not read."""

Shapes = Sequence[tuple[int, ...]]


def canvases_file(sources: Sequence[FaceSource], canvas: int, classes: int | None) -> str:
    """Return the name of the file of these canvases.

    It tells by their pictures' names, sizes and times whose they are, so that changed faces are
    read anew.
    """
    faces = [[source.box, of_faces(source.faces)] for source in sources]
    content = json.dumps([VERSION, canvas, classes, faces])
    return f"canvases-{hashlib.sha256(content.encode()).hexdigest()[:24]}.bin"


def mapped(path: Path, shapes: Shapes, fill: Callable[[Sequence[Tensor]], None]) -> list[Tensor]:
    """Return uint8 tensors of these shapes from a file, whose memory all processes share.

    Where there is no such file, one process makes it, by `fill`, which writes into such tensors,
    and the others wait for it. Raises `SsplError` when it cannot be written.
    """
    bytes_ = sum(map(math.prod, shapes))
    if not bytes_:
        return [torch.empty(shape, dtype=torch.uint8) for shape in shapes]
    with locked(path.with_name(f".{path.name}.lock"), wait=True):
        if not (path.is_file() and path.stat().st_size == bytes_):
            remove_leftovers(path.parent, path.name)
            with atomic_path(path) as unfinished:
                _reserve(unfinished, bytes_)
                fill(_views(unfinished, shapes, shared=True))
    return _views(path, shapes, shared=False)


def _reserve(path: Path, bytes_: int) -> None:
    """Take the room on the disk: to run out of it later would kill the process."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, bytes_)
        else:
            file.truncate(bytes_)


def _views(path: Path, shapes: Shapes, shared: bool) -> list[Tensor]:
    sizes = [math.prod(shape) for shape in shapes]
    whole = torch.from_file(str(path), shared, sum(sizes), dtype=torch.uint8)
    parts = torch.split(whole, sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
