"""The study: cells, what is run once, what is recorded, what two processes do."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from graphs import write_graph
from shared import OTHER_TASKS, refused, sspl
from sspl.data.subsets import every_kth
from sspl.data.synthetic import write_synthetic
from sspl.errors import SettingsError, SsplError
from sspl.evaluation.predictions import Predictions, load_predictions
from sspl.io.locks import is_locked, locked
from sspl.io.weights import save_tensors
from sspl.settings import build, merge, read_settings
from sspl.study import runner as study_run
from sspl.study.cells import Cell, cell_folder, list_cells, plan, read_json
from sspl.study.provenance import code_hash, machine
from sspl.study.results import RESULT_COLUMNS
from sspl.study.runner import Study
from sspl.study.study_settings import StudySettings, load_study, open_spec, packaged_studies
from sspl.study.work import Judged
from sspl.training.feature_settings import OnnxSettings

SMALL = {"canvas": 48, "input_size": 32, "backbone": {"width": 0.125, "stem_stride": 2}}
BOTH = {**SMALL, "optim": {"batch_size": 16, "epochs": 1}, "runtime": {"precision": "fp32"}}
CONTENT: dict[str, Any] = {
    "name": "toy",
    "data": "celeba:${TOY_FACES}",
    "unlabelled": ["celeba:${TOY_FACES},masks=${TOY_FACES}/masks"],
    "preset": "demo",
    "pretrain": {**BOTH, "task": {"prt": {"patch_size": 32}}},
    "finetune": {**BOTH, "head": {"pooling": "average"}, "evaluate_every": 1},
    "counts": {20: {"finetune": {"optim": {"epochs": 2}}, "minutes": 7}},
    "methods": {
        "scratch": {},
        "sspl": {"pretrain": {"tasks": ["prt", "pst", "pct"]}},
        "sspl-slow": {
            "pretrain": {"tasks": ["prt", "pst", "pct"]},
            "finetune": {"head_lr": 0.5},
            "minutes": 11,
        },
        "hog": {"features": {"kind": "hog", "components": 20}},
    },
    "sections": [
        {"methods": ["scratch", "sspl"], "labels": [12, 20], "subsets": [0, 1]},
        {"methods": ["sspl", "scratch"], "labels": [12], "subsets": [1, 2]},
    ],
}


def settings(**changes: Any) -> StudySettings:
    return build(StudySettings, merge(CONTENT, changes))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "faces"
    write_synthetic(out, 60, 3, 48)
    return out


@pytest.fixture(autouse=True)
def toy_faces(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FACES", str(faces))
    monkeypatch.setattr(study_run, "POLL_SECONDS", 0.05)


class FakeTraining:
    """Stands in for fine-tuning and stage 1: notes its calls and says the same of every face."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        self.cells: list[tuple[int, int]] = []
        self.stage1 = 0
        self.seconds = seconds
        self.problem: dict[tuple[int, int], BaseException] = {}
        monkeypatch.setattr(study_run, "finetuned", self.finetuned)
        monkeypatch.setattr(study_run, "pretrain", self.pretrain)

    def finetuned(self, stage2: Any, run: Path, keep_model: bool) -> Judged:
        key = (stage2.labels.count, stage2.labels.subset_seed)
        self.cells.append(key)
        time.sleep(self.seconds)
        if key in self.problem:
            raise self.problem[key]
        said = Predictions(
            ("a", "b"), ("Male",), np.array([[1], [0]], np.int8), np.array([[0.9], [0.8]], "f4")
        )
        return Judged({"val": said, "test": said}, np.array([0.7]), 3.04, {})

    def pretrain(self, stage1: Any, out: Path, resume: bool) -> None:
        self.stage1 += 1
        if "stage 1" in self.problem:
            raise self.problem["stage 1"]  # type: ignore[index]
        out.mkdir(parents=True)
        (out / "metrics.json").write_text('{"finished": true}')


