"""Masks among pictures that neither their names nor their folders give away."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sspl.data.adapters.folder import read_folder
from sspl.data.adapters.label_maps import is_label_map
from sspl.errors import DataError

SIDE = 96
COLOURS = np.array([[0, 0, 0], [127, 0, 0], [0, 0, 255], [255, 255, 0]], np.uint8)


def photograph(path: Path, *, grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(128, 20, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    (image.convert("L") if grey else image).save(path)


def classes(side: int = SIDE) -> NDArray[np.uint8]:
    image = Image.new("L", (side, side))
    canvas = ImageDraw.Draw(image)
    for value, box in enumerate(((20, 10, 76, 90), (30, 35, 44, 45), (34, 64, 62, 78)), 1):
        canvas.ellipse([edge * side / SIDE for edge in box], fill=value)
    return np.asarray(image)


def coloured(path: Path) -> None:
    save(path, COLOURS[classes()])


def part(path: Path) -> None:
    """Save a part as RGB, white on black."""
    save(path, np.repeat(((classes() == 1) * 255).astype(np.uint8)[..., None], 3, axis=-1))


def soft_part(path: Path) -> None:
    large = Image.fromarray(((classes(4 * SIDE) > 0) * 255).astype(np.uint8))
    small = large.rotate(7).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    assert len(small.getcolors()) > 64
    save(path, np.asarray(small))


def numbers(path: Path) -> None:
    save(path, classes())


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


SETS = [
    ("CelebA-HQ-img/{}.jpg", "CelebAMask-HQ-mask-anno/0/{:05d}_skin.png", part),
    ("Train_RGB/{}.bmp", "Train_Labels/{}.bmp", coloured),
    ("Train_RGB/{}.jpg", "Train_Labels/{}.png", numbers),
    ("images/{}_1.jpg", "lbls/{0}_1/{0}_1_lbl01.png", soft_part),
    ("images/{}_1.jpg", "labels/{0}_1/{0}_1_lbl01.png", soft_part),
    ("a/{}.jpg", "a/{}.png", coloured),
    ("a/{}.png", "a/{}_parse.png", numbers),
    ("{}.jpg", "kinds/{}_map.png", coloured),
]


@pytest.mark.parametrize(("picture", "mask", "draw"), SETS)
def test_masks_are_told_by_their_areas_and_pictures(tmp_path, picture, mask, draw):
    for i in range(3):
        photograph(tmp_path / picture.format(i))
        draw(tmp_path / mask.format(i))
    first, place = mask.format(0), tmp_path / Path(picture).parent
    said = f"pictures such as '{first}' look like masks of others ('{picture.format(0)}'); "
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_folder(tmp_path)
    if Path(picture).parent != Path(mask).parent:
        assert f"give a folder of pictures alone (these are in {place})" in str(caught.value)
    else:
        assert "move them to a folder of their own" in str(caught.value)


def test_coloured_parts_of_nothing_in_a_folder_for_masks_are_no_faces(tmp_path):
    photograph(tmp_path / "images/a.jpg")
    part(tmp_path / "labels/0_skin.png")
    with pytest.raises(DataError, match=r"1 pictures look like masks, the first is 'labels/0_ski"):
        read_folder(tmp_path)


def lines(path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(image).ellipse((20, 10, 76, 90), outline="black", width=2)
    save(path, np.asarray(image))


def grey(path: Path) -> None:
    photograph(path, grey=True)


FACES = [
    ("photos/a.jpg", "sketches/a.png", lines),  # a drawing of a photograph
    ("photos/a.jpg", "other/a.png", grey),
    ("photos/a.jpg", "other/b.png", numbers),  # flat, but of no photograph
    ("photos/a.png", "a.png", grey),
    ("x/1.png", "y/1.png", photograph),  # folders of people
    ("flat/a.png", "flatter/a.png", numbers),  # both flat: drawings in two sizes, say
]


@pytest.mark.parametrize(("one", "other", "draw"), FACES)
def test_photographs_and_drawings_stay_faces(tmp_path, one, other, draw):
    (numbers if one.startswith("flat") else photograph)(tmp_path / one)
    draw(tmp_path / other)
    assert set(read_folder(tmp_path).names) == {one, other}


def test_a_mask_has_the_shape_of_its_picture(tmp_path):
    photograph(tmp_path / "photos/a.jpg")
    save(tmp_path / "logos/a.png", classes()[:48])
    assert len(read_folder(tmp_path)) == 2


def test_a_folder_of_masks_alone_is_opened_as_it_is(tmp_path):
    for i in range(3):
        coloured(tmp_path / f"{i}.png")
    assert len(read_folder(tmp_path)) == 3


def test_what_cannot_be_read_is_no_mask(tmp_path):
    photograph(tmp_path / "photos/a.jpg")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.png").write_bytes(b"nothing")
    assert len(read_folder(tmp_path)) == 2
    assert not is_label_map(tmp_path / "other/a.png")
