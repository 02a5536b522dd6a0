"""Tables of a study for a paper."""

import csv
from pathlib import Path
from typing import Any

import pytest

from sspl.io.files import write_json
from sspl.reporting.paper_tables import main_table, write_tables
from sspl.settings import build, merge
from sspl.study.cells import KTH, Cell, cell_folder
from sspl.study.results import RESULTS_FILE, cell_of, read_results, write_results
from sspl.study.study_settings import StudySettings

STUDY = {
    "name": "toy_set",
    "data": "celeba:nowhere",
    "published": "CelebA",
    "counts": {326: {"percent": 0.2}, 162770: {"percent": 100}},
    "methods": {"scratch": {}, "sspl": {"pretrain": {}}},
    "sections": [{"methods": ["scratch", "sspl"], "labels": [326, 162770, 999]}],
}


def settings(**changes: Any) -> StudySettings:
    return build(StudySettings, merge(STUDY, changes))


def write_cell(out: Path, cell: Cell, accuracy: float) -> None:
    figures = {
        "accuracy": accuracy, "balanced_accuracy": 0.5, "average_precision": 0.25, "f1": None,
        "auc": None, "calibration_error": 0.1, "majority_accuracy": 0.8,
    }  # fmt: skip
    attributes = {"Big_Nose": figures, "Bald": figures | {"accuracy": accuracy - 0.1}}
    kth = cell.subset == KTH
    result = {
        "method": cell.method, "protocol": cell.protocol, "data": "toy_set", "labels": cell.labels,
        "subset": "every_kth" if kth else cell.subset, "repeat": cell.repeat, "seed": cell.repeat,
        "train_seconds": 1.0, "settings_hash": "x",
        "figures": {"test": {"mean": figures, "attributes": attributes}},
    }  # fmt: skip
    write_json(cell_folder(out, cell) / "result.json", result)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for method, better in (("sspl", 0.1), ("scratch", 0.0)):
        write_cell(tmp_path, Cell(method, "finetune", 326, KTH), 0.7 + better)
        write_cell(tmp_path, Cell(method, "finetune", 326, 0), 0.5 + better)
        write_cell(tmp_path, Cell(method, "finetune", 326, 0, 1), 0.6 + better)
        write_cell(tmp_path, Cell(method, "finetune", 162770, KTH), 0.8 + better)
    return tmp_path


def table_of(file: Path) -> dict[str, list[str]]:
    with file.open() as stream:
        return {row[0]: row[1:] for row in csv.reader(stream)}


def test_methods_by_label_count_with_published_figures_below(study: Path) -> None:
    files = write_tables(settings(), study)
    assert len(files) == 3 * (3 + 2)  # three figures, two label counts
    found = table_of(study / "tables" / "finetune-accuracy.csv")
    assert list(found)[:5] == [
        "method", "scratch, every k-th", "scratch", "sspl, every k-th", "sspl",
    ]  # fmt: skip
    assert found["method"] == ["0.2 %, 326 labels", "100 %, 162,770 labels"]
    assert found["scratch, every k-th"] == ["70.00", "80.00"]
    # Of 0.6 and 0.7: deviation sqrt(0.005) = 0.0707.
    assert found["sspl"] == ["65.00 ± 7.07", ""]
    assert found["SSPL, as cited"] == ["86.67", "91.77"]
    assert found["FaRL, as cited"] == ["88.51", "91.39*"]
    assert "SSPL, as cited" not in table_of(study / "tables" / "finetune-average_precision.csv")


def test_markdown_and_latex_say_the_same(study: Path) -> None:
    write_tables(settings(), study)
    folder = study / "tables"
    text = (folder / "finetune-accuracy.md").read_text()
    assert "toy_set, fine-tuning: mean accuracy in percent" in text
    assert "* confirmed by a second source" in text
    assert "| sspl | 65.00 ± 7.07 | - |\n" in text
    latex = (folder / "finetune-accuracy.tex").read_text()
    assert "\\begin{tabular}{lrr}" in latex
    assert "sspl & 65.00 $\\pm$ 7.07 & - \\\\\n" in latex
    assert "method & 0.2 \\%, 326 labels & 100 \\%, 162,770 labels \\\\\n" in latex
    attributes = (folder / "finetune-attributes-326.tex").read_text()
    assert "Big\\_Nose & 70.00 & 55.00 & 80.00 & 65.00 \\\\\n" in attributes


def test_every_attribute_has_its_row(study: Path) -> None:
    write_tables(settings(), study)
    found = table_of(study / "tables" / "finetune-attributes-326.csv")
    assert found["attribute"] == ["scratch, every k-th", "scratch", "sspl, every k-th", "sspl"]
    assert found["Bald"] == ["60.00", "45.00", "70.00", "55.00"]


def test_no_share_no_published_figure(study: Path) -> None:
    found = [(cell_of(r), r["figures"]["test"]) for r in read_results(study)]
    table = main_table(settings(counts={326: {"percent": 3}}), found, "accuracy")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["SSPL, as cited"] == ("", "91.77")
    plain = main_table(settings(published=None), found, "accuracy")
    assert [row[0] for row in plain.rows] == list(rows)[:4]


def test_the_papers_subset_has_its_name_in_the_table_of_results(study: Path) -> None:
    write_results(study)
    with (study / RESULTS_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["subset"], row["seed"]) for row in rows} == {
        ("every_kth", "0"), ("0", "0"), ("0", "1"),
    }  # fmt: skip
