"""Masks of one file a part, merged by name."""

from pathlib import Path

import numpy as np
from PIL import Image

from shared import refused, sspl
from sspl.data.part_masks import PARTS
from sspl.domain.taxonomy import built_in_taxonomy

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
    assert "00001_nose.png: not a picture" in refused(*arguments)
    assert not list(out.glob("*.png"))
