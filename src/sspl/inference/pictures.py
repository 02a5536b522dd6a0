"""Whatever a Python program calls a picture, as an upright RGB picture."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sspl.data.adapters.folder import read_folder
from sspl.data.decoding import upright_rgb
from sspl.data.images import read_image
from sspl.data.pictures import Content
from sspl.errors import DataError

FileContent = bytes | bytearray | memoryview
Picture = (
    str | os.PathLike[str] | FileContent | IO[bytes] | Image.Image | NDArray[np.uint8] | Tensor
)
"""A path; the bytes of a picture file, or such a file opened; a PIL picture of any mode; uint8
(h, w) or (h, w, 1), grey, (h, w, 3), RGB, or (h, w, 4), RGBA; a tensor (h, w), (1, h, w) or
(3, h, w): uint8, or float from 0 to 1."""

TAKEN: Final = "a path, bytes, a file opened as binary, a PIL picture, an array or a tensor"


def each_picture(images: Picture | Iterable[Picture]) -> Iterator[Picture]:
    """Yield the pictures of one picture, a folder, a list or other iterable, or a 4-d batch.

    A folder, which may stand in a list too, gives the pictures in it and below in the order of
    their names. Raises `DataError` for what is none of these.
    """
    several = isinstance(images, np.ndarray | Tensor) and images.ndim == 4
    if several or not _is_one(images):
        if isinstance(images, Mapping) or not isinstance(images, Iterable):
            raise DataError(f"give {TAKEN}, or several of them, not {type(images).__name__}.")
        for image in images:
            yield from _in_folder(image)
    else:
        yield from _in_folder(images)


def _is_one(images: object) -> bool:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, Tensor)
    return isinstance(images, kinds) or hasattr(images, "read")


def _in_folder(picture: Any) -> Iterable[Picture]:
    if isinstance(picture, str | os.PathLike) and os.path.isdir(picture):  # noqa: PTH112
        return [path for path in read_folder(Path(picture)).images if isinstance(path, Path)]
    return [picture]


def name_of(picture: Picture, number: int) -> str:
    """Return a picture's path, or its number from 0 where it has none."""
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    return f"picture {number}"


def open_picture(picture: Picture, number: int) -> Image.Image:
    """Return a picture upright and in RGB.

    Raises `DataError`, naming the file or the picture's number from 0, when it is none.
    """
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture))
    where = name_of(picture, number)
    if isinstance(picture, FileContent):
        return read_image(Content(bytes(picture), where))
    if isinstance(picture, Image.Image):
        image = upright_rgb(picture, where)
    elif isinstance(picture, Tensor):
        image = Image.fromarray(_of_tensor(picture, where)).convert("RGB")
    elif isinstance(picture, np.ndarray):
        image = Image.fromarray(_of_array(picture, where)).convert("RGB")
    elif hasattr(picture, "read"):
        return read_image(Content(_of_file(picture, where), where))
    else:
        raise DataError(f"{where}: give {TAKEN}, not {type(picture).__name__}.")
    if 0 in image.size:
        raise DataError(f"{where}: has no pixels; it is {image.width} x {image.height} px.")
    return image


def _of_file(file: IO[bytes], where: str) -> bytes:
    """Return the bytes of a file from its start."""
    try:
        if file.seekable():
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: a file that cannot be read ({error}).") from None
    if not isinstance(content, bytes):
        raise DataError(f"{where}: a file opened as text; open it with mode 'rb'.")
    return content


def _of_array(picture: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
    """Return uint8 (h, w), (h, w, 3) or (h, w, 4)."""
    grey = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 1)
    if picture.dtype != np.uint8 or not (
        grey or (picture.ndim == 3 and picture.shape[2] in (3, 4))
    ):
        raise DataError(
            f"{where}: an array must be uint8 of shape (height, width), grey, or (height, width, "
            f"3), RGB; this one is {picture.dtype} of shape {picture.shape}."
        )
    return picture.reshape(picture.shape[:2]) if grey else picture


def _of_tensor(picture: Tensor, where: str) -> NDArray[np.uint8]:
    """Return uint8 (h, w) or (h, w, 3) of a tensor (h, w), (1, h, w) or (3, h, w)."""
    floating = picture.is_floating_point()
    shaped = picture.ndim == 2 or (picture.ndim == 3 and len(picture) in (1, 3))
    if not shaped or not (floating or picture.dtype == torch.uint8):
        raise DataError(
            f"{where}: a tensor must be uint8 or floating point of shape (3, height, width), RGB, "
            "or (height, width), grey; "
            f"this one is {picture.dtype} of shape {tuple(picture.shape)}."
        )
    pixels = picture.detach().cpu()
    if floating:
        # Written so that a NaN is refused too.
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise DataError(f"{where}: a floating point tensor must hold values from 0 to 1.")
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    if pixels.ndim == 3 and len(pixels) == 1:
        pixels = pixels[0]
    return np.ascontiguousarray((pixels if pixels.ndim == 2 else pixels.permute(1, 2, 0)).numpy())
