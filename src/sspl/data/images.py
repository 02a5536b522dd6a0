"""Pictures and masks from disk, upright, in one colour space, cut to a square canvas."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from sspl.data.decoding import MAX_PIXELS, opening, orientation, own_upright_rgb
from sspl.data.mask_files import read_ids
from sspl.data.pictures import Picture
from sspl.domain.taxonomy import UNKNOWN
from sspl.errors import DataError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""

SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""EXIF orientations that trade width and height."""

RIGHT_FIRST: Final = frozenset({2, 3, 6, 7})
BOTTOM_FIRST: Final = frozenset({3, 4, 7, 8})
"""EXIF orientations that store the upright picture's right or bottom edge first."""

WHOLE_FRAME: Final[Box] = (0.0, 0.0, 1.0, 1.0)


def read_image(picture: Picture, most: int = MAX_PIXELS) -> Image.Image:
    """Return the picture upright (`upright_rgb`); of an animation or of several pages the first.

    Raises `DataError` naming it when it is missing, truncated, larger than `most` pixels, not a
    picture in one of the formats of `sspl.data.decoding`, whatever its name ends in, or holds
    pixels of which nothing says what is white.
    """
    with opening(picture, most) as image:
        return own_upright_rgb(image)


def read_format(picture: Picture) -> tuple[str, tuple[int, int]]:
    """Return Pillow's name of a picture's format, and its width and height upright.

    All of it is decoded. Raises as `read_image`.
    """
    with opening(picture) as image:
        return image.format or "", own_upright_rgb(image).size


def read_canvas(
    picture: Picture, box: Box, canvas: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return `image_canvas` of a picture, and the width and height of the picture upright.

    A JPEG of at least four times the canvas is decoded at a half, a quarter or an eighth of its
    size, so that at least twice the canvas is left; values then differ from those of the
    whole picture, mostly by a grey level or two. Raises as `read_image`.
    """
    with opening(picture) as image:
        if isinstance(image, JpegImageFile):
            return _jpeg_canvas(image, box, canvas)
        upright = own_upright_rgb(image)
        return image_canvas(upright, box, canvas), upright.size


def _jpeg_canvas(
    image: JpegImageFile, box: Box, canvas: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    stored, turned = image.size, orientation(image)
    size = stored[::-1] if turned in SIDEWAYS else stored
    square = square_box(size, box)
    keep = 2 * canvas / (square[2] - square[0])
    image.draft(None, (math.ceil(stored[0] * keep), math.ceil(stored[1] * keep)))
    scale = round(stored[0] / image.width)
    upright = own_upright_rgb(image)
    if scale > 1:
        square = _reduced(square, size, scale, upright.size, turned)
    return _resized(upright, square, canvas), size


def _reduced(
    square: Box, size: tuple[int, int], scale: int, decoded: tuple[int, int], turned: int
) -> Box:
    """Return where a square of a picture lies in the picture decoded at 1 / `scale` of its size.

    A size that is no multiple of the scale is filled up, at the right and bottom edge as stored.
    """
    over = (decoded[0] - size[0] / scale, decoded[1] - size[1] / scale)
    left = over[0] if turned in RIGHT_FIRST else 0.0
    top = over[1] if turned in BOTTOM_FIRST else 0.0
    return (
        left + square[0] / scale,
        top + square[1] / scale,
        min(decoded[0], left + square[2] / scale),
        min(decoded[1], top + square[3] / scale),
    )


def read_mask(path: Picture, size: tuple[int, int] | None, classes: int) -> Image.Image:
    """Return a mask of class ids in mode L, upright by its own orientation tag.

    Args:
        path: a file whose pixel values are class ids (`read_ids`).
        size: width and height of the upright picture that it belongs to; None checks no size.
        classes: number of classes; ids at or above it are refused, except 255 (unknown).

    Raises `DataError` naming the file when it is missing, damaged, of another size, of a format
    that may change ids, or holds what is no id or an id that is not a class.
    """
    ids = read_ids(path)
    mask = Image.fromarray(ids)
    if size is not None and mask.size != size:
        raise DataError(
            f"{path}: mask is {mask.width} x {mask.height} but its picture is "
            f"{size[0]} x {size[1]}; make the mask from that picture."
        )
    if ids.max() < classes:  # many times faster than to count, and nearly always so
        return mask
    wrong = [i for i, count in enumerate(mask.histogram()) if count and classes <= i < UNKNOWN]
    if wrong:
        raise DataError(f"{path}: mask holds class id {wrong[0]}, but there are {classes} classes.")
    return mask


def square_box(size: tuple[int, int], box: Box) -> Box:
    """Return in pixels the largest centred square inside `box` of a picture of this size.

    A square keeps the aspect when it is resized to a canvas (docs/method.md#do-not-repeat-15).
    """
    width, height = size
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = min(right - left, bottom - top)
    left += (right - left - side) / 2
    top += (bottom - top - side) / 2
    return left, top, left + side, top + side


def square_side(picture: Picture, box: Box) -> int:
    """Return the side in px of `square_box` in a picture, of which no pixel is decoded.

    Raises as `read_image`, but for damage further on.
    """
    with opening(picture) as image:
        size = image.size[::-1] if orientation(image) in SIDEWAYS else image.size
        left, _, right, _ = square_box(size, box)
        return max(1, round(right - left))


def image_canvas(image: Image.Image, box: Box, canvas: int) -> NDArray[np.uint8]:
    """Return uint8 (canvas, canvas, 3): the square of `box`, resized with anti-aliasing."""
    return _resized(image, square_box(image.size, box), canvas)


def _resized(image: Image.Image, square: Box, canvas: int) -> NDArray[np.uint8]:
    if _is_all(square, image, canvas):
        return np.array(image)
    resized = image.resize(
        (canvas, canvas), Image.Resampling.BILINEAR, box=square, reducing_gap=2.0
    )
    return np.array(resized)


def _is_all(square: Box, image: Image.Image, canvas: int) -> bool:
    """Tell whether a square is all of a picture, which is of the canvas's size already."""
    return image.size == (canvas, canvas) and square == (0, 0, canvas, canvas)


def mask_canvas(mask: Image.Image, box: Box, canvas: int) -> NDArray[np.uint8]:
    """Return uint8 (canvas, canvas): the same square of the mask, nearest neighbour."""
    square = square_box(mask.size, box)
    if _is_all(square, mask, canvas):
        return np.array(mask)
    return np.array(mask.resize((canvas, canvas), Image.Resampling.NEAREST, box=square))


def pad_to_square(pixels: NDArray[np.uint8], size: int, fill: int | None) -> NDArray[np.uint8]:
    """Centre (h, w, ...) in (size, size, ...); pad with `fill`, or the edge pixel when None."""
    spare = [size - pixels.shape[0], size - pixels.shape[1]]
    widths = [(n // 2, n - n // 2) for n in spare] + [(0, 0)] * (pixels.ndim - 2)
    if fill is None:
        return np.pad(pixels, widths, mode="edge")
    return np.pad(pixels, widths, constant_values=fill)


def fit_pair(
    image: Image.Image, mask: Image.Image, canvas: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the whole frame of a picture and its mask, scaled into a square canvas.

    uint8 (canvas, canvas, 3) with edges repeated and uint8 (canvas, canvas) with `UNKNOWN`
    outside the frame.
    """
    scale = canvas / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    ids = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
    return pad_to_square(pixels, canvas, None), pad_to_square(ids, canvas, UNKNOWN)
