"""Pictures that a list names in another spelling than their folder."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sspl.data.adapters.lookup import respelled
from sspl.data.adapters.maad import read_maad
from sspl.data.adapters.table import read_table
from sspl.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "Zo\u00eb.jpg") for form in ("NFC", "NFD"))


def case(root, files, rows):
    for name in files:
        (root / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "f" / name).touch()
    path = root / "labels.csv"
    path.write_text("image,A\n" + "".join(f"{row},{i % 2}\n" for i, row in enumerate(rows)))
    return path


FOUND = [
    ("sub\\a.jpg", "sub/a.jpg", "backslashes"),
    ("./sub//a.jpg", "sub/a.jpg", None),
    ("a%20b.jpg", "a b.jpg", "backslashes or percent"),
    (NFC, NFD, "another Unicode form"),
    (NFD, NFC, "another Unicode form"),
    ("A.JPG", "a.jpg", "capital and small letters"),
    ("Sub\\A.jpg", "sub/a.JPG", "capital and small letters"),
    ("000001", "000001.jpg", "a missing ending"),
    ("000001.jpg", "000001.png", "another ending"),
    ("1.2", "1.2.webp", "a missing ending"),
]


@pytest.mark.parametrize(("row", "file", "how"), FOUND)
def test_another_spelling_is_found_and_said(tmp_path, caplog, row, file, how):
    path = case(tmp_path, [file, "other.jpg"], ["other.jpg", row])
    faces = read_table(path, tmp_path / "f")
    assert faces.names == ("other.jpg", file)
    assert faces.images[1].is_file()
    assert faces.labels.tolist() == [[0], [1]]
    said = [m for m in caplog.messages if "1 of 2 images" in m and how and how in m]
    assert len(said) == (how is not None)


def test_absolute_paths_in_the_folder_are_relative_to_it(tmp_path):
    path = case(tmp_path, ["sub/a.jpg"], [tmp_path / "f" / "sub" / "a.jpg"])
    assert read_table(path, tmp_path / "f").names == ("sub/a.jpg",)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    assert read_table(path, tmp_path / "link").names == ("sub/a.jpg",)
    with pytest.raises(DataError, match=r"line 2: '/.*' is an absolute path, but not in .*else"):
        read_table(path, tmp_path / "elsewhere")
    path = case(tmp_path, [], ["C:\\faces\\a.jpg"])
    with pytest.raises(DataError, match=r"line 2: .* is an absolute path, but not in"):
        read_table(path, tmp_path / "f")


NOT_FOUND = [
    (["a.JPG", "A.jpg"], "a.jpg", "like it are 'A.jpg' .*, 'a.JPG' .*: write the name as it is"),
    (["in/a.jpg"], "a.jpg", "it is in .*f/in: set images=.*f/in"),
    (["a.jpg"], "f/a.jpg", "there is 'a.jpg': take 'f/' out of the list"),
    (["a.jpg"], "f\\a.jpg", "there is 'a.jpg': take 'f/' out of the list"),
    (["in/a/b.jpg"], "a\\b.jpg", "it is in .*f/in: set images=.*f/in"),
    (["b.jpg"], "a.jpg", "give the folder of images, or add on_missing=skip"),
]


@pytest.mark.parametrize(("files", "row", "message"), NOT_FOUND)
def test_what_is_not_found_says_what_is_like_it(tmp_path, files, row, message):
    with pytest.raises(DataError, match=rf"1 of 1 images .* \(line 2\); {message}"):
        read_table(case(tmp_path, files, [row]), tmp_path / "f")


def test_one_picture_is_not_two_faces(tmp_path):
    path = case(tmp_path, ["s/a.jpg"], ["s/a.jpg", "s\\a.jpg"])
    with pytest.raises(DataError, match=r"line 3: .* is the same image as 's/a.jpg' in line 2"):
        read_table(path, tmp_path / "f")
    # Another ending, where the list names that picture too, is a picture that is not there.
    path = case(tmp_path, ["b.png"], ["b.png", "b.jpg"])
    assert read_table(path, tmp_path / "f", missing="skip").names == ("b.png",)


def test_a_mask_is_not_taken_for_the_picture_that_is_missing(tmp_path):
    path = case(tmp_path, [], ["a.jpg"])
    (tmp_path / "f").mkdir()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "f" / "a.png")
    with pytest.raises(DataError, match="1 of 1 images"):
        read_table(path, tmp_path / "f")


def test_other_formats_and_lists_do_the_same(tmp_path):
    case(tmp_path, ["n1/a.jpg"], [])
    (tmp_path / "MAAD_Face.csv").write_text("Filename,Identity,A\nn1\\a.jpg,n1,-1\n")
    assert read_maad(tmp_path, tmp_path / "f").names == ("n1/a.jpg",)
    split = tmp_path / "split.csv"
    split.write_text("name,split\nn1/A.jpg,test\n")
    (tmp_path / "MAAD_Face.csv").write_text("Filename,Identity,A\nn1/a.jpg,n1,-1\n")
    with pytest.raises(DataError, match=r"'n1/A.jpg' is not .*; 'n1/a.jpg' is, which differs by"):
        read_maad(tmp_path, tmp_path / "f", split_file=split)


def test_no_folder_is_listed_that_cannot_hold_a_picture(tmp_path, monkeypatch):
    root = tmp_path / "f"
    case(tmp_path, [*(f"other{i}/x.jpg" for i in range(30)), "sub/B.jpg"], [])
    listed = []
    scandir = __import__("os").scandir
    monkeypatch.setattr("os.scandir", lambda path: listed.append(path) or scandir(path))
    assert respelled(root, ["sub/b.jpg"], set())["sub/b.jpg"].name == "sub/B.jpg"
    assert {p.relative_to(root).as_posix() for p in listed} <= {".", "sub"}


LETTER = st.sampled_from(["a", "B", "\u00e9", "\u00c5", "1", " ", "-"])
STEM = st.text(LETTER, min_size=1, max_size=4).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(STEM, STEM), min_size=1, max_size=5), st.data())
def test_what_is_found_is_the_picture_or_nothing(tmp_path_factory, pairs, data):
    root = tmp_path_factory.mktemp("names")
    files = {unicodedata.normalize("NFC", f"{folder}/{stem}.jpg") for folder, stem in pairs}
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    changes = [
        lambda n: n.replace("/", "\\"),
        lambda n: unicodedata.normalize("NFD", n),
        str.upper,
        lambda n: n.removesuffix(".jpg"),
        lambda n: n.replace(".jpg", ".png"),
        lambda n: n.replace(" ", "%20"),
    ]
    written = {}
    for name in files:
        change = data.draw(st.sampled_from(changes))
        written[change(name)] = name
    absent = set(written) - files
    for spelling, found in respelled(root, absent, files & set(written)).items():
        assert found.name == written[spelling]
    folded = [name.casefold() for name in files]
    if len(set(folded)) == len(folded) and len(written) == len(files) and absent == set(written):
        assert set(respelled(root, absent, set())) == absent
