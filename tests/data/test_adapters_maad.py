"""MAAD-Face: undefined is missing, never no."""

import pytest

from shared import open_faces
from sspl.data.adapters.maad import read_maad
from sspl.domain.attributes import celeba_schema, maad_schema
from sspl.errors import DataError

HEADER = "Filename,Identity,Male,Bald"
ROWS = ["n000002/0001_01.jpg,2,1,-1", "n000002/0002_01.jpg,2,0,0", "n000009/0001_01.jpg,9,-1,1"]


def write(root, rows=ROWS, header=HEADER):
    for row in ROWS:
        image = root / row.split(",")[0]
        image.parent.mkdir(exist_ok=True)
        image.touch()
    (root / "MAAD_Face.csv").write_text("\n".join([header, *rows]) + "\n")
    return root / "MAAD_Face.csv"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_yes_no_and_undefined_by_name(tmp_path, order):
    faces = read_maad(write(tmp_path, [ROWS[i] for i in order]))
    assert faces.schema.names == ("Male", "Bald")
    assert {f.name: f.labels.tolist() for f in faces} == {
        "n000002/0001_01.jpg": [1, 0],
        "n000002/0002_01.jpg": [-1, -1],
        "n000009/0001_01.jpg": [0, 1],
    }
    assert set(faces.splits) == {None}
    people = dict(zip(faces.names, faces.groups["identity"], strict=True))
    assert people == {row.split(",")[0]: row.split(",")[1] for row in ROWS}


def test_folder_as_root_and_splits_from_a_list(tmp_path):
    write(tmp_path)
    split_file = tmp_path / "split.csv"
    split_file.write_text("name,split\nn000009/0001_01.jpg,test\nn000002/0001_01.jpg,train\n")
    faces = open_faces("maad", tmp_path, split_file=split_file)
    assert faces.splits == ("train", None, "test")
    split_file.write_text("name,split\nn000009/0001_01.jpg,test\nx.jpg,train\n")
    with pytest.raises(DataError, match=r"split.csv, line 3: image 'x.jpg' is not in .*MAAD_Face"):
        open_faces("maad", tmp_path, split_file=split_file)
    split_file.write_text("image,split\n")
    with pytest.raises(DataError, match=r"split.csv, line 1: expected the columns name,split"):
        open_faces("maad", tmp_path, split_file=split_file)


BAD = [
    ({"header": "Identity,Filename,Male,Bald"}, r"line 1: expected the columns Filename,Identity"),
    ({"header": "Filename,Identity"}, r"line 1: expected the columns Filename,Identity and attr"),
    (
        {"rows": [ROWS[0], "n000002/0002_01.jpg,2,0,2"]},
        r"line 3: 'Bald' has value '2'; use -1, 0, 1",
    ),
    ({"rows": [ROWS[0], "n000002/0002_01.jpg,2,,1"]}, r"line 3: 'Male' has value ''"),
    ({"rows": [ROWS[0], "n000002/0002_01.jpg,2,0"]}, r"line 3: expected 4 fields"),
    ({"rows": [*ROWS, ROWS[1]]}, r"line 5: image 'n000002/0002_01.jpg' .* in line 3"),
]


@pytest.mark.parametrize(("fault", "message"), BAD)
def test_faults_name_file_and_line(tmp_path, fault, message):
    with pytest.raises(DataError, match=r"MAAD_Face.csv, " + message):
        read_maad(write(tmp_path, **fault))


NEW = {  # of the 13 that CelebA has not
    "upper": {"Obstructed_Forehead", "Fully_Visible_Forehead", "Brown_Eyes", "No_Eyewear"},
    "lower": {"Mouth_Closed"},
    "whole": {
        "Middle_Aged", "Senior", "Asian", "White", "Black", "Shiny_Skin", "Square_Face",
        "Round_Face",
    },
}  # fmt: skip


def test_every_attribute_has_its_region():
    maad, celeba = maad_schema(), celeba_schema()
    assert len(maad) == len(set(maad.names)) == 47
    found = dict(zip(maad.names, maad.regions, strict=True))
    known = dict(zip(celeba.names, celeba.regions, strict=True))
    assert {n: r for n, r in found.items() if n in known} == {
        n: r for n, r in known.items() if n in found
    }
    other = {n: r for n, r in found.items() if n not in known}
    assert {r: {n for n in other if other[n] == r} for r in NEW} == NEW
    counts = {r: maad.regions.count(r) for r in ("whole", "upper", "middle", "lower")}
    assert counts == {"whole": 17, "upper": 16, "middle": 6, "lower": 8}


def test_regions_are_known_by_name(tmp_path):
    header, rows = HEADER.replace("Bald", "Mouth_Closed"), ROWS
    assert read_maad(write(tmp_path, rows, header)).schema.regions == ("whole", "lower")
