"""The list of data sets, and what follows from it: guesses, errors, help and tables of the docs."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sspl.cli.main import cli
from sspl.data.adapters import ADAPTERS, FORMATS, OPTIONS
from sspl.data.data_settings import DataSettings, parse_data_spec

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide-researcher.md"


def table(heading: str) -> list[list[str]]:
    """Rows of the guide's table whose first column has this heading."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def formats(cell: str) -> set[str]:
    named = set(re.findall(r"`(\w+)`", cell))
    return set(FORMATS) - named if cell.startswith("all") else named


def test_names_are_one_each() -> None:
    assert len(set(FORMATS)) == len(ADAPTERS) >= 7


def test_the_guide_shows_each_data_set_as_the_list_has_it() -> None:
    assert table("Format") == [[f"`{a.name}`", a.root, a.labels, a.splits] for a in ADAPTERS]


def test_the_guide_shows_each_layout() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert [a.name for a in ADAPTERS if a.layout not in text] == []
    assert sum(bool(a.layout) for a in ADAPTERS) >= 6


def test_the_guide_says_which_data_sets_take_an_option() -> None:
    said = {row[0].strip("`"): formats(row[1]) for row in table("Key")}
    taken = {key: {a.name for a in ADAPTERS if key in a.options} for key in OPTIONS}
    taken["masks"] = {a.name for a in ADAPTERS if not a.brings_masks}
    taken["crop"] = set(FORMATS)
    assert said == taken
    assert set(said) == set(DataSettings.model_fields) - {"format", "root"}


def test_each_option_is_a_setting() -> None:
    assert set(OPTIONS) < set(DataSettings.model_fields)


@pytest.mark.parametrize(
    ("files", "root", "name"),
    [
        ([], "t.csv", "csv"),
        (["MAAD_Face.csv"], "", "maad"),
        (["MAAD_Face.csv"], "MAAD_Face.csv", "maad"),
        (["lfw_att_40.mat", "A/a.jpg"], "", "lfwa"),
        (["lfw_att_40.mat"], "lfw_att_40.mat", "lfwa"),
        (["list_attr_celeba.txt"], "", "celeba"),
        (["Anno/list_attr_celeba.txt"], "", "celeba"),
        (["list_attr_celeba.csv"], "", "celeba"),
        (["pack.json", "list_attr_celeba.txt"], "", "packed"),
        (["unfinished.json"], "", "packed"),
        (["a.jpg"], "", "folder"),
        ([], "nowhere", "folder"),
    ],
)
def test_the_first_that_fits_is_guessed(
    tmp_path: Path, files: list[str], root: str, name: str
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert parse_data_spec(str(tmp_path / root)).format == name


@pytest.mark.parametrize(
    "command",
    [
        ["pretrain"],
        ["finetune"],
        ["evaluate"],
        ["label"],
        ["suggest"],
        ["export"],
        ["data", "check"],
        ["data", "pack"],
        ["parser", "run"],
    ],
)
def test_the_help_of_commands_that_take_faces_names_the_formats(command: list[str]) -> None:
    text = " ".join(CliRunner().invoke(cli, [*command, "--help"]).output.split())
    assert f"FORMAT is {', '.join(FORMATS)}, or FILE.py:NAME for a data set of your own." in text
