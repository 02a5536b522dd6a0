"""How much memory a picture takes while it is decoded."""

from typing import Final

from sspl.data.decoding import MAX_PIXELS, opening
from sspl.data.pictures import Picture

EIGHT_BITS: Final = frozenset({"1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""Modes of pictures of 8 bits a colour."""

PIXEL_BYTES: Final = 18
"""What decoding takes for each pixel at most, with the copies in which faces are searched; 15.6
were measured, of AVIF, over formats, colours and orientations."""

WEBP_PIXEL_BYTES: Final = 26
"""The same for WebP, whose decoder keeps two pictures beside its own; 23.8 were measured."""

DEEP_PIXEL_BYTES: Final = 34
"""The same for integers of more than 8 bits, which are scaled; 30.3 were measured."""


def decoding_bytes(picture: Picture, most: int = MAX_PIXELS) -> int:
    """Return how much memory it may take to decode a picture; only its header is read.

    Raises as `sspl.data.images.read_image`.
    """
    with opening(picture, most) as image:
        notes = sum(len(v) for v in image.info.values() if isinstance(v, str | bytes))
        each = WEBP_PIXEL_BYTES if image.format == "WEBP" else PIXEL_BYTES
        if image.mode not in EIGHT_BITS:
            each = DEEP_PIXEL_BYTES
        return image.width * image.height * each + 2 * notes
