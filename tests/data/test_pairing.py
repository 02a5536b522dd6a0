"""Masks given to faces by name: no file in two roles."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.parsing.test_pairs import touch

from shared import open_faces
from sspl.data import records
from sspl.data.data_settings import parse_data_spec
from sspl.data.pairing import (
    file_id,
    files_below,
    find_pairs_of,
    is_below,
    marked_stems,
    pictures_by_id,
    pictures_outside,
)
from sspl.data.records import FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError


def faces_of(folder: Path, *names: str, labelled: bool = False) -> FaceSet:
    schema = AttributeSchema(("Male",), ("whole",)) if labelled else AttributeSchema((), ())
    blank = (None,) * len(names)
    return FaceSet(
        "here",
        schema,
        names,
        tuple(folder / n for n in names),
        blank,
        blank,
        np.zeros((len(names), len(schema)), np.int8),
    )


@pytest.mark.parametrize(
    "word",
    [
        "mask", "masks", "seg", "segm", "segmentation", "label", "labels", "parsing", "gt", "anno",
        "matte",
    ],
)  # fmt: skip
@pytest.mark.parametrize("sign", ["_", "-", ".", " "])
def test_a_mask_may_have_a_word_before_or_after_the_name_of_its_picture(
    word: str, sign: str
) -> None:
    for folder in ("", "a/", "a/seg_/"):
        assert list(marked_stems(f"{folder}b{sign}{word}")) == [f"{folder}b"]
        assert list(marked_stems(f"{folder}B{sign}{word.upper()}")) == [f"{folder}B"]
        assert list(marked_stems(f"{folder}{word.upper()}{sign}b")) == [f"{folder}b"]
        for other in ("", "!", "/"):
            assert list(marked_stems(f"{folder}b{other}{word}")) == []


def test_a_name_may_be_that_of_the_masks_of_two_pictures() -> None:
    assert list(marked_stems("a/mask_b_seg")) == ["a/b_seg", "a/mask_b"]


def test_files_below_a_folder_by_path_links_followed_and_none_twice(tmp_path: Path) -> None:
    root, elsewhere = (
        touch(tmp_path / "i", "b.PNG", "a/c.jpg", "z/d.png", ".e.png", ".f/g.png"),
        (touch(tmp_path / "j", "k.png", ".l/m.png")),
    )
    (root / "a" / "again").symlink_to(root)
    (root / "link").symlink_to(elsewhere)
    found = ["a/c.jpg", "b.PNG", "link/k.png", "z/d.png"]
    assert [p.relative_to(root).as_posix() for p in files_below(root)] == found
    assert files_below(root, iter([".png"])) == [root / name for name in found[1:]]
    with pytest.raises(DataError) as caught:
        files_below(root / "n")
    assert str(caught.value) == f"{root / 'n'}: no such folder."


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(DataError) as caught:
        files_below(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be listed (Permission denied)."


def test_below_is_below_as_folders_really_are(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c.png")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    assert is_below(tmp_path / "link" / "c.png", tmp_path / "a")
    assert is_below(tmp_path / "a" / "b", tmp_path / "a")
    assert is_below(tmp_path / "a" / "b" / "c.png", tmp_path / "link")
    assert not is_below(tmp_path / "link", tmp_path / "a" / "b")
    assert not is_below(tmp_path / "a", tmp_path / "a" / "b")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".TIFF"])
def test_masks_are_of_kinds_that_keep_their_ids(tmp_path: Path, suffix: str) -> None:
    images, masks = touch(tmp_path / "i", "a.jpg"), touch(tmp_path / "m", f"a{suffix}")
    for kind in (".txt", ".json", ".csv", ".xml", ".yaml", ".YML"):
        (masks / f"a{kind}").touch()  # notes
    (masks / "b.gif").touch()  # of no picture
    pairs = [("a", images / "a.jpg", masks / f"a{suffix}")]
    assert find_pairs_of(images, masks, {".jpg"}) == pairs
    assert faces_of(images, "a.jpg").with_masks(masks).masks == (masks / f"a{suffix}",)
    (masks / "a.gif").touch()
    with pytest.raises(DataError, match=r"a\.gif: masks are PNG, BMP or TIFF files"):
        find_pairs_of(images, masks, {".jpg"})


def test_pictures_are_told_apart_by_their_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "a.png")
    images = [tmp_path / "b.png", tmp_path / "gone.png", "packed", tmp_path / "a.png"]
    ids = {file_id(tmp_path / "b.png"): "B", file_id(tmp_path / "c.png"): "A"}
    assert pictures_by_id(["B", "gone", "packed", "A"], images) == ids
    assert file_id(tmp_path / "gone.png") is None


def test_what_lies_among_masks_is_no_picture_unless_all_do(tmp_path: Path) -> None:
    names = ("a.png", "m/b.PNG", "m/c.jpg", "m/n/d.png", "e/f.png")
    touch(tmp_path, *names)
    images = [*(tmp_path / name for name in names), "packed"]
    assert pictures_outside(tmp_path / "m", images) == [0, 2, 4, 5]
    assert pictures_outside(tmp_path / "none", images) == [0, 1, 2, 3, 4, 5]
    assert pictures_outside(tmp_path / "m", images[1:4]) == [0, 1, 2]
    assert pictures_outside(tmp_path, images) == [0, 1, 2, 3, 4, 5]
    (tmp_path / "link").symlink_to(tmp_path / "m")
    assert pictures_outside(tmp_path / "link", images) == [0, 2, 4, 5]
    linked = [tmp_path / "a.png", tmp_path / "link" / "b.PNG"]
    assert pictures_outside(tmp_path / "m", linked) == [0]


def test_labels_make_faces_of_what_lies_among_masks(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "m/a.png", "m/b.png", "m/m/a.png")
    masks = tmp_path / "m"
    faces = faces_of(tmp_path, "b.png", "m/a.png", labelled=True).with_masks(masks)
    assert faces.names == ("b.png", "m/a.png")
    assert faces.masks == (masks / "b.png", masks / "m/a.png")
    assert faces_of(tmp_path, "b.png", "m/a.png").with_masks(masks).names == ("b.png",)


def test_a_folder_that_is_not_there_holds_no_mask(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        faces_of(tmp_path, "a.jpg").with_masks(tmp_path / "gone")
    assert str(caught.value) == (
        f"1 of 1 faces of here have no mask, the first is {tmp_path / 'gone' / 'a.png'}; "
        "make them with 'sspl parser run'."
    )


def test_masks_beside_the_pictures_are_no_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(records.log, "warning", lambda text, *of: told.append(text % of))
    touch(tmp_path, "a.jpg", "a.png", "sub/a.jpg", "sub/a.png")
    names = ("a.jpg", "a.png", "sub/a.jpg", "sub/a.png")
    faces = faces_of(tmp_path, *names).with_masks(tmp_path)
    assert faces.names == ("a.jpg", "sub/a.jpg")
    assert faces.masks == (tmp_path / "a.png", tmp_path / "sub/a.png")
    assert told == [f"here: 2 of its 4 files are masks in {tmp_path}, and no faces."]
    with pytest.raises(DataError, match=r"'a\.jpg' and 'a\.png' would share the mask a\.png"):
        faces_of(tmp_path, *names, labelled=True).with_masks(tmp_path)


def test_a_folder_of_masks_among_the_pictures_holds_no_faces(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.jpg", "masks/a.png", "masks/b.png")
    names = ("a.png", "b.jpg", "masks/a.png", "masks/b.png")
    faces = faces_of(tmp_path, *names).with_masks(tmp_path / "masks")
    assert faces.names == ("a.png", "b.jpg")
    assert faces.masks == (tmp_path / "masks/a.png", tmp_path / "masks/b.png")


def test_masks_in_other_spellings_are_found(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "IMG_1.PNG", "x/b.tif", "c.png")
    faces = faces_of(tmp_path / "i", "img_1.jpg", "x/b.jpg", "c.jpg").with_masks(masks)
    assert faces.masks == (masks / "IMG_1.PNG", masks / "x/b.tif", masks / "c.png")
    touch(masks, "x/b.bmp")
    with pytest.raises(DataError, match=r"'x/b\.jpg' has two masks"):
        faces_of(tmp_path / "i", "x/b.jpg").with_masks(masks)


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("A.jpg", "a.jpg"), ("x/a.png", "X/a.jpg")])
def test_faces_that_would_share_a_mask_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    masks = touch(tmp_path / "m", "a.png", "A.png", "x/a.png", "X/a.png")
    faces = faces_of(touch(tmp_path / "i", *names), *names)
    with pytest.raises(DataError, match="would share the mask"):
        faces.with_masks(masks)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_face_is_never_its_own_mask(tmp_path: Path, link: str, labelled: bool) -> None:
    images, masks = touch(tmp_path / "i", "a.png", "b.png"), tmp_path / "m"
    faces = faces_of(images, "a.png", "b.png", labelled=labelled)
    with pytest.raises(DataError, match=r"i/a\.png: is the picture a\.png itself"):
        faces.with_masks(images)
    masks.mkdir()
    for name in ("a.png", "b.png"):
        getattr(masks / name, link)(images / name)
    with pytest.raises(DataError, match=r"m/a\.png: is the picture a\.png itself"):
        faces.with_masks(masks)


def test_faces_without_a_mask_are_counted(tmp_path: Path) -> None:
    masks = touch(tmp_path / "m", "a.png")
    faces = faces_of(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    with pytest.raises(
        DataError, match=r"2 of 3 faces of here have no mask, the first is .*b\.png"
    ):
        faces.with_masks(masks)


def test_the_rules_hold_for_data_as_it_is_given(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png", "sub/masks/a.png", "sub/a.png")
    sub = tmp_path / "sub"
    faces = parse_data_spec(f"folder:{sub},masks={sub / 'masks'}").open()
    assert (faces.names, faces.masks) == (("a.png",), (sub / "masks" / "a.png",))
    shutil.rmtree(sub)
    faces = parse_data_spec(f"folder:{tmp_path},masks={tmp_path}").open()
    assert (faces.names, faces.masks) == (
        ("a.jpg", "b.jpg"),
        (tmp_path / "a.png", tmp_path / "b.png"),
    )
    (tmp_path / "labels.csv").write_text("image,Male\na.jpg,1\nb.jpg,0\n")
    faces = open_faces("csv", tmp_path / "labels.csv").with_masks(tmp_path)
    assert (faces.names, len(faces.schema)) == (("a.jpg", "b.jpg"), 1)
    assert Image.open(tmp_path / "a.png").size == (4, 4)


def test_masks_named_after_their_pictures_with_a_word_are_found(tmp_path: Path) -> None:
    faces = touch(tmp_path / "one", "0.png", "0_seg.png", "x/1.png", "x/mask-1.png", "0_ldmks.txt")
    found = parse_data_spec(f"folder:{faces},masks={faces}").open()
    assert found.names == ("0.png", "x/1.png")
    assert found.masks == (faces / "0_seg.png", faces / "x/mask-1.png")
    labelled = faces_of(faces, "0.png", labelled=True).with_masks(faces)
    assert labelled.masks == (faces / "0_seg.png",)
    masks = touch(tmp_path / "m", "0_SEG.png", "x/1.png", "x/1_seg.png")
    assert faces_of(faces, "0.png", "x/1.png").with_masks(masks).masks == (
        masks / "0_SEG.png",
        masks / "x/1.png",
    )
    touch(masks, "0_mask.bmp")
    with pytest.raises(DataError, match=r"'0\.png' has two masks"):
        faces_of(faces, "0.png").with_masks(masks)
