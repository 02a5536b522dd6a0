"""Agreement of annotators: by hand, and by other libraries."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from sspl.cli.main import cli
from sspl.data.records import MISSING
from sspl.errors import DataError
from sspl.evaluation.agreement import agreements, annotations, kappas, write_disputed
from sspl.evaluation.statistics import wilson


def write(file: Path, rows: list[str], header: str = "image,Smiling,Bald") -> Path:
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Of 50 faces that both judged: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no."""
    answers = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    one = [f"{i:02d}.jpg,{a},0" for i, (a, _) in enumerate(answers)]
    # The other one went through them backwards, and judged one more; that was too much for Bald.
    other = [f"{i:02d}.jpg,{b},{0 if i < 3 else ''},7" for i, (_, b) in enumerate(answers)]
    header = "image,Smiling,Bald,age"
    return [
        write(tmp_path / "ann.csv", [*one, "50.jpg,,1"]),
        write(tmp_path / "ben.csv", ["51.jpg,1,1,7", *reversed(other)], header),
    ]


def test_wilson_is_scipys() -> None:
    for hits, count in ((0, 4), (3, 4), (17, 40), (40, 40)):
        bounds = binomtest(hits, count).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(
            wilson(hits, count), (hits / count, bounds.low, bounds.high), atol=1e-6
        )


def test_a_table_worked_out_by_hand(files: list[Path]) -> None:
    smiling, bald = agreements(annotations(files))
    assert (smiling.attribute, smiling.pair, smiling.faces) == (
        "Smiling",
        ("ann.csv", "ben.csv"),
        50,
    )
    assert smiling.counts.tolist() == [[15, 10], [5, 20]]
    assert smiling.agreed == wilson(35, 50)
    assert smiling.kappa == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    low, high = smiling.kappa_interval or (1, 0)
    # The large-sample standard error is sqrt(0.7 * 0.3 / 50) / 0.5 = 0.13.
    assert (low, high) == (
        pytest.approx(0.4 - 1.96 * 0.13, abs=0.05),
        pytest.approx(0.65, abs=0.05),
    )
    assert (bald.faces, bald.agreed[0], bald.kappa, bald.kappa_interval) == (3, 1, None, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    found = kappas(np.bincount(2 * one + other, minlength=4).reshape(1, 4))[0]
    if len({value for pair in pairs for value in pair}) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(one, other))


def test_every_two_of_three_and_the_annotators_of_an_export(files: list[Path]) -> None:
    def annotation(who: int, answer: str) -> dict[str, object]:
        item = {"type": "choices", "from_name": "Smiling", "value": {"choices": [answer]}}
        return {"completed_by": who, "result": [item]}

    export = files[0].with_name("export.json")
    answers = [annotation(4, "yes"), annotation(5, "no")]
    export.write_text(json.dumps([{"id": 1, "data": {"image": "00.jpg"}, "annotations": answers}]))
    (alone,) = agreements(annotations([export]))
    assert alone.pair == ("export.json, 4", "export.json, 5")
    assert alone.counts.tolist() == [[0, 0], [1, 0]]
    pairs = [one.pair for one in agreements(annotations([files[0], export]))]
    assert pairs == [
        ("ann.csv", "export.json, 4"), ("ann.csv", "export.json, 5"), alone.pair,
    ]  # fmt: skip


def test_a_wrong_value_of_what_the_other_one_answered_is_named(
    files: list[Path], tmp_path: Path
) -> None:
    """Not taken for a column that holds something else."""
    wrong = write(tmp_path / "cy.csv", ["00.jpg,1,0", "01.jpg,?,0"])
    with pytest.raises(DataError, match=r"cy\.csv, line 3: 'Smiling' has value '\?'"):
        annotations([files[0], wrong])


OPTIONS = ("ignore_columns", "group_columns", "unknown=", "images=", "schema_file")


@pytest.mark.parametrize(
    ("rows", "remedy"),
    [
        (["00.jpg,?,0"], "take a column that is no attribute out of the file"),
        (["00.jpg,0,1", "01.jpg,-1,1"], "leave unknown ones empty, and write every no as 0 or ev"),
        (["/elsewhere/00.jpg,1,1"], "give paths relative to the folder of images."),
    ],
)
def test_advice_is_of_what_can_be_done_here(
    files: list[Path], tmp_path: Path, rows: list[str], remedy: str
) -> None:
    with pytest.raises(DataError) as caught:
        annotations([files[0], write(tmp_path / "cy.csv", rows)])
    assert remedy in str(caught.value)
    assert not [option for option in OPTIONS if option in str(caught.value)]


def test_files_of_one_name_are_told_apart(files: list[Path]) -> None:
    other = files[1].parent / "other" / "ann.csv"
    other.parent.mkdir()
    other.write_bytes(files[1].read_bytes())
    assert list(annotations([files[0], other])) == ["ann.csv", str(other)]


def test_the_command_and_its_list(files: list[Path]) -> None:
    out = files[0].with_name("disputed.csv")
    result = CliRunner().invoke(cli, ["data", "agreement", *map(str, files), "--out", str(out)])
    assert result.exit_code == 0, result.exception
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[2][:8] == ["Smiling", "50", "70", "%", "56", "to", "81", "0.40"]
    assert lines[3] == ["Bald", "3", "100", "%", "44", "to", "100", "-", "-"]
    assert f"15 answers differ: {out}" in result.output
    rows = list(csv.DictReader(out.open()))
    assert {row["image"] for row in rows} == {f"{i}.jpg" for i in range(20, 35)}
    assert rows[0] == {
        "image": "20.jpg", "attribute": "Smiling", "ann.csv": "yes", "ben.csv": "no",
    }  # fmt: skip


def test_a_face_that_one_left_out_is_not_disputed(files: list[Path], tmp_path: Path) -> None:
    third = write(tmp_path / "third.csv", ["20.jpg,,1"])
    assert write_disputed(tmp_path / "d.csv", annotations([*files, third])) == 16
    assert "20.jpg,Bald,no,,yes" in (tmp_path / "d.csv").read_text()
    assert MISSING == -1


def test_what_is_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ann\.csv: holds the labels of one annotator"):
        annotations(files[:1])
    stranger = write(tmp_path / "c.csv", ["x.jpg,1,1"])
    with pytest.raises(DataError, match=r"ann\.csv and c\.csv: no two have a yes or no"):
        agreements(annotations([files[0], stranger]))
    with pytest.raises(DataError, match="no column 'image'"):
        annotations([files[0], write(tmp_path / "d.csv", ["1,2"], "a,b")])
