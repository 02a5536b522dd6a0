"""`benchmarks/cost.py`: which costs belong to which rows of a study."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest

from shared import import_file
from sspl.study.results import FIGURE_COLUMNS, RESULT_COLUMNS
from sspl.study.study_settings import load_study

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_file(FOLDER / "cost.py")


def write_table(path: Path, rows: list[tuple[str, int, int, float]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(RESULT_COLUMNS)
        for method, labels, subset, accuracy in rows:
            figures = [accuracy] * len(FIGURE_COLUMNS)
            writer.writerow(
                [method, "linear", "x", labels, subset, 0, "test", *figures, 1, "a", "b", "c"]
            )
    return path


def test_methods_cost_what_their_networks_do(cost: ModuleType, tmp_path: Path) -> None:
    rates = {"sspl": 100.0, "faceres": 20.0, "faceres+dlib": 10.0}
    costs = [
        {"name": n, "network": 2 * r, "jpeg_to_csv": r, "decode_and_crop": 1, "peak_mb": 1,
         "disk_mb": 1}
        for n, r in rates.items()
    ]  # fmt: skip
    (tmp_path / "cost.json").write_text(json.dumps({"costs": costs}))
    table = write_table(
        tmp_path / "t.csv",
        [
            ("builtin", 27, 0, 0.8),
            ("builtin", 27, 1, 0.9),
            ("builtin", 55, 0, 0.9),
            ("builtin+faces+peers", 27, 0, 0.9),
            ("faceres", 27, 0, 0.7),
            ("hog", 27, 0, 0.7),
        ],
    )
    drawn = cost.points(table, cost.read_costs(tmp_path / "cost.json"))
    # 10 ms for ours, 100 ms for both networks from outside; HOG was not measured.
    assert drawn == {
        "builtin": {27: (10.0, pytest.approx(85)), 55: (10.0, pytest.approx(90))},
        "builtin+faces+peers": {27: (110.0, pytest.approx(90))},
        "faceres": {27: (50.0, pytest.approx(70))},
    }


def test_the_methods_of_the_study_have_costs(cost: ModuleType) -> None:
    known = {"sspl", "splnet", "faceres", "faceres+dlib"}
    study = load_study("builtin")
    for method in study.methods:
        alone = method.removesuffix(cost.BESIDE)
        assert cost.KINDS.get(alone, alone) in known


def test_the_page_says_what_the_record_says() -> None:
    root = Path(__file__).resolve().parents[2]
    record = json.loads((root / "benchmarks" / "results" / "cost.json").read_text(encoding="utf-8"))
    rates = {cost["name"]: cost["jpeg_to_csv"] for cost in record["costs"]}
    page = " ".join((root / "docs" / "weights.md").read_text(encoding="utf-8").split())
    ratios = [f"{rates[name] / rates['faceres']:.1f}" for name in ("sspl", "sspl int8")]
    assert f"`faceres` takes {ratios[0]} times as long" in page
    assert f"`int8` brings that to {ratios[1]}" in page
