"""From the bytes of a picture file to its pixels: opened, brought upright, in 8-bit RGB.

Every command and the Python API take this one way, so that what was learnt is what is looked at.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from sspl.data.pictures import Picture, bytes_of, content
from sspl.errors import DataError

ORIENTATION: Final = 0x0112
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright that is stored in each EXIF orientation; 1 is upright."""

_ORIENTATION_KEYS: Final = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")

AVIF_IS_READ: Final = "avif" in features.modules and bool(features.check("avif"))
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", *(("AVIF",) if AVIF_IS_READ else ()))
"""Formats that Pillow reads, by what the file holds and not by its name; HEIC takes an extra."""

MAX_PIXELS: Final = 89_478_485
"""Width times height beyond which a picture is taken for a trap; Pillow's own bound."""

_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)

_MAGIC: Final = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG",),
    "WebP": (b"RIFF",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "AVIF": (b"\0\0\0\x1cftypavif", b"\0\0\0\x20ftypavif"),
}

BITS_PER_SAMPLE: Final = 258
PHOTOMETRIC: Final = 262
PLANAR: Final = 284
SAMPLE_FORMAT: Final = 339
WHITE_IS_ZERO: Final = 0
SEPARATE_PLANES: Final = 2
SIGNED: Final = 2
DARKEST: Final = 16
"""Grey level of 256 below which all of a 16-bit picture means that it holds 12 bits or fewer."""


class TooLargeError(DataError):
    """A picture of more pixels than are decoded."""


class _UnclearPixelsError(Exception):
    """Pixels that can be decoded, but nothing says which of their values is white."""


def formats_read() -> tuple[str, ...]:
    """Return the formats that are read here: HEIC only with the extra `heif`."""
    return (*FORMATS, "HEIC") if find_spec("pillow_heif") else FORMATS


