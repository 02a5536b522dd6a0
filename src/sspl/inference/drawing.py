"""Pictures with boxes about their faces and what the model says of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from sspl.domain.wording import in_words
from sspl.io.names import path_below

LINE: Final = (255, 196, 0)
PANEL: Final = (20, 20, 24)
PANEL_OPACITY: Final = 190
SMALLEST_SIDE: Final = 320
"""Px to which the shorter side of a small picture is enlarged, so that text can be read."""

TEXT_SHARE: Final = 26
"""Lines of text in the shorter side of a picture."""


SMALLER_TEXT_SHARE: Final = 45
"""The same for pictures of several faces."""

WORSE: Final = 4
"""How much worse it is to hide text than to hide a face."""

SEVERAL_SIDE: Final = 640
"""Px to which the shorter side of a small picture of several faces is enlarged."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Area = tuple[float, float, float, float]
"""Left, top, right, bottom in px."""


@dataclass(frozen=True)
class Note:
    """A face and the lines to write about it; without a box the whole picture is the face."""

    box: tuple[float, float, float, float] | None
    lines: Sequence[str]


def lines_about(
    attributes: Sequence[str],
    probabilities: Sequence[float],
    present: Sequence[bool | None],
    most: int,
) -> list[str]:
    """Return the attributes that are there, the likeliest first, at most so many.

    Attributes of which the model is not sure follow with a question mark, if there is room.
    """
    found = [
        (yes is None, -p, name)
        for name, p, yes in zip(attributes, probabilities, present, strict=True)
        if yes is not False
    ]
    return [
        f"{in_words(name)}{'?' if unsure else ''} {-p:.0%}"
        for unsure, p, name in sorted(found)[:most]
    ]


def annotated(image: Image.Image, notes: Sequence[Note]) -> Image.Image:
    """Return an RGB picture, enlarged if it is small, with its faces marked."""
    side = SMALLEST_SIDE if len(notes) < 2 else SEVERAL_SIDE
    scale = max(1.0, side / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    drawn = image.resize(size, Image.Resampling.BICUBIC) if scale > 1 else image.copy()
    share = TEXT_SHARE if len(notes) < 2 else SMALLER_TEXT_SHARE
    text = ImageFont.load_default(max(11, min(size) // share))
    if any(note.box is None for note in notes):
        return _beside(drawn, [line for note in notes for line in note.lines], text)
    canvas = ImageDraw.Draw(drawn, "RGBA")
    width = max(2, min(size) // 200)
    boxes: list[Area] = []
    for note in notes:
        assert note.box is not None
        left, top, right, bottom = (v * scale for v in note.box)
        boxes.append((left, top, right, bottom))
        canvas.rectangle(boxes[-1], outline=LINE, width=width)
    panels: list[Area] = []
    for box, note in zip(boxes, notes, strict=True):
        if note.lines:
            panels.append(_panel(canvas, size, box, boxes, panels, note.lines, text, width))
    return drawn


def _panel(
    canvas: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Area,
    boxes: Sequence[Area],
    panels: Sequence[Area],
    lines: Sequence[str],
    text: Font,
    width: int,
) -> Area:
    """Draw a panel of lines at a box; return where.

    Of the places below, above, right, left and inside it is the first that hides least of all
    `boxes` and of the `panels` drawn before, of which nothing could be read any more.
    """
    block = "\n".join(lines)
    left, top, right, bottom = canvas.multiline_textbbox((0, 0), block, font=text)
    pad = width * 2
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    corners = (
        (box[0], box[3] + width),
        (box[0], box[1] - width - high),
        (box[2] + width, box[1]),
        (box[0] - width - wide, box[1]),
        (box[2] - wide, box[3] + width),
        (box[0], box[3] - high),
    )
    areas: list[Area] = []
    for x, y in corners:
        x = min(max(0.0, x), max(0.0, size[0] - wide))
        y = min(max(0.0, y), max(0.0, size[1] - high))
        areas.append((x, y, x + wide, y + high))

    def hidden(area: Area) -> float:
        return sum(shared(area, b) for b in boxes) + WORSE * sum(shared(area, p) for p in panels)

    best = min(areas, key=hidden)
    canvas.rectangle(best, fill=(*PANEL, PANEL_OPACITY))
    corner = (best[0] + pad - left, best[1] + pad - top)
    canvas.multiline_text(corner, block, font=text, fill="white")
    return best


def shared(one: Area, other: Area) -> float:
    """Return how many px two areas have in common."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def _beside(image: Image.Image, lines: Sequence[str], text: Font) -> Image.Image:
    """Return the picture with a panel of lines on its right."""
    block = "\n".join(lines) or "nothing found"
    left, top, right, bottom = ImageDraw.Draw(image).multiline_textbbox((0, 0), block, font=text)
    pad = max(8, image.height // 40)
    height = max(image.height, round(bottom - top) + 2 * pad)
    sheet = Image.new("RGB", (image.width + round(right - left) + 2 * pad, height), PANEL)
    sheet.paste(image, (0, 0))
    ImageDraw.Draw(sheet).multiline_text(
        (image.width + pad - left, pad - top), block, font=text, fill="white"
    )
    return sheet


def inside(folder: Path, name: str) -> Path:
    """Return the place for results on a picture: below the folder, whatever its name says.

    Raises `DataError` for a name that cannot be one of a file, and for a link out of the folder.
    """
    parts = [p for p in PurePosixPath(Path(name).as_posix()).parts if p not in ("/", "//", "..")]
    return path_below(folder, "/".join(parts).replace(":", "_"))


def annotated_path(folder: Path, name: str, frame: int | None) -> Path:
    """Return where the drawing of a picture goes."""
    path = inside(folder, name)
    if frame is not None:
        return path / f"{frame:06d}.jpg"
    return path if path.suffix == ".jpg" else path.with_name(f"{path.name}.jpg")
