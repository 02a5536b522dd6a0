"""The user's own CSV file."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared import open_faces
from sspl.data.adapters.table import read_table
from sspl.data.records import PathsBelow
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError, SettingsError


def write(root: Path, text: str, images=("a.jpg", "b.jpg", "sub/c.png")) -> Path:
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    path = root / "labels.csv"
    path.write_bytes(text.encode())
    return path


def test_values_splits_and_missing(tmp_path):
    text = "image,split,Male,Happy,Old\na.jpg,train,1,0,TRUE\nb.jpg,,0,1,False\nsub/c.png,val,,, \n"
    faces = read_table(write(tmp_path, text))
    assert faces.names == ("a.jpg", "b.jpg", "sub/c.png")
    assert faces.splits == ("train", None, "val")
    assert faces.schema.names == ("Male", "Happy", "Old")
    assert faces.labels.tolist() == [[1, 0, 1], [0, 1, 0], [-1, -1, -1]]
    assert faces.images[2] == tmp_path / "sub" / "c.png"


def test_byte_order_mark_crlf_and_quotes(tmp_path):
    text = '\ufeffimage,"Has, comma"\r\n"a.jpg",1\r\n\r\n"b.jpg","0"\r\n'
    faces = read_table(write(tmp_path, text))
    assert faces.schema.names == ("Has, comma",)
    assert dict(zip(faces.names, faces.labels[:, 0].tolist(), strict=True)) == {
        "a.jpg": 1,
        "b.jpg": 0,
    }


def test_images_elsewhere_and_ignored_columns(tmp_path):
    path = write(tmp_path, "image,identity,Male\nc.png,Ann,1\n")
    faces = open_faces("csv", path, images=tmp_path / "sub", ignore_columns=("identity",))
    assert faces.schema.names == ("Male",)
    assert faces.images == (tmp_path / "sub" / "c.png",)


def test_groups_are_no_attributes(tmp_path):
    path = write(tmp_path, "image,identity,Male,race\na.jpg,Ann,1,\nb.jpg,Bob,0,black\n")
    faces = open_faces("csv", path, group_columns=("identity", "race"))
    assert faces.schema.names == ("Male",)
    assert faces.groups == {"identity": ("Ann", "Bob"), "race": ("", "black")}
    with pytest.raises(DataError, match=r"line 1: there is no attribute column 'age' of groups"):
        open_faces("csv", path, group_columns=("age",))


def test_no_attributes_at_all(tmp_path):
    faces = read_table(write(tmp_path, "image,split\na.jpg,test\n"))
    assert (len(faces.schema), faces.splits, faces.labels.shape) == (0, ("test",), (1, 0))


BAD = [
    ("", r"csv: the file is empty"),
    ("image,Male\n", r"names no image"),
    ("name,Male\na.jpg,1\n", r"line 1: no column 'image'; there are name, Male"),
    ("image,Male,Male\na.jpg,1,1\n", r"line 1: column 'Male' is there twice"),
    ("image,Male,\ufeffMale\na.jpg,1,1\n", r"line 1: column 'Male' is there twice"),
    ("image,Big Nose,Big\u00a0Nose\n", r"line 1: column 'Big Nose' is there twice"),
    ("image,Male,Male\u200b\na.jpg,1,1\n", r"line 1: column 'Male' is there twice"),
    ("image,Male,male\na.jpg,1,1\n", r"'Male' and 'male' differ by capital and small letters"),
    ("image,Male,Male.1\na.jpg,1,1\n", r"'Male\.1' is what pandas calls a second 'Male'; rename"),
    ("image,,Male\na.jpg,1,1\n", r"line 2: column 2 has no name, but '1' stands in it"),
    ("image,Male\na.jpg,1,0\n", r"line 2: expected 2 fields .* found 3"),
    ("image,Male\na.jpg,1\nb.jpg\n", r"line 3: expected 2 fields .* found 1"),
    ("image,Male\na.jpg,1\nb.jpg,yes\n", r"line 3: 'Male' has value 'yes'; use empty, -1, 0, 1, f"),
    ("image,Male\na.jpg,1\n\n./a.jpg,1\n", r"line 4: image 'a.jpg' was given before, in line 2"),
    ("image,Male\n,1\n", r"line 2: '' is no image name"),
    ("image,Male\n/a.jpg,1\n", r"line 2: '/a.jpg' is an absolute path, but not in"),
    ("image,Male\nsub/../../a.jpg,1\n", r"line 2: 'sub/../../a.jpg' is no image name"),
    ("image,split\na.jpg,valid\n", r"line 2: unknown split 'valid'; use train, val, test"),
    (
        "image,A,B\na.jpg,0,0\nb.jpg,0,1\nsub/c.png,1,-1\n",
        r"line 4: -1 in column 'B', but 0 in column 'A' \(line 2\)",
    ),
    (
        "image,A\na.jpg,-1\nb.jpg,false\nsub/c.png,0\n",
        r"line 3: 0 in column 'A', but -1 in column 'A'",
    ),
    ('image,Male\n"a.jpg,1\n', r"line 2: not a CSV row"),
    ('image,Male\n"a.jpg\n",1\nb.jpg,yes\n', r"line 4: 'Male' has value 'yes'"),
    (
        "image,Male\na.jpg,1\nz.jpg,1\ny.jpg,0\n",
        r"2 of 3 images .*, the first is 'z.jpg' \(line 3\)",
    ),
    ("image,Male\na.jpg,1\na.jpg/x.jpg,1\n", r"1 of 2 images .* 'a.jpg/x.jpg' \(line 3\)"),
]


def test_a_column_that_repeats_another_may_be_left_out(tmp_path):
    path = write(tmp_path, "\ufeffimage\u200b,Male\u00a0,Male.1,MALE\na.jpg,1,0,0\n")
    faces = open_faces("csv", path, ignore_columns=("Male.1", "MALE"))
    assert (faces.schema.names, faces.labels.tolist()) == (("Male",), [[1]])
    assert read_table(write(tmp_path, "image,v.1,v.2\na.jpg,1,0\n")).schema.names == ("v.1", "v.2")


@pytest.mark.parametrize(("text", "message"), BAD)
def test_faults_name_file_and_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_table(write(tmp_path, text))
    assert "labels.csv" in str(caught.value)


def test_undecodable_bytes_name_the_line(tmp_path):
    path = write(tmp_path, "")
    path.write_bytes(b"image,Male\r\na.jpg,1\r\nb\xe9.jpg,1\r\n")
    with pytest.raises(DataError, match=r"labels.csv, line 3: not UTF-8"):
        read_table(path)


@pytest.mark.parametrize("column", ["nobody", "image", "split"])
def test_ignoring_what_is_no_attribute_is_an_error(tmp_path, column):
    path = write(tmp_path, "image,split,Male\na.jpg,test,1\n")
    with pytest.raises(DataError, match=rf"line 1: .*'{column}' to ignore"):
        read_table(path, ignore=(column,))


def test_schema_by_file(tmp_path):
    path = write(tmp_path, "image,Male,Happy\na.jpg,1,0\n")
    schema = tmp_path / "schema.yaml"
    schema.write_text("attributes: {Happy: lower, Male: whole, Old: whole}\n")
    faces = open_faces("csv", path, schema_file=schema)
    assert faces.labels.tolist() == [[0, 1, -1]]
    assert faces.schema.regions == ("lower", "whole", "whole")
    with pytest.raises(DataError, match=r"unknown attribute 'Happy'"):
        read_table(path, schema=AttributeSchema(("Male",), ("whole",)))


def test_unknown_kind_and_options_that_do_not_apply(tmp_path):
    with pytest.raises(ValidationError, match=r"'parquet'; use csv, labelstudio, packed"):
        open_faces("parquet", tmp_path)
    with pytest.raises(SettingsError, match=r"'csv' takes no 'split_file'"):
        open_faces("csv", tmp_path, split_file=tmp_path)
    with pytest.raises(SettingsError, match=r"'celeba' takes no 'ignore_columns'"):
        open_faces("celeba", tmp_path, ignore_columns=("x",))
    with pytest.raises(ValidationError, match=r"'fail' or 'skip'"):
        open_faces("csv", tmp_path, on_missing="warn")


ATTRIBUTE = st.text("abcXYZ_, \"'é", min_size=1, max_size=6).map(str.strip)
SPELLINGS = {1: ["1", "true", "TRUE"], 0: ["0", "false", "False"], -1: ["", " "]}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_tables_read_back_by_name_in_any_row_order(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("table")
    attributes = data.draw(
        st.lists(
            ATTRIBUTE.filter(lambda a: a not in ("", "image", "split")),
            max_size=4,
            unique_by=lambda a: " ".join(a.split()).casefold(),
        )
    )
    stems = data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True))
    value = st.sampled_from((1, 0, -1))
    truth = {f"d{s % 3}/{s}.jpg": [data.draw(value) for _ in attributes] for s in stems}
    for name in truth:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    with (root / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = data.draw(st.permutations(["image", *attributes]))
        writer.writerow(columns)
        for name in data.draw(st.permutations(list(truth))):
            row = dict(zip(attributes, truth[name], strict=True))
            spelled = {a: data.draw(st.sampled_from(SPELLINGS[v])) for a, v in row.items()}
            writer.writerow([{"image": name, **spelled}[c] for c in columns])
    faces = read_table(root / "t.csv")
    read = {f.name: dict(zip(faces.schema.names, f.labels.tolist(), strict=True)) for f in faces}
    assert read == {n: dict(zip(attributes, v, strict=True)) for n, v in truth.items()}


@pytest.mark.real
def test_real_lfw(real_data):
    lfw = real_data / "lfw"
    faces = open_faces(
        "csv", lfw / "labels.csv", images=lfw / "images", ignore_columns=("identity",)
    )
    assert len(faces) == 11516
    assert [faces.splits.count(s) for s in ("train", "val", "test")] == [7799, 1180, 2537]
    assert faces.schema.names == ("Male", "Smiling")
    assert faces[0].name == "AJ_Cook_0001.jpg"
    assert faces[0].labels.tolist() == [0, 1]


def test_paths_are_made_when_they_are_asked_for(tmp_path):
    names = ("a.png", "b/c.png", "d.png")
    paths = PathsBelow(tmp_path, names)
    assert list(paths) == [tmp_path / name for name in names]
    assert paths == tuple(paths)
    assert paths != tuple(paths)[:2]
    assert paths[1:] == (tmp_path / "b/c.png", tmp_path / "d.png")
    chosen = paths.select([2, 0])
    assert isinstance(chosen, PathsBelow)
    assert chosen == (tmp_path / "d.png", tmp_path / "a.png")
