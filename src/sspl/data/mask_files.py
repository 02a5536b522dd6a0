"""Files of masks: of a format that keeps every pixel, told by content, and what the pixels say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from sspl.data.decoding import (
    BITS_PER_SAMPLE,
    MAX_PIXELS,
    PHOTOMETRIC,
    TURNS,
    WHITE_IS_ZERO,
    TooLargeError,
    decode,
    orientation,
    tag_of,
)
from sspl.data.pictures import Picture, content
from sspl.errors import DataError

LOSSLESS: Final = ("PNG", "BMP", "TIFF")
"""Formats of masks; a TIFF's compression may change pixels unless it is one of these."""
_TIFF_LOSSLESS: Final = frozenset({
    "raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate",
    "packbits", "lzma", "zstd",
})  # fmt: skip

_LOSSY: Final = "is lossy and changes class ids"
_COLOURS: Final = "stores colours, not class ids"
_EITHER: Final = "is lossy or stores colours, not class ids"
_HEAD: Final = 64


class _UnfitError(Exception):
    """A file that can be read, but is no mask."""


@contextmanager
def opening_mask(path: Picture) -> Iterator[Image.Image]:
    """Open a mask without decoding it; what goes wrong inside becomes a `DataError` naming it.

    Refused are files that are missing, damaged, too large, of several pages, and of any format or
    compression that may change pixels, whatever the name ends in.
    """
    try:
        with Image.open(content(path), formats=LOSSLESS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise TooLargeError(
                    f"{path}: {opened.width} x {opened.height} px are more than {MAX_PIXELS:,}; "
                    "scale it down."
                )
            _require_one_lossless(opened)
            yield opened
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such mask.") from None
    except _UnfitError as error:
        raise DataError(f"{path}: {error}; save it as a grey or palette PNG.") from None
    except UnidentifiedImageError:
        raise DataError(_of_another_format(path)) from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise DataError(f"{path}: damaged mask ({error}); make it again.") from None


def read_ids(path: Picture) -> NDArray[np.uint8]:
    """Return the class ids of a mask, uint8 (h, w), upright by its own orientation tag.

    An id is the value of a pixel as it is stored: the entry of a palette, or a grey value of 1 to
    16 bits; of colours the three must be equal and opaque. Raises `DataError` naming the file.
    """
    with opening_mask(path) as opened:
        # Pillow spreads grey of 2 and 4 bits over 0 to 255.
        raw = _raw_mode(opened)
        decode(opened)
        ids = _ids(opened, raw)
        turn = TURNS.get(orientation(opened))
    return ids if turn is None else np.asarray(Image.fromarray(ids).transpose(turn))


def grey_levels(path: Picture) -> NDArray[np.uint8]:
    """Return the grey levels 0 to 255 that a black and white picture shows, uint8 (h, w), upright.

    Raises `DataError` naming the file where `opening_mask` does, and for colours and transparency.
    """
    with opening_mask(path) as opened:
        decode(opened)
        levels = _shown(opened)
        turn = TURNS.get(orientation(opened))
    return levels if turn is None else np.asarray(Image.fromarray(levels).transpose(turn))


def _require_one_lossless(opened: Image.Image) -> None:
    compression = opened.info.get("compression")
    if opened.format == "TIFF" and compression not in _TIFF_LOSSLESS:
        raise _UnfitError(f"its TIFF compression '{compression}' may change class ids")
    if getattr(opened, "is_animated", False):
        raise _UnfitError("holds several pictures, of which only one can be the mask")


def _of_another_format(path: Picture) -> str:
    """Return the sentence on a file that is of none of the formats of masks."""
    source = content(path)
    with source.open("rb") if isinstance(source, Path) else source as file:
        head = file.read(_HEAD)
    found = _format_of(head)
    if found is None:
        return f"{path}: damaged mask, or not a picture that can be read; save masks as PNG."
    name, why = found
    return f"{path}: holds {name}, which {why}; save masks as PNG."


def _format_of(head: bytes) -> tuple[str, str] | None:
    """Return the name of a format by a file's first bytes, and why it holds no masks."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG", _LOSSY
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        why = {b"VP8 ": _LOSSY, b"VP8L": _COLOURS}.get(head[12:16], _EITHER)
        return "WebP", why
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF", _LOSSY
    if head.startswith((b"ftyphe", b"ftypmif1", b"ftypmsf1"), 4):
        return "HEIC", _LOSSY
    if head.startswith((b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")):
        return "JPEG 2000", _LOSSY
    if head.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")):
        return "JPEG XL", _LOSSY
    if head.startswith(b"GIF8"):
        return "GIF", "renumbers colours when it is saved"
    return None


def _raw_mode(opened: Image.Image) -> str:
    """Return how pixels are stored by Pillow's name, such as `L;4`; ask before decoding."""
    if tag_of(opened, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        raise _UnfitError("stores its values upside down (white is zero)")
    tile = cast(ImageFile, opened).tile[0]
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    raw = str(arguments[0])
    if opened.format == "BMP":
        bits = {"1": 1, "P;1": 1, "P;4": 4, "L": 8, "P": 8}.get(raw)
        row = None if bits is None else ((opened.width * bits + 31) >> 3) & ~3
        # Pillow takes the bits of a BMP from its palette, where that has greys alone.
        if tile.codec_name == "bmp_rle" or row not in (None, arguments[1]):
            raise _UnfitError("is a BMP of a kind that is not read")
    return raw


def _ids(opened: Image.Image, raw: str) -> NDArray[np.uint8]:
    """Return the values of the pixels, uint8 (h, w); raise `_UnfitError` for what are no ids."""
    values: NDArray[Any] = np.asarray(opened)
    if opened.mode in ("P", "L", "1"):
        ids = values.astype(np.uint8, copy=False)
        spread = {"L;2": 85, "L;4": 17}.get(raw.removesuffix("R"))
        return ids if spread is None else ids // np.uint8(spread)
    if opened.mode.startswith("I"):
        wrong = values[(values < 0) | (values > 255)]
        if wrong.size:
            raise _UnfitError(
                f"holds the value {wrong[0]}, and class ids end at 254 (255: unknown)"
            )
        return values.astype(np.uint8)
    if opened.mode not in ("RGB", "RGBA", "LA"):
        raise _UnfitError(f"its pixels are of mode {opened.mode}, not class ids")
    if ";16" in raw or tag_of(opened, BITS_PER_SAMPLE, 8) > 8:
        raise _UnfitError("stores colours of 16 bits, not class ids")
    return _one_channel(opened, values)


def _one_channel(opened: Image.Image, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the channel that opaque colours have in common."""
    if opened.mode.endswith("A"):
        if values[..., -1].min() < 255:
            raise _UnfitError("has transparent pixels")
        values = values[..., :-1]
    coloured = (values != values[..., :1]).any(-1)
    if coloured.any():
        colour = tuple(values[coloured][0].tolist())
        raise _UnfitError(f"holds colours such as {colour}, and only greys are read")
    return np.ascontiguousarray(values[..., 0])


def _shown(opened: Image.Image) -> NDArray[np.uint8]:
    """Return the grey levels of a decoded picture without colours, uint8 (h, w)."""
    if opened.mode.startswith("I"):
        levels = np.asarray(opened).astype(np.float64) / 257
        return levels.round().clip(0, 255).astype(np.uint8)
    if opened.mode.startswith("F"):
        raise _UnfitError("its pixels are fractions")
    shown = opened.convert("RGBA")
    return _one_channel(shown, np.asarray(shown))