@contextmanager
def opening(picture: Picture, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture; what goes wrong inside becomes a `DataError` that names it."""
    with _naming(str(picture)), open_bounded(picture, most) as image:
        yield image


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: no such image.") from None
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not a picture that can be read ({error}).") from None
    except _UnclearPixelsError as error:
        raise DataError(f"{name}: {error}.") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise DataError(f"{name}: damaged picture ({error}); replace or remove it.") from None


def open_bounded(picture: Picture, most: int = MAX_PIXELS) -> Image.Image:
    """Open a picture without decoding it; Pillow would run other programs for other formats.

    Raises `TooLargeError` for more than `most` pixels, `DataError` where an extra is needed.
    """
    try:
        image: Image.Image = Image.open(content(picture), formats=FORMATS)
    except UnidentifiedImageError:
        image = _other_format(picture)
    except Image.DecompressionBombError:
        raise TooLargeError(f"{picture}: more than {most:,} px; scale it down.") from None
    if image.width * image.height > most:
        image.close()
        raise TooLargeError(
            f"{picture}: {image.width} x {image.height} px are more than {most:,}; scale it down."
        )
    return image


def _other_format(picture: Picture) -> Image.Image:
    """Open what Pillow knows not by itself; raise `UnidentifiedImageError` if it is no such."""
    head = _head(picture)
    brands = {head[i : i + 4] for i in range(8, len(head) - 3, 4)} if head[4:8] == b"ftyp" else ()
    if not _HEIF_BRANDS.isdisjoint(brands):
        return _heic(picture)
    if not _AVIF_BRANDS.isdisjoint(brands) and not AVIF_IS_READ:
        raise DataError(
            f"{picture}: an AVIF picture, which this Pillow cannot read; "
            "run: pip install -U pillow, or save it as JPEG."
        )
    for kind, starts in _MAGIC.items():
        if head.startswith(starts):
            raise UnidentifiedImageError(f"it begins as {kind}, damaged or of a kind not read")
    raise UnidentifiedImageError(f"it is none of {', '.join(formats_read())}")


def _head(picture: Picture) -> bytes:
    """Return the first box of a file of the ISO base media family, which lists its brands."""
    source = content(picture)
    with source if isinstance(source, io.BytesIO) else source.open("rb") as file:
        head = file.read(8)
        length = min(int.from_bytes(head[:4], "big"), 256)
        return head + file.read(max(0, length - 8))


def _heic(picture: Picture) -> Image.Image:
    try:
        import pillow_heif
    except ImportError:
        raise DataError(
            f"{picture}: a HEIC picture, and pillow-heif, which reads it, is not installed; "
            "run in the clone of sspl: pip install '.[heif]', or save it as JPEG."
        ) from None
    opener: Any = pillow_heif.HeifImageFile
    try:
        image: Image.Image = opener(io.BytesIO(bytes_of(picture)))
    except SyntaxError as error:
        raise ValueError(str(error)) from None
    return image


def orientation(image: Image.Image) -> int:
    """Return how a picture is stored, 1 to 8; where its EXIF is damaged, 1: as it is to be seen.

    Of PNG, and of TIFF, which Pillow turns as it decodes, ask after decoding.
    """
    try:
        found = image.getexif().get(ORIENTATION, 1)
        return int(found) if found in TURNS else 1
    except Exception:  # whatever stands there, the pixels are good
        return 1


def own_upright_rgb(image: Image.Image) -> Image.Image:
    """As `upright_rgb`, and without a copy of pixels that are upright RGB already."""
    deep = _is_deep(image)
    decode(image)
    turn = TURNS.get(orientation(image))
    plain = _eight_bits(image, deep)
    if turn is not None:
        plain = plain.transpose(turn)
    if plain.mode in {"La", "RGBa"}:
        plain = plain.convert(plain.mode.upper())
    if plain.mode != "RGB":
        plain = plain.convert("RGB")
    if turn is not None:
        # Whoever reads the result once more is not to turn it again.
        plain.info = {k: v for k, v in plain.info.items() if k not in _ORIENTATION_KEYS}
    return plain


def decode(image: Image.Image) -> None:
    """Decode a picture, past two faults of Pillow in TIFF.

    A file that is mapped into memory is taken to have the size upright, which scrambles one that
    is stored sideways; without its name it is read. XMP as text or as a number stops the turning.
    """
    if not isinstance(image, TiffImageFile):
        image.load()
        return
    xmp = image.info.get("xmp", b"")
    if not isinstance(xmp, bytes):
        image.info["xmp"] = str(xmp).encode()
    name, image.filename = image.filename, ""
    try:
        image.load()
    finally:
        image.filename = name


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an open picture upright, by EXIF or XMP orientation, in 8-bit RGB, as a copy.

    Transparency is left away: each pixel keeps the colour that is stored for it. More than
    8 bits are scaled, white to 255.

    Raises `DataError` with `name` for a damaged picture, and for pixels of which nothing says
    what is white: fractions, integers of 32 bits or with a sign, and 16 bits of which only the
    lower 12 or fewer are used.
    """
    with _naming(name):
        plain = own_upright_rgb(image)
        return plain.copy() if plain is image else plain


def tag_of(image: Image.Image, tag: int, default: int) -> int:
    """Return a whole number from the tags of a TIFF; of what is none, the default."""
    found = getattr(image, "tag_v2", {}).get(tag, default)
    return int(found[0] if isinstance(found, tuple) else found)


def _is_deep(image: Image.Image) -> bool:
    """Tell whether colours of 16 bits are stored, of which Pillow takes the upper 8.

    Ask before the picture is decoded.
    """
    if tag_of(image, BITS_PER_SAMPLE, 8) > 8:
        if tag_of(image, PLANAR, 1) == SEPARATE_PLANES and len(image.getbands()) > 1:
            raise _UnclearPixelsError(
                "its colours lie in separate planes of more than 8 bits; save it with 8 bits"
            )
        return True
    tiles = getattr(image, "tile", None) or ()
    return any(";16" in str(tile[3]) for tile in tiles)


def _eight_bits(image: Image.Image, deep: bool) -> Image.Image:
    """Scale grey of more than 8 bits; Pillow's own conversion clips it to white."""
    mode = image.mode
    if mode.startswith("F"):
        raise _UnclearPixelsError("its pixels are fractions; save it with 8 or 16 bits")
    signed = tag_of(image, SAMPLE_FORMAT, 1) == SIGNED
    if signed or (mode == "I" and image.format != "PNG"):
        raise _UnclearPixelsError(
            "its pixels are integers of 32 bits or with a sign, and nothing says which is white; "
            "save it with 8 bits"
        )
    if not mode.startswith("I"):
        if deep:
            extrema = image.getextrema()
            bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
            colours = len(bands) - image.mode.endswith(("A", "a"))
            _refuse_dark(max(high for _, high in bands[:colours]))
        return image
    bits = tag_of(image, BITS_PER_SAMPLE, 16)
    levels = np.asarray(image).astype(np.float64) * (255 / (2**bits - 1))
    if bits == 16:
        _refuse_dark(levels.max())
    if tag_of(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        levels = 255 - levels
    plain = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    plain.info = dict(image.info)
    return plain


def _refuse_dark(brightest: float) -> None:
    if brightest < DARKEST:
        raise _UnclearPixelsError(
            "it is stored with 16 bits, but not one pixel uses the upper 4 of them, so that it "
            "would be black; save it with 8 bits"
        )