def test_cells_come_section_by_section_each_once() -> None:
    cells = list_cells(settings())
    assert [(c.method, c.labels, c.subset) for c in cells] == [
        ("scratch", 12, 0),
        ("scratch", 12, 1),
        ("sspl", 12, 0),
        ("sspl", 12, 1),
        ("scratch", 20, 0),
        ("scratch", 20, 1),
        ("sspl", 20, 0),
        ("sspl", 20, 1),
        ("sspl", 12, 2),
        ("scratch", 12, 2),
    ]
    picked = list_cells(settings(), only=("sspl",), labels=(12,))
    assert {(c.method, c.labels, c.subset) for c in picked} == {("sspl", 12, s) for s in range(3)}
    with pytest.raises(SettingsError, match="--only: no cell of 'hog'; use scratch, sspl"):
        list_cells(settings(), only=("hog",))
    with pytest.raises(SettingsError, match="--labels: no cell with 13 labels; use 12, 20"):
        list_cells(settings(), labels=(13,))


def test_settings_of_a_cell_are_laid_over_one_another() -> None:
    assert plan(settings(), Cell("sspl-slow", "finetune", 12, 1)).finetune.optim.epochs == 1
    each = plan(settings(seed=4), Cell("sspl-slow", "finetune", 20, 1))
    assert (each.finetune.optim.epochs, each.finetune.optim.batch_size) == (2, 16)
    assert (each.finetune.head_lr, each.finetune.seed, each.minutes) == (0.5, 4, 7)
    assert (each.stage1_minutes, settings().minutes.pretrain) == (11, 30)
    assert (each.finetune.labels.count, each.finetune.labels.subset_seed) == (20, 1)
    assert each.pretrain is not None
    assert (each.pretrain.tasks, each.pretrain.task["prt"].patch_size) == (
        ("prt", "pst", "pct"),
        32,
    )


def hash_of(study: StudySettings, method: str = "sspl", labels: int = 12) -> str:
    return plan(study, Cell(method, "finetune", labels, 0)).settings_hash


def test_the_hash_follows_what_is_learnt_and_nothing_else() -> None:
    same = [
        settings(sections=[{"methods": ["sspl"], "labels": [12]}]),
        settings(finetune={"runtime": {"workers": 2}}, minutes={"finetune": 9}),
        settings(counts={20: {"finetune": {"optim": {"epochs": 3}}}}),
        settings(methods={"more": {}}),
        settings(finetune={"patience": None}),
    ]
    other = [
        settings(finetune={"optim": {"epochs": 3}}),
        settings(pretrain={"optim": {"epochs": 3}}),
        settings(data="celeba:${OTHERS}"),
        settings(unlabelled=["celeba:${OTHERS}"]),
        settings(seed=1),
    ]
    assert {hash_of(study) for study in same} == {hash_of(settings())}
    assert len({hash_of(study) for study in (settings(), *other)}) == 1 + len(other)
    # Without stage 1 its settings do not matter.
    assert hash_of(other[1], "scratch") == hash_of(settings(), "scratch")


def test_equal_stage_1_is_run_once() -> None:
    plans = [plan(settings(), Cell(m, "finetune", 12, 0)) for m in ("sspl", "sspl-slow")]
    assert plans[0].stage1 == plans[1].stage1
    assert plans[0].stage1.startswith("sspl-prt-pst-pct-")
    assert plans[0].settings_hash != plans[1].settings_hash


