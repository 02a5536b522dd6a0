"""Cells side by side: a process a device, and tasks of an array job."""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from click.testing import CliRunner

from shared import TINIER, draw_faces, refused, sspl
from sspl.cli.main import cli
from sspl.errors import SettingsError
from sspl.settings import apply_override, build, merge
from sspl.study.cells import list_cells
from sspl.study.runner import Study
from sspl.study.study_settings import load_study
from sspl.training.stage_settings import RuntimeSettings

KILLS: Final = """
import multiprocessing, os, signal
from contextlib import suppress
from pathlib import Path
from sspl.tasks.rotnet import WholeRotation


class Once(WholeRotation):
    name = "once"

    def __init__(self, settings, context):
        super().__init__(settings, context)
        if multiprocessing.parent_process() is not None:
            with suppress(FileExistsError):
                Path(__file__).with_name("mark").open("x").close()
                os.kill(os.getpid(), signal.SIGKILL)
"""
"""A task whose first user dies in the middle of a cell, unless it started the other processes."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    faces = draw_faces(folder, 40, seed=3, size=40)
    (folder / "kills.py").write_text(KILLS)
    tiny: dict[str, Any] = {}
    for override in (*TINIER, "optim.epochs=1"):
        apply_override(tiny, override)
    content = {
        "name": "toy", "data": f"celeba:{faces}", "preset": "demo", "pretrain": tiny,
        "finetune": merge(tiny, {"head": {"pooling": "average"}, "evaluate_every": 1}),
        "methods": {
            "dies": {"pretrain": {"tasks": [f"{folder / 'kills.py'}:Once"]}}, "scratch": {},
        },
        "sections": [{"methods": ["dies", "scratch"], "labels": [12], "subsets": [0, 1]}],
    }  # fmt: skip
    file = folder / "toy.json"
    file.write_text(json.dumps(content))
    return file


def figures(out: Path) -> list[dict[str, str]]:
    """The table without how long each cell took and with how many cores."""
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    others = ("train_seconds", "machine")
    return [{k: v for k, v in row.items() if k not in others} for row in rows]


def test_two_processes_give_what_one_gives_and_one_may_die(
    config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sspl("benchmark", "--config", config, "--out", tmp_path / "two", "--devices", "cpu,cpu")
    assert (config.parent / "mark").exists()
    assert [r.message for r in caplog.records if "SIGKILL" in r.message] == [
        "the process on cpu ended by SIGKILL; what it worked on is free again, and the others go "
        "on."
    ]
    sspl("benchmark", "--config", config, "--out", tmp_path / "one")
    assert len(figures(tmp_path / "one")) == 8
    assert figures(tmp_path / "two") == figures(tmp_path / "one")


def test_where_each_cell_runs_is_no_part_of_what_it_is(config: Path, tmp_path: Path) -> None:
    study = Study(load_study(str(config)), tmp_path)
    mine = study._on("cuda:1", ["cuda:0", "cuda:1"])
    runtime = study.settings.finetune["runtime"]
    given = build(RuntimeSettings, runtime)
    assert study._place(given) == {}
    assert mine._place(given)["runtime"].device == "cuda:1"
    # What fits the memory of the machine is shared by its processes.
    assert mine._place(given)["runtime"].cache_gb == given.cache_gb / 2


def test_a_device_that_is_not_there_is_said_before_any_cell(config: Path, tmp_path: Path) -> None:
    study = Study(load_study(str(config)), tmp_path / "out")
    with pytest.raises(SettingsError, match=r"^device: 'cuda:77' cannot be used here"):
        study._on("cuda:77", ["cuda:77"]).run(list_cells(study.settings))
    assert not list(tmp_path.rglob("cells"))
    command = ["benchmark", "--config", str(config), "--out", str(tmp_path), "--devices", "cpu,gpu"]
    said = CliRunner().invoke(cli, command)
    assert "'gpu' is none; use auto, cpu, cuda, cuda:1 or the like" in said.output


class FakeExecutor:
    """Stands in for submitit's: notes what is asked of it."""

    made: "FakeExecutor"

    def __init__(self, folder: Path, cluster: str | None) -> None:
        self.folder, self.cluster = folder, cluster
        self.jobs: list[tuple[Any, ...]] = []
        FakeExecutor.made = self

    def update_parameters(self, **parameters: Any) -> None:
        if "gpus" in parameters:
            raise NameError("Unknown parameter(s): gpus")
        self.parameters = parameters

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, *work: Any) -> SimpleNamespace:
        self.jobs.append(work)
        return SimpleNamespace(job_id=f"4711_{len(self.jobs) - 1}")


def test_an_array_job(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=FakeExecutor))
    out = tmp_path / "out"
    command = ("benchmark", "--config", config, "--out", out, "--tasks", 3)
    options = ("--slurm", "gpus_per_node=1", "--slurm", "slurm_partition=gpu")
    said = sspl(*command, *options).output
    assert said.startswith(f"job 4711: 3 tasks for 4 cells; they write {out / 'jobs'}.")
    made = FakeExecutor.made
    assert (made.folder, made.cluster) == (out / "jobs", None)
    assert made.parameters == {"name": "sspl-toy", "gpus_per_node": 1, "slurm_partition": "gpu"}
    work, cells = made.jobs[2]
    assert (work.__func__, cells) == (Study.run, list_cells(load_study(str(config))))
    assert len(made.jobs) == 3
    sentence = refused(*command, "--slurm", "gpus=1")
    assert sentence == "--slurm: submitit says: Unknown parameter(s): gpus"
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install '.[cluster]'" in refused(*command)
