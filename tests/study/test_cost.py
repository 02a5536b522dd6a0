"""What a cell costs, and how long it will take by that."""

import json
from pathlib import Path
from typing import Any

import pytest

from sspl.settings import build
from sspl.study.cells import Cell, cell_folder, list_cells, plan
from sspl.study.cost import cell_minutes, stage1_gflop, stage1_minutes, stage2_gflop
from sspl.study.estimate import survey
from sspl.study.runner import Study
from sspl.study.study_settings import StudySettings, load_study
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

TINY: dict[str, Any] = {"backbone": {"width": 0.125, "stem_stride": 4}, "input_size": 32}


def test_operations_of_a_small_network_by_hand() -> None:
    """Width 8, 16, 32, 64 on maps of 8, 4, 2 and 1 px: two operations a product."""
    products = 16 * 16 * 8 * 3 * 49  # the stem, before pooling
    products += 4 * 8 * 8 * 8 * 8 * 9
    for width, side in ((16, 4), (32, 2), (64, 1)):
        half = width // 2
        products += side**2 * (half * width * 9 + 3 * width * width * 9 + half * width)
    found = stage2_gflop(build(FinetuneSettings, TINY))
    assert found == pytest.approx(2 * products / 1e9)
    # PRT's stacks pass through the backbone by themselves, PST and PCT share a crop.
    one, both, all_three = (
        stage1_gflop(build(PretrainSettings, TINY | {"tasks": tasks}))
        for tasks in (["pct"], ["prt"], ["prt", "pct"])
    )
    assert one == both == pytest.approx(found)
    assert all_three == pytest.approx(2 * found)
    assert stage1_gflop(build(PretrainSettings, TINY | {"tasks": ["pst"]})) > one


def test_the_papers_networks_cost_what_torch_counts_of_a_step() -> None:
    """22.2 and 61.3 billion operations a face (benchmarks/scaling.py), both passes."""
    study = load_study("paper-celeba")
    for method, counted in (("sspl", 22.2), ("splnet", 61.3)):
        each = plan(study, Cell(method, "finetune", 326, 0))
        assert each.pretrain is not None
        assert 3 * stage1_gflop(each.pretrain) == pytest.approx(counted, rel=0.02)


def test_minutes_by_hand() -> None:
    study = load_study("paper-celeba")
    assert study.cost is not None
    each = plan(study, Cell("sspl", "finetune", 814, 0))
    assert each.pretrain is not None
    one = stage2_gflop(each.finetune)
    # 70 epochs of 814 faces; 14 looks at val and one more, and one at the test faces, mirrored too.
    passes = 3 * 814 * 70 + 2 * (15 * 19_867 + 19_962)
    assert cell_minutes(each, study.cost) == pytest.approx(one * passes / 100_000 / 60)
    whole = 3 * stage1_gflop(each.pretrain) * 162_770 * 80
    assert stage1_minutes(each, study.cost) == pytest.approx(whole / 100_000 / 60)
    # A probe looks at every face once.
    probe = plan(study, Cell("sspl", "linear", 814, 0))
    seen = 814 + 19_867 + 19_962
    assert cell_minutes(probe, study.cost) == pytest.approx(one * seen / 100_000 / 60)


def test_measured_cells_correct_what_the_others_are_planned_by(tmp_path: Path) -> None:
    section = {"methods": ["scratch", "splnet"], "labels": [326], "subsets": [0, 1]}
    content = load_study("paper-celeba").model_dump(mode="json") | {"sections": [section]}
    study = Study(build(StudySettings, content), tmp_path)
    cells = list_cells(study.settings)
    before = {piece.name: piece.seconds for piece in survey(study, cells)}
    done = cells[0]
    folder = cell_folder(tmp_path, done)
    folder.mkdir(parents=True)
    took = 2 * before[done.name]
    result = {
        "method": done.method, "protocol": done.protocol, "labels": done.labels,
        "subset": done.subset, "train_seconds": took,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    after = {piece.name: piece for piece in survey(study, cells)}
    assert after[done.name].state == "done"
    for name, piece in after.items():
        assert piece.seconds == pytest.approx(2 * before[name]), name
    # Only the like cell of the same method counts as measured: another network costs more.
    assert [piece.measured for piece in after.values()] == [False, True, True, False, False]
