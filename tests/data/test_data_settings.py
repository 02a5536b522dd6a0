"""Data settings, data specs and `check`."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from sspl.cli.check import check
from sspl.data.data_settings import CELEBA_BOX, DataSettings, parse_data_spec, read_once
from sspl.errors import DataError, SettingsError


def write_table(
    root: Path, text="image,id,split,Male,Long_Name\na.jpg,7,train,1,0\nb.jpg,8,val,,0\n"
):
    for name in ("a", "b"):
        (root / f"{name}.jpg").touch()
    (root / "t.csv").write_text(text)
    return root / "t.csv"


def test_spec_with_everything():
    assert parse_data_spec(
        "csv:/d/t.csv,images=/i,masks=/m,schema_file=s.yaml,ignore_columns=id:age,"
        "crop=0.1:0:0.9:1,on_missing=skip"
    ) == DataSettings(
        format="csv",
        root=Path("/d/t.csv"),
        images=Path("/i"),
        masks=Path("/m"),
        schema_file=Path("s.yaml"),
        ignore_columns=("id", "age"),
        crop=(0.1, 0.0, 0.9, 1.0),
        on_missing="skip",
    )
    assert parse_data_spec("lfwa:x,split_file=y.csv").split_file == Path("y.csv")


def test_the_format_is_guessed(tmp_path):
    assert parse_data_spec("some/T.CSV").format == "csv"
    assert parse_data_spec(str(tmp_path)).format == "folder"
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno" / "list_attr_celeba.txt").touch()
    assert parse_data_spec(f"{tmp_path},crop=celeba").format == "celeba"
    odd = tmp_path / "a:b"
    odd.mkdir()
    assert parse_data_spec(str(odd)).root == odd


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("celebb:/d", r"unknown data format 'celebb'; use csv, labelstudio, packed"),
        ("celeba:", r"root: a data set needs a folder"),
        ("", r"root: a data set needs a folder"),
        ("folder:/d,mask=/m", r"'mask=/m' is not key=value with a key of images, masks"),
        ("folder:/d,masks", r"'masks' is not key=value"),
        ("folder:/d,masks=", r"'masks' has no value"),
        ("folder:/d,root=/e", r"'root=/e' is not key=value"),
        ("folder:/d,crop=none,crop=celeba", r"'crop' is given twice"),
        ("folder:/d,crop=face", r"crop is none, celeba or four fractions"),
        ("folder:/d,crop=0:0:1", r"crop is none, celeba or four fractions"),
        ("folder:/d,crop=0:0:1:x", r"crop is none, celeba or four fractions"),
        ("folder:/d,on_missing=warn", r"on_missing: Input should be 'fail' or 'skip'"),
    ],
)
def test_a_bad_spec_is_one_sentence(spec, message):
    with pytest.raises(SettingsError, match=message) as caught:
        parse_data_spec(spec)
    assert "\n" not in str(caught.value)


def test_boxes():
    folder = {"format": "folder", "root": "x"}
    assert DataSettings(**folder).box() == (0, 0, 1, 1)
    # On a half-size CelebA face (89 x 109) the box is (2, 14, 87, 99).
    box = DataSettings(**folder, crop="celeba").box()
    assert [round(f * s, 6) for f, s in zip(box, (89, 109, 89, 109), strict=True)] == [
        2,
        14,
        87,
        99,
    ]
    assert box == CELEBA_BOX
    assert DataSettings(**folder, crop=[0, 0.25, 0.5, 1]).box() == (0, 0.25, 0.5, 1)


@pytest.mark.parametrize(
    "crop",
    [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, 0, float("nan"), 1)],
)
def test_a_box_outside_the_image_is_refused(crop):
    with pytest.raises(ValidationError, match=r"left < right and top < bottom|finite number"):
        DataSettings(format="folder", root=Path("x"), crop=crop)


def test_unknown_fields_and_changes_are_refused():
    with pytest.raises(ValidationError, match="colour"):
        DataSettings(format="folder", root=Path("x"), colour="red")
    settings = DataSettings(format="folder", root=Path("x"))
    with pytest.raises(ValidationError, match="frozen"):
        settings.root = Path("y")


def test_open_passes_every_option_on(tmp_path):
    table = write_table(tmp_path)
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "a.png").touch()
    (tmp_path / "b.jpg").unlink()
    schema = tmp_path / "s.yaml"
    schema.write_text("attributes: {Long_Name: lower, Male: whole}\n")
    spec = f"{table},masks={masks},ignore_columns=id,schema_file={schema}"
    with pytest.raises(DataError, match=r"1 of 2 images .* 'b.jpg' \(line 3\)"):
        parse_data_spec(spec).open()
    faces = parse_data_spec(f"{spec},on_missing=skip").open()
    assert [(f.name, f.mask, f.labels.tolist()) for f in faces] == [
        ("a.jpg", masks / "a.png", [0, 1])
    ]
    (masks / "a.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 faces .* no mask"):
        parse_data_spec(f"{spec},on_missing=skip").open()
    with pytest.raises(SettingsError, match=r"'folder' takes no 'images'"):
        parse_data_spec(f"folder:{tmp_path},images={tmp_path}").open()


def test_check_counts_splits_and_labels(tmp_path):
    text = "image,id,split,Male,Long_Name\na.jpg,7,train,1,0\nb.jpg,8,,,0\n"
    spec = f"csv:{write_table(tmp_path, text)},ignore_columns=id"
    result = CliRunner().invoke(check, [spec], catch_exceptions=False)
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0][:2] == ["2", "faces"]
    assert lines[1:7] == [
        ["train", "1"],
        ["no", "split", "1"],
        [],
        ["attribute", "positive", "negative", "missing"],
        ["Male", "1", "0", "1"],
        ["Long_Name", "0", "2", "0"],
    ]


def test_check_of_unlabelled_faces(tmp_path):
    write_table(tmp_path)
    result = CliRunner().invoke(check, [str(tmp_path)], catch_exceptions=False)
    assert result.output.splitlines()[-1] == "no attributes"


def test_open_passes_images_and_split_file_on(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "x.jpg").touch()
    (tmp_path / "MAAD_Face.csv").write_text("Filename,Identity,Male\nx.jpg,1,-1\n")
    (tmp_path / "split.csv").write_text("name,split\nx.jpg,val\n")
    spec = f"maad:{tmp_path},images={pictures},split_file={tmp_path}/split.csv"
    face = parse_data_spec(spec).open()[0]
    assert (face.image, face.split, face.labels.tolist()) == (pictures / "x.jpg", "val", [0])


def test_commas_and_brackets_in_paths_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a, b", "m,1,2", "x,crop=celeba", "run[1]", "plain"):
        Path(folder).mkdir()
    spec = "folder:a, b,masks=m,1,2,crop=celeba"
    expected = DataSettings(format="folder", root=Path("a, b"), masks=Path("m,1,2"), crop="celeba")
    assert parse_data_spec(spec) == expected
    assert parse_data_spec(spec.removeprefix("folder:")) == expected
    # What exists under the very name wins; elsewhere the same words are an option.
    assert parse_data_spec("folder:x,crop=celeba").root == Path("x,crop=celeba")
    assert parse_data_spec("folder:plain,crop=celeba").crop == "celeba"
    assert parse_data_spec("run[1]").root == Path("run[1]")
    with pytest.raises(SettingsError, match=r"' c' is not key=value"):
        parse_data_spec("folder:a, c,c")
    with pytest.raises(SettingsError, match=r"write : between the columns .* ignore_columns=a:b"):
        parse_data_spec("csv:t.csv,ignore_columns=a,b")


def test_the_unknown_value_is_a_word_or_the_number_that_yaml_reads(tmp_path):
    assert parse_data_spec("csv:t.csv,unknown=-1").unknown == "-1"
    assert DataSettings(format="csv", root=tmp_path, unknown=0).unknown == "0"
    with pytest.raises(SettingsError, match=r"unknown: Input should be '0', '-1' or 'none'"):
        parse_data_spec("csv:t.csv,unknown=2")
    with pytest.raises(SettingsError, match=r"'folder' takes no 'unknown'"):
        parse_data_spec(f"folder:{tmp_path},unknown=0").open()


def test_faces_are_read_once_for_as_long_as_a_block_runs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.csv").write_text(f"image,Smiling\n{name}.jpg,1\n")
    one, other = (parse_data_spec(f"csv:{tmp_path / name}.csv") for name in ("a", "b"))
    with read_once():
        first = one.open()
        assert one.model_copy().open() is first
        assert other.open().names == ("b.jpg",)
    assert one.open() is not first
