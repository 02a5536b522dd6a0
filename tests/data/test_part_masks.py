"""Masks of one file a part, merged by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import refused, sspl
from sspl.data.part_masks import PARTS, merge_folder, read_part
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError

TAXONOMY = built_in_taxonomy("celebamask19")
ID = {name: i for i, name in enumerate(TAXONOMY.classes)}


def draw(folder: Path, name: str, box: tuple[int, int, int, int], mode: str = "L") -> None:
    """Write a part that fills left, top, right, bottom of 8 x 8 px."""
    pixels = np.zeros((8, 8), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(folder / f"{name}.png")


def ids_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def test_every_part_is_a_class_by_name() -> None:
    assert set(PARTS) | {"background"} == set(TAXONOMY.classes)


def test_parts_are_painted_by_name_the_later_ones_on_top(tmp_path: Path) -> None:
    parts = tmp_path / "anno"
    draw(parts / "0", "00001_skin", (0, 0, 6, 8))
    draw(parts / "0", "00001_l_eye", (4, 2, 5, 3), "RGB")
    draw(parts / "0", "00001_r_eye", (1, 2, 2, 3), "P")
    draw(parts / "0", "00001_hair", (0, 0, 8, 2))
    draw(parts / "0", "00001_l_lip", (2, 6, 4, 7))
    draw(parts / "0", "00001_u_lip", (2, 5, 4, 7))  # lies under the lower lip
    draw(parts / "1", "02000_cloth", (0, 0, 8, 8))
    output = sspl("data", "merge-masks", parts, "--out", tmp_path / "masks").output
    assert "2 masks in" in output
    expected = np.zeros((8, 8), np.uint8)
    expected[:, :6] = ID["skin"]
    expected[:2] = ID["hair"]
    expected[2, 4], expected[2, 1] = ID["l_eye"], ID["r_eye"]
    expected[5, 2:4], expected[6, 2:4] = ID["u_lip"], ID["l_lip"]
    assert np.array_equal(ids_of(tmp_path / "masks" / "00001.png"), expected)
    assert (ids_of(tmp_path / "masks" / "02000.png") == ID["cloth"]).all()


def test_masks_take_the_names_and_sizes_of_the_pictures(tmp_path: Path) -> None:
    parts, images, out = tmp_path / "anno", tmp_path / "images", tmp_path / "masks"
    for face in ("00001", "00002", "00010"):
        draw(parts, f"{face}_skin", (0, 0, 4, 8))
    images.mkdir()
    Image.new("RGB", (16, 16)).save(images / "1.jpg")
    Image.new("RGB", (8, 8)).save(images / "00010.jpg")
    output = sspl("data", "merge-masks", parts, "--out", out, "--images", images).output
    assert "2 masks" in output
    assert "1 faces without a picture left out" in output
    assert sorted(p.name for p in out.iterdir()) == ["00010.png", "1.png"]
    large = ids_of(out / "1.png")
    assert large.shape == (16, 16)
    assert (large[:, :8] == ID["skin"]).all()
    assert not large[:, 8:].any()
    Image.new("L", (16, 16)).save(out / "1.png")  # stands for a finished mask
    (out / "00010.png").unlink()
    sspl("data", "merge-masks", parts, "--out", out, "--images", images)
    assert (out / "00010.png").exists()
    with Image.open(out / "1.png") as kept:
        assert kept.mode == "L"


def test_no_mask_leaves_the_folder_of_masks(tmp_path: Path) -> None:
    """Neither by a link in it nor by a name that is none; and then not one is written."""
    parts, images, out = tmp_path / "parts", tmp_path / "images", tmp_path / "out"
    for folder in (parts, images / "sub", out, tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    for face in ("0", "1"):
        Image.new("L", (4, 4), 255).save(parts / f"{face}_skin.png")
    Image.new("RGB", (4, 4)).save(images / "0.png")
    Image.new("RGB", (4, 4)).save(images / "sub" / "1.png")
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a link that leads out of"):
        merge_folder(parts, out, images)
    assert not [*out.rglob("*.png"), *(tmp_path / "elsewhere").iterdir()]
    (parts / "1_skin.png").rename(parts / "nul_skin.png")
    with pytest.raises(DataError, match=r"'nul\.png' is no image name"):
        merge_folder(parts, out, None)
    assert not list(out.glob("*.png"))


def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    parts, out = tmp_path / "anno", tmp_path / "masks"
    parts.mkdir()
    arguments = ("data", "merge-masks", parts, "--out", out)
    assert "holds no files such as 00001_skin.png" in refused(*arguments)
    draw(parts / "0", "00001_skin", (0, 0, 8, 8))
    images = tmp_path / "images"
    images.mkdir()
    assert "holds no picture" in refused(*arguments, "--images", images)
    draw(parts / "1", "00001_skin", (0, 0, 8, 8))
    assert "same part of the same face" in refused(*arguments)
    (parts / "1" / "00001_skin.png").unlink()
    draw(parts, "00001_beard", (0, 0, 8, 8))
    assert "00001_beard.png: the name must be FACE_PART.png" in refused(*arguments)
    (parts / "00001_beard.png").unlink()
    Image.new("L", (4, 8)).save(parts / "00001_nose.png")
    assert "is 4 x 8, but other parts of this face are 8 x 8" in refused(*arguments)
    (parts / "00001_nose.png").write_bytes(b"none")
    assert "00001_nose.png: damaged mask, or not a picture" in refused(*arguments)
    assert not list(out.glob("*.png"))


SHAPE = np.zeros((12, 12), np.uint8)
SHAPE[2:10, 2:10] = 1


def soft(shape: np.ndarray) -> np.ndarray:
    """Return a shape whose edges are half covered."""
    size = shape.shape[::-1]
    small = Image.fromarray(shape * np.uint8(255)).resize((5, 5), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(size, Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"),
     ("1", "TIFF"), ("L", "BMP")],
)  # fmt: skip
def test_black_and_white_is_read_in_every_mode(tmp_path: Path, mode: str, kind: str) -> None:
    path = tmp_path / "00001_skin.png"
    Image.fromarray(SHAPE * np.uint8(255)).convert(mode).save(path, kind)
    assert np.array_equal(read_part(path), SHAPE == 1)
    Image.fromarray(SHAPE * 0).convert(mode).save(path, kind)
    assert not read_part(path).any()


def test_white_of_16_bits_and_of_a_palette_is_white(tmp_path: Path) -> None:
    path = tmp_path / "00001_skin.png"
    Image.fromarray(SHAPE.astype(np.uint16) * 65535).save(path)
    assert np.array_equal(read_part(path), SHAPE == 1)
    image = Image.fromarray(1 - SHAPE)
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(path)
    assert np.array_equal(read_part(path), SHAPE == 1)


def test_soft_edges_count_by_their_half(tmp_path: Path) -> None:
    path = tmp_path / "00001_skin.png"
    levels = soft(SHAPE)
    assert ((levels > 32) & (levels < 223)).any()
    Image.fromarray(levels).save(path)
    assert np.array_equal(read_part(path), levels >= 128)


def coloured(colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(SHAPE[..., None] * np.array(colour, np.uint8))


def of_palette(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(SHAPE)
    image.putpalette([0, 0, 0, *colour])
    return image


def wide(level: int, ground: int) -> Image.Image:
    levels = np.full((40, 40), ground, np.uint8)
    levels[10:30, 5:20], levels[10:30, 20:35] = level, 255
    return Image.fromarray(levels)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.fromarray(SHAPE), "its brightest grey level is 1;"),
        (Image.fromarray(SHAPE * np.uint8(17)), "its brightest grey level is 17;"),
        (Image.fromarray(SHAPE * np.uint8(150)), "its brightest grey level is 150;"),
        (Image.fromarray(SHAPE.astype(np.uint16) * 255), "its brightest grey level is 1;"),
        (wide(140, 0), "has areas of grey level 140;"),
        (wide(255, 90), "has areas of grey level 90;"),
        (of_palette((128, 0, 0)), r"holds colours such as \(128, 0, 0\)"),
        (coloured((255, 0, 0)), r"holds colours such as \(255, 0, 0\)"),
        (Image.fromarray(np.dstack([SHAPE * 0 + 255] * 3 + [SHAPE * 255])), "has transparent"),
        (Image.fromarray(np.dstack([SHAPE * 255, 255 - SHAPE])), "has transparent pixels"),
    ],
)
def test_what_is_not_black_and_white_is_refused(
    tmp_path: Path, image: Image.Image, reason: str
) -> None:
    path = tmp_path / "p" / "00001_skin.png"
    path.parent.mkdir()
    image.save(path)
    with pytest.raises(DataError, match=reason) as caught:
        read_part(path)
    assert str(path) in str(caught.value)
    refused("data", "merge-masks", path.parent, "--out", tmp_path / "out")
    assert not list(tmp_path.glob("out/*.png"))


def test_a_transparent_colour_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "00001_skin.png"
    Image.fromarray(SHAPE * np.uint8(255)).save(path, transparency=0)
    with pytest.raises(DataError, match="has transparent pixels"):
        read_part(path)


def test_lossy_parts_are_refused(tmp_path: Path) -> None:
    parts, out = tmp_path / "anno", tmp_path / "out"
    draw(parts, "00001_skin", (0, 0, 8, 8))
    Image.new("L", (8, 8), 255).save(parts / "00001_nose.png", "JPEG")
    assert "00001_nose.png: holds JPEG, which is lossy" in refused(
        "data", "merge-masks", parts, "--out", out
    )
    (parts / "00001_nose.png").rename(parts / "00001_nose.jpg")  # not silently left out
    assert "00001_nose.jpg: holds JPEG, which is lossy" in refused(
        "data", "merge-masks", parts, "--out", out
    )
    (parts / "00001_nose.jpg").rename(parts / "00001.jpg")  # a photograph, no part
    assert "1 masks" in sspl("data", "merge-masks", parts, "--out", out).output


def test_pictures_of_parts_may_lie_in_subfolders(tmp_path: Path) -> None:
    parts, images, out = tmp_path / "anno", tmp_path / "images", tmp_path / "masks"
    draw(parts, "00001_skin", (0, 0, 4, 8))
    draw(parts, "00002_skin", (0, 0, 4, 8))
    for name in ("1.jpg", "sub/2.jpg"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(images / name)
    arguments = ("data", "merge-masks", parts, "--out", out, "--images", images)
    assert "2 masks" in sspl(*arguments).output
    assert (out / "1.png").exists()
    assert (out / "sub" / "2.png").exists()
    Image.new("RGB", (8, 8)).save(images / "1.png")
    assert "the parts of '00001' may be of" in refused(*arguments)
    (images / "1.jpg").unlink()
    assert "1.png: is the picture 1.png itself" in refused(*arguments[:4], images, *arguments[5:])
    draw(parts, "1_skin", (0, 0, 4, 8))
    assert "the parts of '00001' and '1' may be its own" in refused(*arguments)


def test_a_part_in_a_format_that_is_not_read_is_not_passed_over(tmp_path: Path) -> None:
    parts = tmp_path / "anno"
    draw(parts, "00001_skin", (0, 0, 4, 8))
    (parts / "00001_nose.txt").write_text("nobody's nose")
    assert merge_folder(parts, tmp_path / "one", None).masks == 1
    (parts / "00001_nose.gif").write_bytes((parts / "00001_skin.png").read_bytes())
    with pytest.raises(DataError, match=r"00001_nose\.gif: parts are read from PNG"):
        merge_folder(parts, tmp_path / "two", None)
