"""A plain folder of faces."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sspl.data.adapters import open_faces
from sspl.data.adapters.folder import read_folder
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
    with pytest.raises(DataError, match=r"no image in it; looked for \.avif"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"notes.txt: no such folder"):
        read_folder(tmp_path / "notes.txt")


def test_a_name_that_is_not_utf8_is_an_error(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"is not UTF-8; rename it"):
        read_folder(tmp_path)
