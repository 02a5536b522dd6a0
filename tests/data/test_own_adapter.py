"""A data set that is not in the package: `examples/fairface.py`, named on the command line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import ran_with, refused, sspl
from sspl.data.data_settings import DataSettings, names_data, parse_data_spec
from sspl.data.inputs import of_faces, of_file
from sspl.data.synthetic import render_face
from sspl.errors import DataError, SettingsError
from sspl.settings.yaml_files import read_yaml

FILE = Path(__file__).resolve().parents[2] / "examples" / "fairface.py"
HEADER = "file,age,gender,race,service_test\n"
ROWS = {
    "train": [
        "train/1.jpg,50-59,Male,East Asian,True",
        "train/2.jpg,30-39,Female,Indian,False",
        "train/3.jpg,more than 70,Male,White,False",
        "train/4.jpg,0-2,Female,Black,True",
    ],
    "val": [
        "val/1.jpg,3-9,Male,Latino_Hispanic,True",
        "val/2.jpg,20-29,Female,Middle Eastern,False",
    ],
}


def fairface(root: Path, rows: dict[str, list[str]] = ROWS, header: str = HEADER) -> Path:
    for split, lines in rows.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / f"fairface_label_{split}.csv").write_text(header + "".join(f"{x}\n" for x in lines))
        for number, line in enumerate(lines):
            picture = render_face(0, number, 48).image
            Image.fromarray(np.asarray(picture)).save(root / line.partition(",")[0])
    return root


def spec(root: Path, options: str = "", file: Path = FILE) -> str:
    return f"{file}:FAIRFACE:{root}{options}"


def test_the_example_stays_short() -> None:
    assert len(FILE.read_text().splitlines()) < 70


def test_it_reads_the_published_layout(tmp_path: Path) -> None:
    faces = parse_data_spec(spec(fairface(tmp_path))).open()
    assert faces.names == tuple(row.partition(",")[0] for rows in ROWS.values() for row in rows)
    assert faces.schema.names == ("Male",)
    assert faces.labels.ravel().tolist() == [1, 0, 1, 0, 1, 0]
    assert faces.splits == ("train",) * 4 + ("val",) * 2
    assert faces.groups["age"] == ("50-59", "30-39", "more than 70", "0-2", "3-9", "20-29")
    assert faces.groups["race"][2:5] == ("White", "Black", "Latino_Hispanic")
    assert faces.images[4] == tmp_path / "val" / "1.jpg"


@pytest.mark.parametrize(
    ("row", "header", "reason"),
    [
        ("val/1.jpg,3-9,man,White,True", HEADER, r"val\.csv, line 2: 'gender' has value 'man'"),
        ("val/1.jpg,3-9,Male,White,True", "file,age,gender\n", r"val\.csv, line 1: expected the"),
        ("train/1.jpg,3-9,Male,White,True", HEADER, r"'train/1\.jpg' was given before"),
        ("val/9.jpg,3-9,Male,White,True", HEADER, r"1 of 5 images .* 'val/9\.jpg' \(line 2\)"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path: Path, row: str, header: str, reason: str) -> None:
    fairface(tmp_path)
    (tmp_path / "fairface_label_val.csv").write_text(header + row + "\n")
    with pytest.raises(DataError, match=reason):
        parse_data_spec(spec(tmp_path)).open()


def test_its_options_are_those_that_it_names(tmp_path: Path) -> None:
    root = fairface(tmp_path / "faces")
    (root / "val" / "2.jpg").unlink()
    assert len(parse_data_spec(spec(root, ",on_missing=skip")).open()) == 5
    assert "'fairface' takes no 'split_file'" in refused(
        "data", "check", spec(root, ",split_file=x.csv")
    )


def test_the_command_line_takes_it(tmp_path: Path) -> None:
    root = fairface(tmp_path)
    counted = json.loads(sspl("data", "check", spec(root), "--json").output)
    assert counted["faces"] == 6
    assert "FILE.py:NAME" in sspl("data", "check", "--help").output


@pytest.mark.parametrize(
    ("text", "format_", "root"),
    [
        ("a/b.py:X:faces", "a/b.py:X", "faces"),
        ("b.py:X:faces,masks=m", "b.py:X", "faces"),
        (r"C:\a\b.py:X:D:\faces", r"C:\a\b.py:X", r"D:\faces"),
        (r"b.py:X:C:\faces,crop=celeba", "b.py:X", r"C:\faces"),
        ("b.py:X:c.py:Y:z", "b.py:X", "c.py:Y:z"),
        ("folder:b.py:X:faces", "folder", "b.py:X:faces"),
        ("b c.py:_x1:f[1]", "b c.py:_x1", "f[1]"),
    ],
)
def test_where_the_format_ends_and_the_root_begins(text: str, format_: str, root: str) -> None:
    data = parse_data_spec(text)
    written = os.path.relpath(data.format) if ".py:" in data.format else data.format
    assert (written, str(data.root)) == (format_, root)
    assert names_data(text)


def test_commas_in_its_path_and_in_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("mine, yours", "a,b", "m"):
        Path(folder).mkdir()
    data = parse_data_spec("mine, yours/d.py:X:a,b,masks=m")
    assert data == DataSettings(format="mine, yours/d.py:X", root=Path("a,b"), masks=Path("m"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("b.py:faces/x", r"unknown data format 'b\.py'; use .*, or FILE\.py:NAME"),
        ("b.py:X:", r"root: a data set needs a folder"),
        ("gone.py:X:faces", r"data: .*gone\.py is not there"),
        (f"{FILE}:OTHER:faces", r"fairface\.py has no Adapter 'OTHER'"),
        (f"{FILE}:LISTS:faces", r"fairface\.py has no Adapter 'LISTS'"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_data_spec(text).open()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("read=print, options=('pictures',)", r"no option 'pictures'; use images, split_file"),
        ("read=lambda root: None, options=('images',)", r"its reader does not fit its options"),
        ("read=lambda root, images: None", r"its reader does not fit .*'images'"),
        ("read=lambda root: 3", r"its reader returns int, no FaceSet"),
    ],
)
def test_a_value_that_is_no_adapter_says_why(tmp_path: Path, value: str, reason: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"from sspl.data.adapters.base import Adapter\nMINE = Adapter(name='mine', {value})\n"
    )
    with pytest.raises(SettingsError, match=f"data set 'mine': {reason}"):
        parse_data_spec(f"{file}:MINE:faces").open()


def test_settings_hold_in_any_folder_and_do_not_run_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise RuntimeError('run')\n")
    data = parse_data_spec("mine.py:X:faces").absolute()
    assert (data.format, data.root) == (f"{tmp_path}/mine.py:X", tmp_path / "faces")
    monkeypatch.chdir("/")
    assert DataSettings.model_validate(data.model_dump(mode="json")) == data


def test_a_run_goes_on_with_the_file_that_it_began_with(tmp_path: Path) -> None:
    root, file = fairface(tmp_path / "faces"), tmp_path / "mine.py"
    file.write_text(FILE.read_text())
    small = ("backbone.width=0.125", "canvas=48", "input_size=32", "runtime.precision=fp32")
    small += ("optim.epochs=1", "optim.batch_size=4")
    data = ("--data", spec(root, file=file), "--out", tmp_path / "run")
    sspl("finetune", "--from", "none", *data, *small)
    stored = read_yaml(tmp_path / "run" / "settings.yaml", SettingsError)["data"]
    assert stored["format"] == f"{file}:FAIRFACE"
    file.write_text(FILE.read_text() + "\n# changed\n")
    again = refused("finetune", "--from", "none", *data, *small, "--resume")
    assert f"data adapter {file} has changed" in again
    assert "Male" in sspl("evaluate", tmp_path / "run", "--split", "val").output


def test_its_file_is_an_input_of_faces_without_labels_too(tmp_path: Path) -> None:
    data = parse_data_spec(spec(fairface(tmp_path)))
    for faces in (data.stream(("train",)), data.open().split("val")):
        assert of_faces(faces)[0] == of_file(f"data adapter {FILE}", FILE)


def test_a_data_set_becomes_built_in_by_its_file_and_its_place(tmp_path: Path) -> None:
    """A copy of the package with the file, its import and its name in the list reads it."""
    first = "from sspl.data.adapters.folder import FOLDER\n"
    lines = {
        first: f"from sspl.data.adapters.fairface import FAIRFACE\n{first}",
        "UTKFACE, ": "UTKFACE, FAIRFACE, ",
    }
    faces = fairface(tmp_path / "faces")
    code = (
        "from sspl.data.data_settings import parse_data_spec\n"
        f"print(parse_data_spec('fairface:{faces}').open().schema.names)\n"
        "from sspl.data.adapters import format_fault\nprint(format_fault('fairfase'))"
    )
    into = "data/adapters"
    names, fault = ran_with(tmp_path, FILE, into, f"{into}/__init__.py", lines, code).splitlines()
    assert names == "('Male',)"
    assert "fairface" in fault.partition(";")[2]
