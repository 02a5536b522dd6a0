"""Sheets of pictures to look at: tiles in rows with words above and below them, and a key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sspl.data.palette import palette
from sspl.domain.wording import in_words

GAP: Final = 12
LINE: Final = 17
SEAM: Final = 2
LEAST_WIDTH: Final = 480
"""Px that the words below the tiles have at least."""

MOST_LINES: Final = 2
"""Lines that a title, or one line below a tile, may be broken into."""

INK: Final = (20, 24, 30)
QUIET: Final = (90, 96, 104)
TITLE_SIZE, TEXT_SIZE = 14, 12

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Line = tuple[str, Colour | None]
"""Words, and the colour of the square before them, if any."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Tile:
    """Pictures uint8 (h, w, 3) side by side, with a title above and lines below them."""

    pictures: Sequence[Pixels]
    title: str = ""
    lines: Sequence[Line] = ()


def key_of(classes: Sequence[str], there: Sequence[int]) -> list[Line]:
    """Return the names and colours of the classes with these ids; background has no colour."""
    colours = palette(len(classes))
    shown = [(in_words(classes[i]), colours[i]) for i in there if i > 0]
    return [(name, (int(c[0]), int(c[1]), int(c[2]))) for name, c in shown]


def sheet(
    tiles: Sequence[Tile],
    columns: int,
    side: int,
    footer: Sequence[str] = (),
    key: Sequence[Line] = (),
) -> Image.Image:
    """Arrange tiles of as many pictures each in rows, each picture scaled to fit `side` px.

    The key of colours and the footer stand below all of them. Words that are too long for their
    place are broken, and cut short at the end alone.
    """
    text, small = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(TEXT_SIZE)
    across = max((len(tile.pictures) for tile in tiles), default=1)
    cell = across * (side + SEAM) - SEAM
    columns = max(1, min(columns, len(tiles)))
    width = max(LEAST_WIDTH, columns * (cell + GAP) + GAP)
    titles = [list(_broken(tile.title, text, cell, MOST_LINES)) for tile in tiles]
    below = [[part for line in tile.lines for part in _lines(line, small, cell)] for tile in tiles]
    rows = [range(i, min(i + columns, len(tiles))) for i in range(0, len(tiles), columns)]
    heads = [max(LINE * len(titles[i]) + 3 * bool(titles[i]) for i in row) for row in rows]
    feet = [LINE * max(len(below[i]) for i in row) for row in rows]
    room = width - 2 * GAP
    end = [part for line in footer for part in _broken(line, small, room)]
    flowed = list(_flowed(key, small, room))
    tail = LINE * (len(end) + (flowed[-1][1] + 1 if flowed else 0))
    height = sum(heads) + sum(feet) + len(rows) * (side + GAP + 4) + tail + 2 * GAP
    image = Image.new("RGB", (width, height), "white")
    canvas = ImageDraw.Draw(image)
    y = GAP
    for row, head, foot in zip(rows, heads, feet, strict=True):
        for column, i in enumerate(row):
            x = GAP + column * (cell + GAP)
            for number, part in enumerate(titles[i]):
                canvas.text((x, y + number * LINE), part, font=text, fill=INK)
            for number, pixels in enumerate(tiles[i].pictures):
                _paste(image, pixels, x + number * (side + SEAM), y + head, side)
            for number, line in enumerate(below[i]):
                _write(canvas, line, small, x, y + head + side + 4 + number * LINE)
        y += head + side + 4 + foot + GAP
    for left, down, line in flowed:
        _write(canvas, line, small, GAP + left, y + down * LINE)
    y += LINE * (flowed[-1][1] + 1) if flowed else 0
    for number, part in enumerate(end):
        canvas.text((GAP, y + number * LINE), part, font=small, fill=QUIET)
    return image


def _paste(image: Image.Image, pixels: Pixels, x: int, y: int, side: int) -> None:
    picture = Image.fromarray(pixels)
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    image.paste(picture, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))


def _write(canvas: ImageDraw.ImageDraw, line: Line, font: Font, x: float, y: float) -> None:
    words, colour = line
    if colour is not None:
        canvas.rectangle((x, y + 2, x + 10, y + 12), fill=colour)
        x += LINE
    canvas.text((x, y), words, font=font, fill=QUIET)


def _lines(line: Line, font: Font, width: float) -> Iterator[Line]:
    """Yield the parts of a line that fit; the square stands before the first one."""
    words, colour = line
    room = width if colour is None else width - LINE
    for number, part in enumerate(_broken(words, font, room, MOST_LINES)):
        yield part, colour if number == 0 else None


def _broken(words: str, font: Font, width: float, most: int | None = None) -> Iterator[str]:
    """Yield parts of a text that fit, broken between words where it can be; at most so many."""
    made = 0
    while words:
        made += 1
        fits = len(words)
        while fits > 1 and font.getlength(words[:fits]) > width:
            fits -= max(1, int(fits - width / font.getlength(words[:fits]) * fits) // 2)
        if fits == len(words):
            yield words
            return
        if made == most:
            yield words[: max(1, fits - 2)] + "…"
            return
        breaks = [i for i in range(1, fits + 1) if words[i] == " " or words[i - 1] in "_-/"]
        at = breaks[-1] if breaks else fits
        yield words[:at].rstrip()
        words = words[at:].lstrip()


def _flowed(key: Sequence[Line], font: Font, width: float) -> list[tuple[float, int, Line]]:
    """Return where each entry of a key goes: px from the left, and in which line."""
    x, down, found = 0.0, 0, []
    for line in key:
        wide = LINE + font.getlength(line[0]) + GAP
        if x and x + wide - GAP > width:
            x, down = 0.0, down + 1
        found.append((x, down, line))
        x += wide
    return found