@pytest.mark.parametrize("name", packaged_studies())
def test_packaged_studies_resolve(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for net in ("faceres", "dlib-face"):
        write_graph(tmp_path / f"{net}.onnx", ["n", 3, 16, 16])
    monkeypatch.setenv("SSPL_PEERS", str(tmp_path))
    monkeypatch.setenv("SSPL_STAGE1", "builtin")
    study = load_study(f"configs/bench/{name}.yaml")
    assert study.name == name
    assert load_study(name, ["seed=5"]).seed == 5
    assert [plan(study, cell).minutes for cell in list_cells(study)]


def test_the_papers_subset_and_repeats_are_cells_of_their_own() -> None:
    section = {
        "methods": ["scratch", "sspl"], "labels": [12], "subsets": ["every_kth", 4], "repeats": 2,
    }  # fmt: skip
    study = settings(seed=5, sections=[section])
    cells = list_cells(study)
    assert [c.name for c in cells if c.method == "sspl"] == [
        f"sspl/finetune/labels-12/{draw}"
        for draw in ("every-kth", "subset-4", "every-kth-repeat-1", "subset-4-repeat-1")
    ]
    plans = {c.name.rpartition("/")[2]: plan(study, c) for c in cells if c.method == "sspl"}
    kth, again = plans["every-kth"], plans["every-kth-repeat-1"]
    assert (kth.finetune.labels.rule, kth.finetune.labels.count) == ("every_kth", 12)
    drawn = plans["subset-4"].finetune.labels
    assert (drawn.rule, drawn.subset_seed) == ("seeded", 4)
    # The next seed, of both stages.
    assert (kth.finetune.seed, again.finetune.seed) == (5, 6)
    assert kth.pretrain is not None
    assert again.pretrain is not None
    assert (kth.pretrain.seed, again.pretrain.seed) == (5, 6)
    assert kth.stage1 != again.stage1
    assert len({p.settings_hash for p in plans.values()}) == 4
    # By its percentage the paper's subset is a fraction, of however many faces there are.
    share = settings(sections=[section], counts={12: {"percent": 20}})
    labels = plan(share, cells[0]).finetune.labels
    assert (labels.rule, labels.fraction, labels.count) == ("every_kth", 0.2, None)
    with pytest.raises(SettingsError, match=r"sections\.0\.subsets\.1"):
        settings(sections=[section | {"subsets": [0, "every"]}])


def test_a_method_may_have_masks_of_its_own() -> None:
    methods = {"other": {"pretrain": {}, "unlabelled": ["celeba:${TOY_FACES},masks=elsewhere"]}}
    section = {"methods": ["sspl", "other"], "labels": [12], "subsets": [0]}
    study = settings(methods=methods, sections=[section])
    one, other = (plan(study, cell) for cell in list_cells(study))
    assert one.pretrain == other.pretrain
    assert one.stage1 != other.stage1
    assert one.settings_hash != other.settings_hash


def test_masks_of_a_methods_own_are_asked_for_when_it_has_cells(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And looked at each time, whichever other methods are run with it."""
    own = tmp_path / "own"
    shutil.copytree(faces / "masks", own)
    spec = f"celeba:${{TOY_FACES}},masks={own}"
    methods = {"other": {"pretrain": {}, "unlabelled": [spec]}}
    section = {"methods": ["scratch", "other"], "labels": [12], "subsets": [0]}
    study = Study(settings(methods=methods, sections=[section]), tmp_path / "out")
    monkeypatch.setattr(study, "attempt", lambda each: study_run.Attempt.DONE)
    scratch, other = list_cells(study.settings)
    for cells in ([scratch], [scratch, other], [scratch]):
        assert study.run(cells) == {}
    first = sorted(own.iterdir())[0]
    Image.new("L", (48, 48)).save(first)
    assert study.run([scratch]) == {}
    with pytest.raises(SsplError, match=f"{first.stem}.* has changed"):
        study.run([other])


def test_the_papers_studies_have_its_label_counts() -> None:
    counts = {
        "paper-celeba": {0.2: 326, 0.5: 814, 1: 1628, 2: 3256, 100: 162_770},
        "paper-lfwa": {5: 314, 10: 627, 20: 1253, 50: 3132, 100: 6263},
    }
    faces = {"paper-celeba": 162_770, "paper-lfwa": 6263}
    for name, shares in counts.items():
        study = load_study(name)
        assert {c.percent: n for n, c in study.counts.items()} == shares
        assert {cell.labels for cell in list_cells(study)} == set(shares.values())
        for share, count in shares.items():
            assert len(every_kth(faces[name], fraction=share / 100)) == count
    for name in ("paper-lfwa", "paper-maad"):
        study = load_study(name)
        for cell in list_cells(study):
            stage2 = plan(study, cell).finetune
            assert (stage2.labels.val_fraction, stage2.select_by) == (0, "last")
    celeba = load_study("paper-celeba")
    assert {plan(celeba, cell).finetune.select_by for cell in list_cells(celeba)} == {"accuracy"}
    # One stage 1 serves all three: --stage1.
    used = {n: {plan(s, c).stage1 for c in list_cells(s)} for n in ("paper-celeba", "paper-lfwa")
            for s in [load_study(n)]}  # fmt: skip
    assert used["paper-lfwa"] < used["paper-celeba"]


@pytest.mark.parametrize("name", ["celeba10k", "lfw", "utkface"])
def test_methods_of_a_study_have_one_budget(name: str) -> None:
    study = load_study(name)
    plans = [plan(study, cell) for cell in list_cells(study)]
    # Every method has the same budget, whatever its tasks.
    stages = [each.pretrain for each in plans if each.pretrain]
    assert {(s.canvas, s.input_size, s.optim.epochs) for s in stages} == {(80, 64, 12)}
    assert {(p.finetune.canvas, p.finetune.input_size) for p in plans} == {(80, 64)}
    stage1 = {p.stage1 for p in plans if p.pretrain}
    others = load_study("celeba10k")
    assert stage1 <= {plan(others, c).stage1 for c in list_cells(others)}


def test_the_study_of_the_task_has_its_counts_and_fits_its_hours() -> None:
    study = load_study("celeba10k")
    cells = list_cells(study)
    assert sorted({c.labels for c in cells}) == [27, 55, 110, 275, 550, 1099, 5495]
    assert {c.subset for c in cells} == {0, 1, 2}
    tuned = {c.method for c in cells if (c.protocol, c.labels) == ("finetune", 1099)}
    papers = {"prt", "pst", "pct", "prt+pst", "prt+pct", "pst+pct", "sspl", "splnet"}
    assert tuned == {"scratch", *OTHER_TASKS, *papers, "scratch-regions", "sspl-regions"}
    for name in OTHER_TASKS:
        assert study.methods[name].pretrain == {"tasks": [name]}
    runs = {p.stage1: p.stage1_minutes for p in (plan(study, c) for c in cells) if p.stage1}
    hours = (sum(runs.values()) + sum(plan(study, c).minutes for c in cells)) / 60
    assert hours < 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"a/b": {}}}, "methods: 'a/b' must be letters"),
        ({"sections": [{"methods": ["x"], "labels": [2]}]}, "no method is called 'x'; there are"),
        ({"sections": [{"methods": ["hog"], "labels": [2]}]}, "hog has features from outside"),
        ({"sections": [{"methods": ["sspl"], "labels": [1]}]}, "labels must be at least 2"),
        (
            {"methods": {"both": {"features": [{"kind": "hog"}, "net.onnx"]}}},
            "features of kind hog stand alone",
        ),
        ({"methods": {"hog": {"pretrain": {}}}}, "features come from outside the backbone"),
        ({"methods": {"sspl": {"start": "builtin"}}}, "start is in the place of a stage 1"),
    ],
)
def test_a_study_that_does_not_fit_together_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**changes)


def test_a_method_may_start_from_weights_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.safetensors"
    about = {"kind": "pretrained", "backbone": {"width": 0.25}, "tasks": ["pst"],
             "segmentation": {"maps": 2}}  # fmt: skip
    save_tensors(kept, {"a": torch.zeros(1)}, about)
    study = settings(
        methods={"kept": {"start": str(kept)}, "own": {"start": "builtin"}},
        sections=[{"methods": ["kept", "own"], "labels": [12], "subsets": [0]}],
    )
    assert plan(study, list_cells(study)[0]).finetune.segmentation.maps == 2
    before = [plan(study, cell).settings_hash for cell in list_cells(study)]
    assert len({*before, hash_of(study, "scratch")}) == 3
    save_tensors(kept, {"a": torch.ones(1)}, about)
    after = [plan(study, cell).settings_hash for cell in list_cells(study)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]
    asked = []

    def learn(stage2: Any, run: Path, keep_model: bool) -> Judged:
        asked.append(stage2.pretrained)
        return fake.finetuned(stage2, run, keep_model)

    fake = FakeTraining(monkeypatch)
    monkeypatch.setattr(study_run, "finetuned", learn)
    Study(study, tmp_path / "study").run(list_cells(study))
    assert asked == [kept, Path("builtin")]
    assert fake.stage1 == 0


def test_networks_from_outside_are_told_apart_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(
        methods={
            "one": {"features": "${NETS}/one.onnx,mean=0.5"},
            "two": {"features": ["${NETS}/one.onnx", {"kind": "run", "path": "builtin"}]},
            "joined": {"start": "builtin", "finetune": {"features": ["${NETS}/one.onnx"]}},
        },
        sections=[
            {"methods": ["one", "two"], "labels": [12], "subsets": [0], "protocols": ["linear"]},
            {"methods": ["joined", "scratch"], "labels": [12], "subsets": [0]},
        ],
    )
    cells = list_cells(study)
    with pytest.raises(SettingsError, match=r"methods\.one: the environment variable NETS is not"):
        plan(study, cells[0])
    monkeypatch.setenv("NETS", str(tmp_path))
    with pytest.raises(SettingsError, match=r"one\.onnx: there is no such file"):
        plan(study, cells[0])

    def hashes(seed: int, folder: Path) -> list[str]:
        folder.mkdir(exist_ok=True)
        write_graph(folder / "one.onnx", ["n", 3, 16, 16], seed=seed)
        monkeypatch.setenv("NETS", str(folder))
        return [plan(study, cell).settings_hash for cell in cells]

    first = hashes(0, tmp_path / "here")
    assert len(set(first)) == 4
    assert hashes(0, tmp_path / "there") == first
    changed = [a == b for a, b in zip(hashes(1, tmp_path / "here"), first, strict=True)]
    assert changed == [False, False, False, True]
    (given,) = plan(study, cells[0]).features
    assert isinstance(given, OnnxSettings)
    assert (given.path, given.mean) == (tmp_path / "here" / "one.onnx", (0.5, 0.5, 0.5))


def test_wrong_settings_of_a_method_are_refused_by_its_name() -> None:
    study = settings(methods={"odd": {"finetune": {"hed": 1}}})
    with pytest.raises(SettingsError, match=r"methods\.odd: hed: unknown setting"):
        plan(study, Cell("odd", "finetune", 12, 0))


def test_specs_with_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_FOLDER", str(tmp_path))
    data = open_spec("csv:${A_FOLDER}/x.csv,images=${A_FOLDER}/faces,crop=celeba")
    assert (data.root, data.images, data.crop) == (tmp_path / "x.csv", tmp_path / "faces", "celeba")
    with pytest.raises(SettingsError, match="the environment variable NOT_THERE is not set"):
        open_spec("celeba:${NOT_THERE}")


def test_base_of_a_file_and_names_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: lfw\nname: mine\nseed: 3\n")
    study = load_study(str(tmp_path / "mine.yaml"))
    assert (study.name, study.seed, study.sections) == ("mine", 3, load_study("lfw").sections)
    with pytest.raises(SettingsError, match=r"no file 'nothing' and no study .* celeba10k, lfw"):
        load_study("nothing")
    (tmp_path / "loop.yaml").write_text("base: loop.yaml\n")
    with pytest.raises(SettingsError, match="base must name another study"):
        load_study(str(tmp_path / "loop.yaml"))


def test_done_cells_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = FakeTraining(monkeypatch)
    study = settings()
    cells = list_cells(study)
    assert Study(study, tmp_path).run(cells) == {}
    assert len(training.cells) == 10
    assert training.stage1 == 1
    Study(study, tmp_path).run(cells)
    assert len(training.cells) == 10
    (cell_folder(tmp_path, cells[3]) / "result.json").unlink()
    Study(study, tmp_path).run(cells)
    assert training.cells[10:] == [(12, 1)]
    assert training.stage1 == 1


def test_the_table_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTraining(monkeypatch)
    study = settings()
    cells = list_cells(study, only=("scratch",), labels=(20,))
    Study(study, tmp_path).run(cells)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (
        tuple(rows[0])
        == RESULT_COLUMNS
        == (
            "method",
            "protocol",
            "data",
            "labels",
            "subset",
            "seed",
            "split",
            "accuracy",
            "balanced_accuracy",
            "f1",
            "average_precision",
            "auc",
            "ece",
            "majority_accuracy",
            "train_seconds",
            "settings_hash",
            "code_hash",
            "machine",
        )
    )
    assert [(r["subset"], r["split"]) for r in rows] == [
        ("0", "val"),
        ("0", "test"),
        ("1", "val"),
        ("1", "test"),
    ]
    # Two faces, yes and no, both called yes with 0.9 and 0.8: bins 12 and 13 of 15.
    assert rows[1] == {
        "method": "scratch",
        "protocol": "finetune",
        "data": "toy",
        "labels": "20",
        "subset": "0",
        "seed": "0",
        "split": "test",
        "accuracy": "0.5",
        "balanced_accuracy": "0.5",
        "f1": "0.666667",
        "average_precision": "1.0",
        "auc": "1.0",
        "ece": "0.45",
        "majority_accuracy": "0.5",
        "train_seconds": "3.0",
        "settings_hash": plan(study, cells[0]).settings_hash,
        "code_hash": code_hash(),
        "machine": machine("cpu"),
    }
    kept = load_predictions(cell_folder(tmp_path, cells[0]) / "predictions-test.npz")
    assert kept.probabilities.tolist() == np.array([[0.9], [0.8]], "f4").tolist()


def test_a_failed_cell_is_recorded_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(monkeypatch)
    training.problem = {(12, 1): SsplError("too few faces."), (20, 0): ValueError("a bug")}
    study = settings()
    cells = list_cells(study, only=("scratch",))
    failed = Study(study, tmp_path).run(cells)
    assert failed == {
        "scratch/finetune/labels-12/subset-1": "too few faces",
        "scratch/finetune/labels-20/subset-0": "ValueError('a bug')",
    }
    assert len(training.cells) == 5
    bug = read_json(cell_folder(tmp_path, Cell("scratch", "finetune", 20, 0)) / "failure.json")
    assert bug is not None
    assert "in finetuned" in bug["traceback"]
    training.problem = {}
    assert Study(study, tmp_path).run(cells) == {}
    assert training.cells[5:] == [(12, 1), (20, 0)]
    assert not list(tmp_path.rglob("failure.json"))


def test_a_failed_stage_1_fails_its_cells_and_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(monkeypatch)
    training.problem = {"stage 1": SsplError("no masks.")}  # type: ignore[dict-item]
    study = settings()
    failed = Study(study, tmp_path).run(list_cells(study))
    assert training.stage1 == 1
    assert list(failed.values()) == ["no masks", *["its stage 1 failed: no masks"] * 4]
    assert all(name.startswith("sspl/") for name in failed)
    training.problem = {}
    assert Study(study, tmp_path).run(list_cells(study)) == {}
    assert training.stage1 == 2


def test_another_study_uses_the_same_stage_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(monkeypatch)
    cells = list_cells(settings(), only=("sspl",))
    Study(settings(), tmp_path / "one").run(cells)
    Study(settings(name="other"), tmp_path / "two", tmp_path / "one" / "pretrained").run(cells)
    assert training.stage1 == 1
    assert len(training.cells) == 10
    assert not (tmp_path / "two" / "pretrained").exists()
    # Other settings of stage 1 are another run beside it.
    longer = settings(pretrain={"optim": {"epochs": 2}})
    Study(longer, tmp_path / "three", tmp_path / "one" / "pretrained").run(cells[:1])
    assert training.stage1 == 2


def test_a_kill_loses_the_running_cell_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(monkeypatch)
    training.problem = {(20, 0): KeyboardInterrupt()}
    study = settings()
    cells = list_cells(study, only=("scratch",))
    with pytest.raises(KeyboardInterrupt):
        Study(study, tmp_path).run(cells)
    assert training.cells == [(12, 0), (12, 1), (20, 0)]
    training.problem = {}
    assert Study(study, tmp_path).run(cells) == {}
    assert training.cells[3:] == [(20, 0), (20, 1), (12, 2)]


def test_other_settings_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(monkeypatch)
    Study(settings(), tmp_path).run(list_cells(settings(), labels=(12,)))
    other = settings(finetune={"optim": {"lr": 0.5}})
    with pytest.raises(SettingsError, match="labels-12/subset-0 was run with other settings"):
        Study(other, tmp_path).run(list_cells(other))
    assert len(training.cells) == 6


def test_two_at_once_share_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = FakeTraining(monkeypatch, seconds=0.03)
    study = settings()
    cells = list_cells(study)
    outcomes: list[dict[str, str]] = []

    def work() -> None:
        outcomes.append(Study(study, tmp_path).run(cells))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert outcomes == [{}, {}]
    assert len(training.cells) == 10
    assert training.stage1 == 1
    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 20


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "cell.lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom sspl.io.locks import locked\n"
        "with locked(Path(sys.argv[1])) as free:\n    print(free, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert is_locked(path)
        with locked(path) as free:
            assert not free
        assert f"process {other.pid} " in path.read_text()
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert not is_locked(path)
    with locked(path) as free:
        assert free


def test_the_command_from_end_to_end(tmp_path: Path) -> None:
    for number in (0, 1):
        write_graph(tmp_path / f"{number}.onnx", ["n", 3, 16, 16], seed=number)
    nets = [str(tmp_path / f"{number}.onnx") for number in (0, 1)]
    beside = {"features": nets[:1], "frozen_share": "validation"}
    methods = CONTENT["methods"] | {"nets": {"features": nets}, "joined": {"finetune": beside}}
    content = CONTENT | {
        "methods": methods,
        "sections": [
            {"methods": ["sspl", "joined"], "labels": [12], "subsets": [0]},
            {
                "methods": ["sspl", "hog", "nets"],
                "labels": [12],
                "subsets": [0],
                "protocols": ["linear"],
            },
            {"methods": ["scratch"], "labels": [12], "subsets": [0], "protocols": ["knn"]},
            {"methods": ["scratch"], "labels": [5000], "subsets": [0]},
        ],
        "keep_models": False,
    }
    config, out = tmp_path / "toy.json", tmp_path / "study"
    config.write_text(json.dumps(content))
    planned = sspl("benchmark", "--config", config, "--out", out, "--dry-run").output
    assert planned.count("to do") == 8
    assert "pretrained/sspl-prt-pst-pct-" in planned
    assert not out.exists()
    sentence = refused("benchmark", "--config", config, "--out", out)
    assert sentence.startswith(
        "1 of 7 cells failed, the first is scratch/finetune/labels-5000/subset-0 (5000 labelled "
        "faces are out of range; there are 42 faces)"
    )
    with (out / "results.csv").open() as file:
        rows = {(r["method"], r["protocol"], r["split"]): r for r in csv.DictReader(file)}
    assert len(rows) == 12
    for method, protocol in (
        ("sspl", "finetune"), ("hog", "linear"), ("scratch", "knn"), ("nets", "linear"),
        ("joined", "finetune"),
    ):  # fmt: skip
        folder = out / "cells" / method / protocol / "labels-12" / "subset-0"
        kept = load_predictions(folder / "predictions-test.npz")
        known = kept.labels >= 0
        right = ((kept.probabilities >= 0.5) == (kept.labels == 1)) & known
        both = (kept.labels == 1).any(0) & (kept.labels == 0).any(0)
        accuracy = (right.sum(0) / known.sum(0))[both].mean()
        assert float(rows[method, protocol, "test"]["accuracy"]) == pytest.approx(
            accuracy, abs=1e-6
        )
        assert len(kept) == 12
    run = out / "cells" / "sspl" / "finetune" / "labels-12" / "subset-0" / "run"
    assert (run / "labelled.txt").read_text().count("\n") == 12
    assert not list(out.rglob("*state.safetensors"))
    assert not (run / "model.safetensors").exists()
    # The same faces are drawn under every protocol, for every method.
    planned = sspl("benchmark", "--config", config, "--out", out, "--dry-run").output
    assert planned.count("done") == 7
    assert planned.count("failed") == 1


TAUGHT: dict[str, Any] = {
    "methods": {"taught": {"teacher": "scratch", "finetune": {"head_lr": 0.5}, "minutes": 9}},
    "sections": [{"methods": ["taught"], "labels": [12], "subsets": [1]}],
}


def test_a_taught_cell_is_another_when_its_teacher_is() -> None:
    each = plan(settings(**TAUGHT), Cell("taught", "finetune", 12, 1))
    assert each.teacher is not None
    assert each.teacher.finetune == plan(settings(), Cell("scratch", "finetune", 12, 1)).finetune
    assert (each.minutes, each.teacher.minutes) == (9, settings().minutes.finetune)
    untaught = settings(methods={"taught": {"finetune": {"head_lr": 0.5}}})
    other = settings(**merge(TAUGHT, {"methods": {"scratch": {"finetune": {"ema": 0.9}}}}))
    hashes = {hash_of(study, "taught") for study in (settings(**TAUGHT), untaught, other)}
    assert len(hashes) == 3


def test_a_taught_cell_fine_tunes_its_teacher_on_the_same_faces_first(tmp_path: Path) -> None:
    study = Study(settings(**TAUGHT, keep_models=False), tmp_path)
    assert study.run(list_cells(study.settings)) == {}
    folder = cell_folder(tmp_path, Cell("taught", "finetune", 12, 1))
    labelled = [(folder / run / "labelled.txt").read_text() for run in ("teacher", "run")]
    assert labelled[0] == labelled[1]
    for run in ("teacher", "run"):
        assert not list((folder / run).glob("*.safetensors"))
    asked = read_settings(folder / "run" / "settings.yaml")["distillation"]["teachers"]
    assert asked == [str(folder / "teacher")]
    result = read_json(folder / "result.json")
    assert result is not None
    assert result["train_seconds"] > 0


@pytest.mark.parametrize(
    ("methods", "protocol", "said"),
    [
        ({"taught": {"teacher": "nobody"}}, "finetune", "'nobody' is no method that is fine-tuned"),
        ({"taught": {"teacher": "hog"}}, "finetune", "those are scratch, sspl, sspl-slow"),
        (
            {"taught": {"teacher": "more"}, "more": {"teacher": "scratch"}},
            "finetune",
            "without a teacher",
        ),
        ({"taught": {"teacher": "scratch"}}, "linear", "taught has a teacher"),
        (
            {"taught": {"teacher": "scratch", "features": {"kind": "hog"}}},
            "linear",
            "teacher needs a network to teach",
        ),
    ],
)
def test_who_cannot_be_a_teacher_is_refused(
    methods: dict[str, Any], protocol: str, said: str
) -> None:
    section = {"methods": ["taught"], "labels": [12], "subsets": [0], "protocols": [protocol]}
    with pytest.raises(SettingsError, match=said):
        settings(methods=methods, sections=[section])
