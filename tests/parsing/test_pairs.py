"""Pictures and masks that belong together: found, split, drawn and read."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sspl.domain.taxonomy import UNKNOWN, Taxonomy
from sspl.errors import DataError
from sspl.parsing.pairs import draw_training_pairs, find_pairs, load_pairs


def pairs_folder(folder: Path, stems: list[str]) -> tuple[Path, Path]:
    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    for stem in stems:
        Image.new("RGB", (4, 4)).save(images / f"{stem}.jpg")
        Image.new("L", (4, 4)).save(masks / f"{stem}.png")
    return images, masks


def test_pairs_match_by_stem_and_follow_the_split_file(tmp_path: Path) -> None:
    images, masks = pairs_folder(tmp_path, ["b", "a", "c"])
    (masks / "c.png").unlink()  # a picture without a mask is left out
    table = tmp_path / "split.csv"
    table.write_text("name,split\nb,test\na,train\nunused,train\n")
    pairs = find_pairs(images, masks, table)
    assert (pairs.names, pairs.splits) == (("a", "b"), ("train", "test"))
    assert pairs.split("test").images == (images / "b.jpg",)
    assert pairs.split("test").masks == (masks / "b.png",)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffname;split\nb;test\na;train\n".encode(),
        b"sep=;\r\nname;split\r\nb;test\r\na;train\r\n",
        "name\tsplit\nb\ttest\na\ttrain\n".encode("utf-16"),
        b",name,split,\n0,b,test,\n1,a,train,\n",
        b"name, split\n\nb, test\na, train\n\n",
    ],
)
def test_split_files_of_spreadsheets_and_pandas_are_read(tmp_path: Path, content: bytes) -> None:
    images, masks = pairs_folder(tmp_path, ["b", "a"])
    (tmp_path / "split.csv").write_bytes(content)
    pairs = find_pairs(images, masks, tmp_path / "split.csv")
    assert dict(zip(pairs.names, pairs.splits, strict=True)) == {"a": "train", "b": "test"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,split\na,train\n", "no line for 'b'"),
        ("name,split\na,train\nb,val\n", r"line 3: split is 'val'"),
        ("name,split\na,train\nb,test\na,test\n", r"line 4: 'a' comes twice"),
        ("stem,split\na,train\n", "needs the columns 'name' and 'split'"),
    ],
)
def test_bad_split_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    images, masks = pairs_folder(tmp_path, ["a", "b"])
    table = tmp_path / "split.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=reason) as caught:
        find_pairs(images, masks, table)
    assert str(table) in str(caught.value)


def test_mask_without_a_picture_is_named(tmp_path: Path) -> None:
    images, masks = pairs_folder(tmp_path, ["a", "b"])
    (images / "b.jpg").unlink()
    with pytest.raises(DataError, match="no picture named 'b'"):
        find_pairs(images, masks, None)


def test_held_out_pairs_do_not_depend_on_what_else_is_there(tmp_path: Path) -> None:
    stems = [f"{i:03}" for i in range(60)]
    images, masks = pairs_folder(tmp_path, stems)
    pairs = find_pairs(images, masks, None)
    whole = dict(zip(pairs.names, pairs.splits, strict=True))
    assert 3 <= sum(split == "test" for split in whole.values()) <= 20
    for stem in stems[::2]:
        (masks / f"{stem}.png").unlink()
    half = find_pairs(images, masks, None)
    assert dict(zip(half.names, half.splits, strict=True)) == {s: whole[s] for s in stems[1::2]}


def test_training_pairs_are_drawn_by_seed(tmp_path: Path) -> None:
    pairs = find_pairs(*pairs_folder(tmp_path, [f"{i:02}" for i in range(12)]), None)
    first, again, other = (draw_training_pairs(pairs, 5, seed).names for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 5
    with pytest.raises(DataError, match="asked for 13, but there are 12"):
        draw_training_pairs(pairs, 13, 0)


def test_one_pair_in_six_is_held_out_by_its_name(tmp_path: Path) -> None:
    stems = [f"face{i}" for i in range(30)]
    pairs = find_pairs(*pairs_folder(tmp_path, stems), None)
    tested = {s for s in stems if int(hashlib.sha256(s.encode()).hexdigest()[:2], 16) % 6 == 0}
    assert set(pairs.split("test").names) == tested
    assert set(pairs.split("train").names) == set(stems) - tested
    # The same for ever.
    assert len(tested) == 5


def test_other_pictures_and_files_are_left_alone(tmp_path: Path) -> None:
    images, masks = pairs_folder(tmp_path, ["a"])
    (images / "a.jpg").rename(images / "a.PNG")
    (images / "a.txt").touch()
    (masks / "b.txt").touch()
    table = tmp_path / "split.csv"
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("split", "name"), ("train", "a")])
    pairs = find_pairs(images, masks, table)
    assert (len(pairs), pairs.images, pairs.splits) == (1, (images / "a.PNG",), ("train",))
    with pytest.raises(DataError, match="is in split 'test'"):
        pairs.split("test")


def test_masks_in_a_format_that_is_not_read_are_not_passed_over(tmp_path: Path) -> None:
    images, masks = pairs_folder(tmp_path, ["a", "b"])
    (masks / "a.txt").touch()
    (masks / "stranger.gif").touch()
    assert len(find_pairs(images, masks, None)) == 2
    (masks / "b.png").rename(masks / "b.gif")
    with pytest.raises(DataError, match=r"b\.gif: masks are PNG, BMP or TIFF files"):
        find_pairs(images, masks, None)


def test_missing_folders_masks_and_split_files_are_named(tmp_path: Path) -> None:
    images, masks = pairs_folder(tmp_path, ["a"])
    nowhere = tmp_path / "nowhere"
    for wrong in ((nowhere, masks), (images, nowhere)):
        with pytest.raises(DataError, match="nowhere: no such folder"):
            find_pairs(*wrong, None)
    with pytest.raises(DataError, match="nowhere: no such split file"):
        find_pairs(images, masks, nowhere)
    (masks / "a.png").unlink()
    with pytest.raises(DataError, match="masks: holds no PNG mask"):
        find_pairs(images, masks, None)


def test_one_pair_or_all_can_be_drawn(tmp_path: Path) -> None:
    pairs = find_pairs(*pairs_folder(tmp_path, ["a", "b", "c"]), None)
    assert len(draw_training_pairs(pairs, 1, 0)) == 1
    assert draw_training_pairs(pairs, 3, 0).names == ("a", "b", "c")  # in their own order
    with pytest.raises(DataError, match="asked for 0"):
        draw_training_pairs(pairs, 0, 0)


def test_masks_are_read_with_the_ids_of_the_target(tmp_path: Path) -> None:
    images, masks = pairs_folder(tmp_path, ["a", "b"])
    ids = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]], np.uint8)
    for stem, turned in (("a", ids), ("b", ids.T)):
        Image.fromarray(np.ascontiguousarray(turned)).save(masks / f"{stem}.png")
    Image.new("RGB", (4, 4), (200, 100, 50)).save(images / "b.jpg", quality=100)
    given = Taxonomy("given", ("background", "skin", "locks"))
    ours = Taxonomy(
        "ours", ("hair", "background", "skin"), sources={"given": {"locks": "hair"}}
    )  # background 0 to 1, skin 1 to 2, locks 2 to 0
    pictures, read = load_pairs(find_pairs(images, masks, None), given, ours, 4, "read")
    wanted = torch.tensor([[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, UNKNOWN, UNKNOWN]])[[0, 1, 2, 2]]
    assert torch.equal(read, torch.stack([wanted, wanted.T]).to(torch.uint8))
    assert (pictures.dtype, pictures.shape, read.dtype) == (torch.uint8, (2, 3, 4, 4), torch.uint8)
    colour = torch.tensor([200, 100, 50]).view(3, 1, 1).expand(3, 4, 4)
    torch.testing.assert_close(pictures[1].int(), colour.int(), atol=2, rtol=0)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path, "PNG")
    return folder


def found(images: Path, masks: Path) -> list[tuple[str, str]]:
    pairs = find_pairs(images, masks, None)
    return [
        (i.relative_to(images).as_posix(), m.relative_to(masks).as_posix())
        for i, m in zip(pairs.images, pairs.masks, strict=True)
    ]


def test_a_mask_beside_its_picture_is_the_mask(tmp_path: Path) -> None:
    both = touch(
        tmp_path, "b.png", "b.jpg", "a.JPG", "a.PNG", "only.jpg", "sub/a.webp", "sub/a.bmp"
    )
    pairs = [("a.JPG", "a.PNG"), ("b.jpg", "b.png"), ("sub/a.webp", "sub/a.bmp")]
    assert found(both, both) == pairs
    (tmp_path / "link").symlink_to(both)
    assert found(both, both / "link") == pairs


def test_masks_named_with_a_word_are_of_the_picture_without_it(tmp_path: Path) -> None:
    both = touch(tmp_path / "one", "0.png", "0_seg.png", "x/1.jpg", "x/mask_1.png", "0_ldmks.txt")
    pairs = [("0.png", "0_seg.png"), ("x/1.jpg", "x/mask_1.png")]
    assert found(both, both) == pairs
    images = touch(tmp_path / "i", "0.jpg", "0_seg.jpg")
    assert found(images, touch(tmp_path / "m", "0_seg.png")) == [("0_seg.jpg", "0_seg.png")]
    touch(both, "0_label.png")
    with pytest.raises(DataError, match=r"one/0\.png: has two masks"):
        find_pairs(both, both, None)


def test_subfolders_count_though_pairs_lie_on_top(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "a.jpg", "x/a.jpg", "x/y/b.jpg")
    masks = touch(tmp_path / "m", "a.png", "x/a.png", "x/y/b.tif")
    assert found(images, masks) == [
        ("a.jpg", "a.png"),
        ("x/a.jpg", "x/a.png"),
        ("x/y/b.jpg", "x/y/b.tif"),
    ]
    assert find_pairs(images, masks, None).names == ("a", "x/a", "x/y/b")
    touch(masks, "z/c.png")
    with pytest.raises(DataError, match=r"m/z/c\.png: no picture named 'z/c'"):
        find_pairs(images, masks, None)


def test_one_folder_may_lie_in_the_other(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "masks/a.png")
    assert found(tmp_path, tmp_path / "masks") == [("a.png", "a.png")]
    touch(tmp_path / "other", "a.png", "images/a.png")
    assert found(tmp_path / "other" / "images", tmp_path / "other") == [("a.png", "a.png")]


def test_case_and_the_form_of_accents_do_not_part_a_pair(tmp_path: Path) -> None:
    images = touch(tmp_path / "i", "IMG_1.JPG", "caf\u00e9.jpg")
    masks = touch(tmp_path / "m", "img_1.png", "cafe\u0301.png")
    assert find_pairs(images, masks, None).names == ("caf\u00e9", "IMG_1")


@pytest.mark.parametrize(
    ("images", "masks", "reason"),
    [
        (["a.jpg", "a.png"], ["a.png"], "would share the mask"),
        (["a.jpg", "A.jpg"], ["a.png"], "would share the mask"),
        (["x/a.jpg", "X/a.jpg"], ["x/a.png"], "would share the mask"),
        (["a.jpg"], ["a.png", "a.bmp"], "has two masks"),
        (["a.jpg"], ["a.png", "A.png"], "has two masks"),
        (["a.jpg", "b.jpg"], ["a.png", "b.jpg"], r"b\.jpg: masks are PNG, BMP or TIFF"),
        (["a.jpg"], ["a.png", "b.webp"], r"b\.webp: masks are PNG, BMP or TIFF"),
    ],
)
def test_what_is_not_one_to_one_is_refused(
    tmp_path: Path, images: list[str], masks: list[str], reason: str
) -> None:
    folders = touch(tmp_path / "i", *images), touch(tmp_path / "m", *masks)
    with pytest.raises(DataError, match=reason):
        find_pairs(*folders, None)


def test_in_one_folder_too_all_is_one_to_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.jpeg", "a.png")
    with pytest.raises(DataError, match="would share the mask"):
        find_pairs(tmp_path, tmp_path, None)
    (tmp_path / "a.jpeg").rename(tmp_path / "a.tif")  # another picture, or another mask
    with pytest.raises(DataError, match="would share the mask"):
        find_pairs(tmp_path, tmp_path, None)
    (tmp_path / "a.tif").rename(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: is in the folder of pictures too"):
        find_pairs(tmp_path, tmp_path, None)


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_picture_is_never_its_own_mask(tmp_path: Path, link: str) -> None:
    images, masks = touch(tmp_path / "i", "a.png", "b.png"), tmp_path / "m"
    masks.mkdir()
    getattr(masks / "a.png", link)(images / "a.png")
    with pytest.raises(DataError, match=r"m/a\.png: is in the folder of pictures too"):
        find_pairs(images, masks, None)
    (masks / "a.png").unlink()
    getattr(masks / "a.png", link)(images / "b.png")
    touch(masks, "b.png")
    with pytest.raises(DataError, match=r"m/a\.png: is the picture .*b\.png itself"):
        find_pairs(images, masks, None)
