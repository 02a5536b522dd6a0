"""Whatever a Python program calls a picture, as an upright RGB picture."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sspl.data.decoding import upright_rgb
from sspl.data.images import read_image
from sspl.errors import DataError

Picture = str | Path | Image.Image | NDArray[np.uint8] | Tensor
"""A path, a PIL picture, uint8 (h, w, 3), or a tensor (3, h, w): uint8, or float from 0 to 1."""


def each_picture(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """Return the pictures of one picture, of a list or other iterable, or of a 4-d batch."""
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        return [images] if images.ndim == 3 else list(images)
    return images


def open_picture(picture: Picture, number: int) -> Image.Image:
    """Return a picture upright and in RGB.

    Raises `DataError`, naming the file or the picture's number from 0, when it is none.
    """
    if isinstance(picture, str | Path):
        return read_image(Path(picture))
    where = f"picture {number}"
    if isinstance(picture, Image.Image):
        try:
            return upright_rgb(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{where}: damaged picture ({error}).") from None
    if isinstance(picture, Tensor):
        return Image.fromarray(_of_tensor(picture, where))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise DataError(
                f"{where}: an array must be uint8 of shape (height, width, 3), RGB; "
                f"this one is {picture.dtype} of shape {picture.shape}."
            )
        return Image.fromarray(picture)
    raise DataError(
        f"{where}: give a path, a PIL picture, an array or a tensor, not {type(picture).__name__}."
    )


def _of_tensor(picture: Tensor, where: str) -> NDArray[np.uint8]:
    """Return uint8 (h, w, 3) of a tensor (3, h, w)."""
    floating = picture.is_floating_point()
    if picture.ndim != 3 or len(picture) != 3 or not (floating or picture.dtype == torch.uint8):
        raise DataError(
            f"{where}: a tensor must be uint8 or floating point of shape (3, height, width), RGB; "
            f"this one is {picture.dtype} of shape {tuple(picture.shape)}."
        )
    pixels = picture.detach().cpu()
    if floating:
        # Written so that a NaN is refused too.
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise DataError(f"{where}: a floating point tensor must hold values from 0 to 1.")
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
