"""Pictures and masks from disk, upright, in one colour space, cut to a square canvas."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sspl.data.pictures import Picture, content
from sspl.domain.taxonomy import UNKNOWN
from sspl.errors import DataError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""

ORIENTATION: Final = 0x0112
SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""EXIF orientations that trade width and height."""

RIGHT_FIRST: Final = frozenset({2, 3, 6, 7})
BOTTOM_FIRST: Final = frozenset({3, 4, 7, 8})
"""EXIF orientations that store the upright picture's right or bottom edge first."""

WHOLE_FRAME: Final[Box] = (0.0, 0.0, 1.0, 1.0)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Formats that are read, by what the file holds and not by its name."""

MAX_PIXELS: Final = 89_478_485
"""Width times height beyond which a picture is taken for a trap; Pillow's own bound."""


@contextmanager
def _opened(picture: Picture) -> Iterator[Image.Image]:
    """Open a picture; what goes wrong inside becomes a `DataError` that names it."""
    try:
        with _bounded(picture) as opened:
            yield opened
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{picture}: no such image.") from None
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{picture}: not a picture that can be read ({error}).") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise DataError(f"{picture}: damaged picture ({error}); replace or remove it.") from None


def read_image(picture: Picture) -> Image.Image:
    """Return the picture upright (EXIF orientation applied) in RGB; of an animation the first.

    Raises `DataError` naming it when it is missing, truncated, larger than `MAX_PIXELS` or not a
    picture in one of `FORMATS`, whatever its name ends in.
    """
    with _opened(picture) as opened:
        return _own_upright_rgb(opened)


def read_canvas(
    picture: Picture, box: Box, canvas: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return `image_canvas` of a picture, and the width and height of the picture upright.

    A JPEG of at least four times the canvas is decoded at a half, a quarter or an eighth of its
    size, so that at least twice the canvas is left; values then differ from those of the
    whole picture, mostly by a grey level or two. Raises as `read_image`.
    """
    with _opened(picture) as opened:
        stored = opened.size
        turned = opened.getexif().get(ORIENTATION, 1)
        size = stored[::-1] if turned in SIDEWAYS else stored
        square = square_box(size, box)
        keep = 2 * canvas / (square[2] - square[0])
        opened.draft(None, (math.ceil(stored[0] * keep), math.ceil(stored[1] * keep)))
        scale = round(stored[0] / opened.width)
        image = _own_upright_rgb(opened)
        if scale > 1:
            square = _reduced(square, size, scale, image.size, turned)
        return _resized(image, square, canvas), size


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
        left + square[0] / scale, top + square[1] / scale,
        min(decoded[0], left + square[2] / scale), min(decoded[1], top + square[3] / scale),
    )  # fmt: skip


def _bounded(picture: Picture) -> Image.Image:
    """Open a picture without decoding it; Pillow would run other programs for other formats."""
    opened = Image.open(content(picture), formats=FORMATS)
    if opened.width * opened.height > MAX_PIXELS:
        opened.close()
        raise DataError(
            f"{picture}: {opened.width} x {opened.height} px are more than {MAX_PIXELS:,}; "
            "scale it down."
        )
    return opened


def upright_rgb(opened: Image.Image) -> Image.Image:
    """Return a picture that was opened, EXIF orientation applied, in 8-bit RGB.

    Raises `ValueError` for pixels that are fractions: nothing says which of them is white.
    """
    return _eight_bits(ImageOps.exif_transpose(opened)).convert("RGB")


def _own_upright_rgb(opened: Image.Image) -> Image.Image:
    """As `upright_rgb`, without copies of the pixels; the picture that was opened may change."""
    ImageOps.exif_transpose(opened, in_place=True)
    image = _eight_bits(opened)
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion clips it to white."""
    if image.mode.startswith("F"):
        raise ValueError("its pixels are fractions; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.float64) / 257
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def read_mask(path: Picture, size: tuple[int, int] | None, classes: int) -> Image.Image:
    """Return a mask of class ids in mode L.

    Args:
        path: palette or greyscale PNG whose pixel values are class ids.
        size: width and height of the upright picture that it belongs to; None checks no size.
        classes: number of classes; ids at or above it are refused, except 255 (unknown).

    Raises `DataError` naming the file when it is missing, damaged, of another size or mode,
    or holds an id that is not a class.
    """
    try:
        with _bounded(path) as opened:
            opened.load()
            if opened.mode not in {"P", "L"}:
                raise DataError(
                    f"{path}: mask has mode {opened.mode}; save class ids as palette or grey PNG."
                )
            ids = np.asarray(opened)
            mask = Image.fromarray(ids)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such mask.") from None
    except Exception as error:  # as above
        raise DataError(f"{path}: damaged mask ({error}); make it again.") from None
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

    A square keeps the aspect when it is resized to a canvas (METHOD.md "Do not repeat" 15).
    """
    width, height = size
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = min(right - left, bottom - top)
    left += (right - left - side) / 2
    top += (bottom - top - side) / 2
    return left, top, left + side, top + side


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
