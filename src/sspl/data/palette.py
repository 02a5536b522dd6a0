"""Colours for class ids, palette PNGs and overlays."""

import colorsys
import io
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.io.files import write_bytes

JPEG_QUALITY: Final = 95
GOLDEN: Final = 0.61803398875


def palette(classes: int) -> NDArray[np.uint8]:
    """Return uint8 (classes, 3): black for class 0, then well-separated hues."""
    colours = [(0.0, 0.0, 0.0)]
    for i in range(1, classes):
        colours.append(colorsys.hsv_to_rgb((i * GOLDEN) % 1, 0.55 + 0.4 * (i % 2), 0.95))
    return (np.array(colours) * 255).round().astype(np.uint8)


def write_mask(path: Path, ids: NDArray[np.uint8], classes: int) -> None:
    """Write uint8 (h, w) class ids as a palette PNG, atomically."""
    image = Image.fromarray(ids).convert("L")
    # 256 entries, so that the file keeps 8 bits a pixel and `UNKNOWN` (255) survives.
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[:classes] = palette(classes)
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=False)
    write_bytes(path, buffer.getvalue())


def overlay(
    pixels: NDArray[np.uint8], ids: NDArray[np.uint8], classes: int, strength: float = 0.55
) -> NDArray[np.uint8]:
    """Blend class colours over a picture uint8 (h, w, 3); background is left as it is."""
    colours = palette(max(classes, 1))[np.minimum(ids, classes - 1)].astype(np.float32)
    blended = pixels * (1 - strength) + colours * strength
    shown = np.where(((ids > 0) & (ids < classes))[..., None], blended, pixels)
    return shown.round().astype(np.uint8)


def write_image(path: Path, image: Image.Image) -> None:
    """Write a picture atomically, as JPEG with full colour if its name ends in .jpg, else PNG."""
    buffer = io.BytesIO()
    if path.suffix == ".jpg":
        image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
