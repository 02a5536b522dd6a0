"""UTKFace: the label is the file name."""

import hashlib

import pytest

from shared import open_faces, sspl
from sspl.data.adapters.utkface import age_group, read_utkface
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSet
from sspl.errors import DataError, SettingsError

NAMES = [
    "9_0_0_20170109150557335.jpg.chip.jpg",
    "10_1_1_20170109150557335.jpg.chip.jpg",
    "69_1_2_20170109150557335.jpg.chip.jpg",
    "70_0_3_201701091505573355.jpg",
    "116_1_4_20170109150557335.jpg.chip.jpg",
]


def write(root, names=NAMES):
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def test_attribute_and_groups_by_hand(tmp_path):
    faces = read_utkface(write(tmp_path))
    assert faces.schema.names == ("Male",)
    found = {
        n: (int(label), age, race)
        for n, label, age, race in zip(
            faces.names, faces.labels[:, 0], faces.groups["age"], faces.groups["race"], strict=True
        )
    }
    assert found == {
        NAMES[0]: (1, "0-9", "White"),
        NAMES[1]: (0, "10-19", "Black"),
        NAMES[2]: (0, "60-69", "Asian"),
        NAMES[3]: (1, "70+", "Indian"),
        NAMES[4]: (0, "70+", "other"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "x61_1_1_20170109142408075.jpg.chip.jpg",
        "61_1_1_20170109142408075.png",
        "61_1_1_20170109142408075.gif.jpg",
        "holiday.jpg",
    ],
)
def test_another_name_is_refused_by_name(tmp_path, name):
    write(tmp_path, [*NAMES, name])
    with pytest.raises(DataError, match=f"'{name}' is not named AGE_GENDER_RACE_DATE"):
        read_utkface(tmp_path)


FAULTY = [
    "39_1_20170116174525125.jpg.chip.jpg",
    "53__0_20170116184028385.jpg.chip.jpg",
    "61_1_5_20170109142408075.jpg.chip.jpg",
    "61_3_20170109150557335.jpg",
]
ODD = [
    "24_0_1_20170116220224657 .jpg.chip.jpg",
    "44_1_4_20170116235150272.pg.chip.jpg",
    "55_0_0_20170116232725357jpg.chip.jpg",
]


def test_the_set_opens_as_published_without_those_whose_names_say_too_little(tmp_path, caplog):
    faces = parse_data_spec(f"utkface:{write(tmp_path, [*NAMES, *FAULTY, *ODD])}").open()
    assert set(faces.names) == {*NAMES, *ODD}
    place = faces.names.index(ODD[1])
    assert (faces.groups["race"][place], faces.groups["age"][place]) == ("other", "40-49")
    assert faces.not_read == {"whose name says no gender or race": 4}
    (line, _) = caplog.messages
    assert line == (
        f"{tmp_path}: 4 names say no gender or race of UTKFace: {', '.join(FAULTY)}; these "
        "pictures are left out."
    )


def test_a_folder_of_nothing_else_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"4 names say no gender or race .* not one picture can be"):
        read_utkface(write(tmp_path, FAULTY))


def test_a_folder_of_such_names_is_guessed(tmp_path):
    root = write(tmp_path / "utk", [*NAMES, *FAULTY, "part/" + NAMES[0], ".hidden.png"])
    (root / "notes.txt").touch()
    assert parse_data_spec(str(root)).format == "utkface"
    assert "Male" in sspl("data", "check", str(root)).output
    (root / "part" / "other.jpg").touch()
    assert parse_data_spec(str(root)).format == "folder"
    for i, names in enumerate(([], FAULTY, ["1_0_2_12345678.jpg"])):  # none to read, and a date
        assert parse_data_spec(str(write(tmp_path / str(i), names))).format == "folder"


def test_splits_follow_the_file_name_wherever_the_file_lies(tmp_path):
    names = [f"20_{i % 2}_0_{i:017d}.jpg.chip.jpg" for i in range(200)]
    flat = read_utkface(write(tmp_path / "flat", names))
    deep = read_utkface(write(tmp_path / "deep", [f"part1/{n}" for n in names]))
    assert flat.splits == deep.splits
    parts = ["train"] * 7 + ["val"] + ["test"] * 2
    tenths = {n: int(hashlib.sha256(n.encode()).hexdigest()[:16], 16) % 10 for n in names}
    assert dict(zip(flat.names, flat.splits, strict=True)) == {n: parts[tenths[n]] for n in names}
    assert 120 < flat.splits.count("train") < 160


def test_splits_from_a_list(tmp_path):
    write(tmp_path / "faces")
    split_file = tmp_path / "split.csv"
    split_file.write_text(f"name,split\n{NAMES[2]},test\n{NAMES[0]},train\n")
    faces = open_faces("utkface", tmp_path / "faces", split_file=split_file)
    listed = dict(zip(faces.names, faces.splits, strict=True))
    assert listed == {NAMES[0]: "train", NAMES[2]: "test"} | {NAMES[i]: None for i in (1, 3, 4)}


def test_what_the_names_say_needs_no_schema(tmp_path):
    write(tmp_path / "faces")
    (tmp_path / "schema.yaml").write_text("attributes: [Male]\n")
    with pytest.raises(SettingsError, match="'utkface' takes no 'schema_file'"):
        open_faces("utkface", tmp_path / "faces", schema_file=tmp_path / "schema.yaml")


def test_groups_follow_their_faces(tmp_path):
    faces = parse_data_spec(f"utkface:{write(tmp_path)}").open()
    some = faces.select([4, 0])
    assert some.groups["race"] == (faces.groups["race"][4], faces.groups["race"][0])
    assert some.groups["age"] == (faces.groups["age"][4], faces.groups["age"][0])
    with pytest.raises(ValueError, match="unequal length"):
        FaceSet(
            faces.source,
            faces.schema,
            faces.names,
            faces.images,
            faces.masks,
            faces.splits,
            faces.labels,
            {"race": ("White",)},
        )


def test_groups_are_counted(tmp_path):
    lines = sspl("data", "check", f"utkface:{write(tmp_path)}").output.splitlines()
    assert lines[-3] == "age: 0-9 1, 10-19 1, 60-69 1, 70+ 2"
    assert lines[-1] == "race: Asian 1, Black 1, Indian 1, White 1, other 1"


@pytest.mark.parametrize(("age", "group"), [(0, "0-9"), (19, "10-19"), (20, "20-29"), (70, "70+")])
def test_ages_by_decade(age, group):
    assert age_group(age) == group


@pytest.mark.real
def test_real_names(real_data):
    if not (real_data / "utkface").is_dir():
        pytest.skip("no UTKFace here")
    faces = read_utkface(real_data / "utkface")
    assert {faces.splits.count(s) > 300 for s in ("train", "val", "test")} == {True}
    # Roughly as many women as men, and every race.
    assert 0.4 < faces.labels.mean() < 0.6
    assert set(faces.groups["race"]) == {"White", "Black", "Asian", "Indian", "other"}
