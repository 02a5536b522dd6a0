"""Pictures of an explanation: heat maps over a face, its segmentation, and a sheet of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sspl.data.palette import overlay, palette

FOR: Final = (214, 47, 39)
AGAINST: Final = (44, 123, 182)
SIDE: Final = 224
"""Px of a face on a sheet."""

GAP: Final = 12
LINE: Final = 16
GRID_COLUMNS: Final = 4
STRENGTH: Final = 0.8
LEAST_SHOWN: Final = 0.005
"""Share of the face below which a class is left out of the legend."""

Pixels = NDArray[np.uint8]


def heat_map(face: Pixels, added: NDArray[np.floating], side: int = SIDE) -> Pixels:
    """Return uint8 (side, side, 3): the grey face, red where a place speaks for, blue against.

    Args:
        face: uint8 (c, c, 3).
        added: float (h, w), what each place adds; the strongest place has the full colour.
    """
    grey = np.asarray(Image.fromarray(face).convert("L").resize((side, side)), dtype=np.float32)
    smooth = Image.fromarray(added.astype(np.float32)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    strongest = float(np.abs(added).max())
    # A map that is zero everywhere has no strongest place.
    value = np.asarray(smooth) / (strongest or 1.0)
    colour = np.where((value > 0)[..., None], FOR, AGAINST)
    opacity = STRENGTH * np.abs(value).clip(0, 1)[..., None]
    blended = grey[..., None] * (1 - opacity) + colour * opacity
    return blended.round().clip(0, 255).astype(np.uint8)


def segmented(face: Pixels, ids: Pixels, classes: int, side: int = SIDE) -> Pixels:
    """Return uint8 (side, side, 3): the face with the classes of ids uint8 (h, w) over it."""
    image = np.asarray(Image.fromarray(face).resize((side, side)))
    large = np.asarray(Image.fromarray(ids).resize((side, side), Image.Resampling.NEAREST))
    return overlay(image, large, classes)


@dataclass(frozen=True)
class Tile:
    """A picture uint8 (side, side, 3) with a title, and lines below it with an optional colour."""

    pixels: Pixels
    title: str
    lines: Sequence[tuple[str, tuple[int, int, int] | None]] = ()


def legend(ids: Pixels, classes: Sequence[str]) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Return the names and colours of the classes that cover most, background left out."""
    shares = np.bincount(ids.ravel(), minlength=len(classes)) / ids.size
    colours = palette(len(classes))
    order = [int(i) for i in np.argsort(-shares) if i > 0 and shares[i] >= LEAST_SHOWN]
    return [(classes[i], (int(c[0]), int(c[1]), int(c[2]))) for i in order for c in [colours[i]]]


def sheet(tiles: Sequence[Tile], footer: str) -> Image.Image:
    """Arrange tiles in rows with their titles above and their lines below."""
    text, small = ImageFont.load_default(14), ImageFont.load_default(12)
    columns = min(GRID_COLUMNS, len(tiles))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [2 * LINE + SIDE + LINE * max(len(t.lines) for t in row) + GAP for row in rows]
    size = (columns * (SIDE + GAP) + GAP, sum(heights) + 2 * LINE + GAP)
    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    y = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            x = GAP + column * (SIDE + GAP)
            canvas.text((x, y), tile.title, font=text, fill="black")
            image.paste(Image.fromarray(tile.pixels), (x, y + LINE + 4))
            for number, (line, colour) in enumerate(tile.lines):
                top = y + LINE + 8 + SIDE + number * LINE
                if colour is not None:
                    canvas.rectangle((x, top + 2, x + 10, top + 12), fill=colour)
                canvas.text((x + 16, top), line, font=small, fill=(60, 60, 60))
        y += height
    canvas.text((GAP, y), footer, font=small, fill=(60, 60, 60))
    return image
