"""A plain folder of faces."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared import open_faces, sspl
from sspl.data.adapters.folder import read_folder
from sspl.data.data_settings import parse_data_spec
from sspl.errors import DataError


def fill(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_only_sorted_by_relative_path(tmp_path):
    fill(tmp_path, ["b.JPG", "a/z.png", "a-b.webp", "notes.txt", "a/.hidden.jpg", ".git/x.jpg"])
    faces = open_faces("folder", tmp_path)
    assert faces.names == ("a-b.webp", "a/z.png", "b.JPG")
    assert faces.images == tuple(tmp_path / n for n in faces.names)
    assert set(faces.splits) == {None}
    assert faces.labels.shape == (3, 0)


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.tuples(st.sampled_from(["", "p/", "p/q/", "r r/"]), st.integers(0, 30)), min_size=1)
)
def test_any_tree_is_found_whole(tmp_path_factory, places):
    root = tmp_path_factory.mktemp("tree")
    names = {f"{folder}{number}.jpg" for folder, number in places}
    assert read_folder(fill(root, names)).names == tuple(sorted(names))


def test_links_are_followed_once_and_circles_end(tmp_path):
    root = fill(tmp_path / "set", ["z/one.jpg"])
    outside = fill(tmp_path / "other", ["two.jpg"])
    (root / "a").symlink_to(root / "z")
    (root / "zz").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "linked").symlink_to(outside)
    (root / "self").symlink_to("self")
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "dead.jpg").symlink_to("nowhere.jpg")
    (root / "alias.jpg").symlink_to(root / "z" / "one.jpg")
    assert read_folder(root).names == ("alias.jpg", "linked/two.jpg", "z/one.jpg")


def test_faults(tmp_path):
    fill(tmp_path, ["notes.txt", ".hidden.jpg"])
    with pytest.raises(DataError, match=r"no image in it; looked for \.apng"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"notes.txt: is a file.*csv:"):
        read_folder(tmp_path / "notes.txt")


def test_a_name_that_is_not_utf8_is_an_error(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"is not UTF-8; rename it"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["sub/aux.jpg", "c:x.png", "a\nb.jpg", "NUL.webp", "e\x9b.jpg"])
def test_a_name_that_no_label_file_could_hold_is_refused(tmp_path, name):
    """The one rule of names: what a folder gives can be listed, packed and cut by its name."""
    try:
        fill(tmp_path, ["good.jpg", name])
    except OSError:
        pytest.skip("this file system does not take the name")
    with pytest.raises(DataError, match="cannot be the name of an image elsewhere") as caught:
        read_folder(tmp_path)
    assert repr(name) in str(caught.value)
    assert "rename it" in str(caught.value)


def test_what_is_not_read_is_counted_by_kind(tmp_path, caplog):
    names = ["a.jpg", "sub/b.GIF", "c.gif", "d.mp4", "e", "notes.txt", ".hidden.gif", ".git/x.gif"]
    spec = str(fill(tmp_path / "photos", names))
    assert parse_data_spec(spec).open().names == ("a.jpg",)
    said = "not read: 2 .gif, 1 .mp4, 1 .txt, 1 without an ending"
    assert caplog.messages == [f"{spec}: {said}"]
    assert said in sspl("data", "check", spec).output
    result = json.loads(sspl("data", "check", spec, "--json").output)
    assert result["not_read"] == {".gif": 2, ".mp4": 1, ".txt": 1, "without an ending": 1}


def test_notes_alone_are_no_warning(tmp_path, caplog):
    parse_data_spec(str(fill(tmp_path / "photos", ["a.jpg", "notes.txt"]))).open()
    assert not caplog.messages
    with pytest.raises(DataError, match=r"no image in it; .*; not read: 1 \.gif"):
        read_folder(fill(tmp_path / "films", ["a.gif"]))


def draw(root, name, mode="L", colours=3):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(96 * 96) % colours).astype(np.uint8).reshape(96, 96)
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    elif mode == "RGB":
        image = Image.merge("RGB", [image, image.rotate(90), image])
    image.save(root / name)


BESIDE = [
    ("a.jpg", "a_seg.png", "L"),
    ("a.jpg", "a-mask.png", "RGB"),
    ("a.png", "a_mask.bmp", "L"),
    ("x/a.jpg", "x/mask_a.png", "L"),
    ("a.jpg", "masks/a.png", "RGB"),
    ("images/train/a.jpg", "labels/train/a.png", "RGB"),
    ("x/a.jpg", "x/a.png", "P"),
    ("x/a.jpg", "x/a.tif", "L"),
]


@pytest.mark.parametrize(("picture", "mask", "mode"), BESIDE)
def test_masks_beside_pictures_are_no_faces(tmp_path, picture, mask, mode):
    draw(tmp_path, picture, "RGB", 251)
    draw(tmp_path, mask, mode)
    with pytest.raises(
        DataError,
        match=rf"1 pictures look like masks .* '{mask}' of '{picture}'; .*masks=",
    ):
        read_folder(tmp_path)


@pytest.mark.parametrize("folder", ["masks", "labels", "Annotations"])
def test_masks_in_a_folder_beside_pictures_are_no_faces(tmp_path, folder):
    for i in range(3):
        draw(tmp_path, f"images/{i}.jpg", "RGB", 251)
        draw(tmp_path, f"{folder}/{i}.png", "L")
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    said = f"alone (these are in {tmp_path}/images), and masks=FOLDER ({tmp_path}/{folder}) where"
    assert said in str(caught.value)
    assert len(read_folder(tmp_path / "images")) == 3


def test_masks_of_parts_are_no_faces_either(tmp_path):
    draw(tmp_path, "CelebA-HQ-img/0.jpg", "RGB", 251)
    draw(tmp_path, "CelebAMask-HQ-mask-anno/0/00000_skin.png", "L", 2)
    with pytest.raises(DataError, match=r"1 pictures look like masks, the first is '.*skin.png'"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path / "CelebAMask-HQ-mask-anno")) == 1  # asked for by name


FACES = [
    ("a.jpg", "a.png", "RGB", 3),  # drawn, in colour, and called alike
    ("a.jpg", "a_seg.png", "L", 251),  # a grey photograph
    ("a.jpg", "b_seg.png", "L", 3),  # of no picture
    ("images/a.jpg", "masks/a.png", "RGB", 251),
    ("images/a.jpg", "other/a.png", "L", 3),
]


@pytest.mark.parametrize(("picture", "other", "mode", "colours"), FACES)
def test_pictures_that_only_look_alike_by_name_are_faces(tmp_path, picture, other, mode, colours):
    draw(tmp_path, picture, "RGB", 251)
    draw(tmp_path, other, mode, colours)
    assert set(read_folder(tmp_path).names) == {picture, other}
