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
