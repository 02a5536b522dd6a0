"""Pictures with boxes about their faces and what the model says of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from PIL import Image, ImageDraw, ImageFont

LINE: Final = (255, 196, 0)
PANEL: Final = (20, 20, 24)
PANEL_OPACITY: Final = 190
SMALLEST_SIDE: Final = 320
"""Px to which the shorter side of a small picture is enlarged, so that text can be read."""

TEXT_SHARE: Final = 26
"""Lines of text in the shorter side of a picture."""


@dataclass(frozen=True)
class Note:
    """A face and the lines to write about it; without a box the whole picture is the face."""

    box: tuple[float, float, float, float] | None
    lines: Sequence[str]


def lines_about(
    attributes: Sequence[str], probabilities: Sequence[float], present: Sequence[bool | None],
    most: int,
) -> list[str]:  # fmt: skip
    """Return the attributes that are there, the likeliest first, at most so many.

    Attributes of which the model is not sure follow with a question mark, if there is room.
    """
    found = [(yes is None, -p, name) for name, p, yes in
             zip(attributes, probabilities, present, strict=True) if yes is not False]  # fmt: skip
    return [
        f"{name.replace('_', ' ')}{'?' if unsure else ''} {-p:.0%}"
        for unsure, p, name in sorted(found)[:most]
    ]


def annotated(image: Image.Image, notes: Sequence[Note]) -> Image.Image:
    """Return an RGB picture, enlarged if it is small, with its faces marked."""
    scale = max(1.0, SMALLEST_SIDE / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    drawn = image.resize(size, Image.Resampling.BICUBIC) if scale > 1 else image.copy()
    text = ImageFont.load_default(max(11, min(size) // TEXT_SHARE))
    if any(note.box is None for note in notes):
        return _beside(drawn, [line for note in notes for line in note.lines], text)
    canvas = ImageDraw.Draw(drawn, "RGBA")
    for note in notes:
        assert note.box is not None
        _mark(canvas, size, [v * scale for v in note.box], note.lines, text)
    return drawn


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _mark(
    canvas: ImageDraw.ImageDraw, size: tuple[int, int], box: Sequence[float],
    lines: Sequence[str], text: Font,
) -> None:  # fmt: skip
    """Draw a box, and a panel below it, or above or inside where there is no room."""
    width = max(2, min(size) // 200)
    canvas.rectangle(tuple(box), outline=LINE, width=width)
    if not lines:
        return
    block = "\n".join(lines)
    left, top, right, bottom = canvas.multiline_textbbox((0, 0), block, font=text)
    pad = width * 2
    high, wide = bottom - top + 2 * pad, right - left + 2 * pad
    x = min(max(0.0, box[0]), max(0.0, size[0] - wide))
    below, above = box[3] + width, box[1] - width - high
    y = below if below + high <= size[1] else above if above >= 0 else max(0.0, size[1] - high)
    canvas.rectangle((x, y, x + wide, y + high), fill=(*PANEL, PANEL_OPACITY))
    canvas.multiline_text((x + pad - left, y + pad - top), block, font=text, fill="white")


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
    """Return the place for results on a picture: below the folder, whatever its name says."""
    parts = [p for p in PurePosixPath(Path(name).as_posix()).parts if p not in ("/", ".", "..")]
    return folder.joinpath(*(part.replace(":", "_") for part in parts))


def annotated_path(folder: Path, name: str, frame: int | None) -> Path:
    """Return where the drawing of a picture goes."""
    path = inside(folder, name)
    if frame is not None:
        return path / f"{frame:06d}.jpg"
    return path if path.suffix == ".jpg" else path.with_name(f"{path.name}.jpg")
