"""A synthetic set on disk, in the layout of CelebA's official files."""

import io
import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.data.palette import write_image
from sspl.data.synthetic.render import Style, SyntheticFace, render_face
from sspl.errors import SsplError
from sspl.io.files import holds_nothing, write_bytes, write_json, write_text
from sspl.io.locks import claimed
from sspl.io.progress import watched

MARKER: Final = "synthetic.json"
GENERATOR: Final = "sspl synthetic faces 1"
MAX_COUNT: Final = 999_999
MIN_SIZE: Final = 32
MAX_SIZE: Final = 1024
_IMAGES: Final = "img_align_celeba"
_MASKS: Final = "masks"
_LISTS: Final = ("list_attr_celeba.txt", "list_eval_partition.txt", "contact_sheet.png")
_SHEET_COLUMNS: Final = 8
_SHEET_ROWS: Final = 6

PALETTE: Final = np.array(
    [(0, 0, 0), (240, 190, 160), (160, 90, 40), (110, 60, 30), (60, 140, 255), (30, 80, 220),
     (0, 210, 210), (255, 120, 80), (220, 80, 60), (255, 230, 0), (255, 160, 210), (120, 0, 40),
     (230, 30, 60), (180, 20, 90), (200, 150, 100), (255, 255, 140), (70, 160, 70), (120, 60, 160),
     (150, 150, 150)],
    dtype=np.uint8,
)  # fmt: skip


def file_name(index: int, suffix: str = ".jpg") -> str:
    """Return the file name of face `index` (0-based): `000001.jpg` is face 0."""
    return f"{index + 1:06d}{suffix}"


def partition(index: int) -> int:
    """Return 0 (train), 1 (val) or 2 (test): seven, one and two of every ten faces."""
    place = index % 10
    return 0 if place < 7 else 1 if place == 7 else 2


def write_synthetic(out: Path, count: int, seed: int, size: int, style: Style = "plain") -> None:
    """Write `count` faces of `size` pixels to the folder `out`, with lists, masks and a sheet.

    `style: photo` draws them as networks learn photographs from them, `plain` as people see best
    what they are. A synthetic set that is already there is replaced. Raises `SsplError` when a
    number is out of range, when `out` holds something else, or when it cannot be written.

    Examples:
        >>> write_synthetic(Path("more"), count=3, seed=1, size=48)
        >>> sorted(path.name for path in Path("more/masks").glob("*.png"))
        ['000001.png', '000002.png', '000003.png']
    """
    _check_numbers(count, seed, size)
    if out.exists() and not out.is_dir():
        raise SsplError(f"{out} is a file; name a new or empty folder.")
    with claimed(out, folder=True, deep=True):
        _write(out, count, seed, size, style)


def _write(out: Path, count: int, seed: int, size: int, style: Style) -> None:
    _claim(out, count)
    what = {"generator": GENERATOR, "count": count, "seed": seed, "size": size, "style": style}
    write_json(out / MARKER, what)
    first: list[SyntheticFace] = []
    rows = []
    for index in watched(range(count), desc="synthetic faces", unit="face"):
        face = render_face(seed, index, size, style)
        write_bytes(out / _IMAGES / file_name(index), _jpeg(face.image, seed, index))
        write_bytes(out / _MASKS / file_name(index, ".png"), _palette_png(face.mask))
        values = " ".join(f"{1 if truth else -1:2d}" for truth in face.labels.values())
        rows.append(f"{file_name(index)} {values}")
        if len(first) < _SHEET_COLUMNS * _SHEET_ROWS:
            first.append(face)
    splits = "".join(f"{file_name(i)} {partition(i)}\n" for i in range(count))
    head = [str(count), " ".join(first[0].labels)]
    write_image(out / _LISTS[2], Image.fromarray(contact_sheet(first)))
    write_text(out / _LISTS[1], splits)
    write_text(out / _LISTS[0], "\n".join([*head, *rows]) + "\n")


def _check_numbers(count: int, seed: int, size: int) -> None:
    if not 1 <= count <= MAX_COUNT:
        raise SsplError(f"the number of faces is {count}; give one from 1 to {MAX_COUNT}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise SsplError(f"the size is {size} pixels; give one from {MIN_SIZE} to {MAX_SIZE}.")
    if seed < 0:
        raise SsplError(f"the seed is {seed}; give 0 or more.")


def _claim(out: Path, count: int) -> None:
    """Refuse a foreign folder; drop what a former, longer set would leave behind."""
    if holds_nothing(out):
        return
    if not _is_synthetic(out):
        raise SsplError(
            f"{out} is not empty and holds no synthetic set; name a new or empty folder."
        )
    # The lists go first: an interrupted run must not leave old labels beside new pictures.
    for name in _LISTS:
        (out / name).unlink(missing_ok=True)
    for folder in (_IMAGES, _MASKS):
        for path in (out / folder).glob("[0-9]*.*"):
            if path.stem.isdigit() and int(path.stem) > count:
                path.unlink()


def _is_synthetic(out: Path) -> bool:
    try:
        content = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("generator", "")).startswith(
        "sspl synthetic faces"
    )


def _jpeg(image: NDArray[np.uint8], seed: int, index: int) -> bytes:
    """Encode with a quality that differs from face to face."""
    quality = int(np.random.default_rng([seed, index, 1]).integers(60, 96))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _palette_png(mask: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(mask)
    picture.putpalette(PALETTE.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def contact_sheet(faces: list[SyntheticFace]) -> NDArray[np.uint8]:
    """Return uint8 RGB of up to 8 x 6 faces, each row followed by its masks laid over it."""
    side = faces[0].image.shape[0]
    rows = -(-len(faces) // _SHEET_COLUMNS)
    sheet = np.full((2 * rows * side, _SHEET_COLUMNS * side, 3), 255, dtype=np.uint8)
    for place, face in enumerate(faces):
        row, column = divmod(place, _SHEET_COLUMNS)
        across = slice(column * side, (column + 1) * side)
        top = 2 * row * side
        overlay = (face.image.astype(np.uint16) + 2 * PALETTE[face.mask].astype(np.uint16)) // 3
        sheet[top : top + side, across] = face.image
        sheet[top + side : top + 2 * side, across] = overlay
    return sheet
