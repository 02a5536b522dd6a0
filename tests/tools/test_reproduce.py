"""`tools/reproduce.py`: a cell is made again and compared with what is committed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tools.reproduce import cell_named, main

from sspl.data.synthetic import write_synthetic
from sspl.errors import SsplError
from sspl.evaluation.predictions import Predictions
from sspl.study import runner
from sspl.study.cells import list_cells
from sspl.study.study_settings import load_study
from sspl.study.work import Judged

CELL = "scratch/finetune/labels-12/subset-0"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table of a study `toy` in the working folder, of which CELL alone was run."""
    monkeypatch.chdir(tmp_path)
    write_synthetic(tmp_path / "faces", 20, 3, 32)
    said = Predictions(
        ("a", "b"), ("Male",), np.array([[1], [0]], np.int8), np.array([[0.9], [0.8]], "f4")
    )

    def learn(*_: Any) -> Judged:
        return Judged({"val": said, "test": said}, np.array([0.7]), 3.0, {})

    monkeypatch.setattr(runner, "finetuned", learn)
    sections = [{"methods": ["scratch"], "labels": [12], "subsets": [0, 1]}]
    content = {"name": "toy", "data": "celeba:faces", "methods": {"scratch": {}}}
    Path("toy.yaml").write_text(json.dumps(content | {"sections": sections}))
    study = load_study("toy.yaml")
    assert runner.Study(study, Path("first")).run(list_cells(study)[:1]) == {}
    return tmp_path / "first" / "results.csv"


def again(*options: str) -> Result:
    return CliRunner().invoke(main, [f"toy.yaml/{CELL}", *options])


def changed(table: Path, **values: str) -> Path:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    out = table.with_name("changed.csv")
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | values for row in rows)
    return out


def test_the_same_cell_has_the_same_figures(table: Path) -> None:
    found = again("--from", str(table))
    assert found.exit_code == 0
    assert "accuracy               50.000  committed    50.000    +0.000" in found.output
    assert found.output.endswith("the same to the last digit\n")
    assert "committed: " not in found.output


def test_what_differs_is_said_and_counts_by_the_tolerance(table: Path) -> None:
    other = str(changed(table, accuracy="0.496", code_hash="", machine="a larger one"))
    found = again("--from", other)
    assert found.exit_code == 0
    assert "+0.400" in found.output
    assert "code_hash: " in found.output
    assert "committed: not recorded" in found.output
    assert "committed: a larger one" in found.output
    assert "settings_hash" not in found.output
    assert found.output.endswith("within 0.5 points\n")
    found = again("--from", other, "--tolerance", "0.3")
    assert found.exit_code == 1
    assert found.output.endswith("not the same: 0.400 points apart, more than 0.3\n")


def test_a_cell_that_is_not_there_is_named(table: Path) -> None:
    with pytest.raises(SsplError, match=r"toy has no cell 'x/y'; its first are scratch/finetune"):
        cell_named(load_study("toy.yaml"), "x/y")
    found = again("--from", str(changed(table, split="val")))
    assert "has no test figures of scratch/finetune/labels-12/subset-0 with seed 0" in str(
        found.exception
    )
