"""Logs of runs as TensorBoard reads them back."""

from pathlib import Path

import pytest

from shared import refused
from shared import sspl as command
from sspl.io.runs import write_metrics
from sspl.io.tensorboard import scalars, write_events

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

ROWS = [
    {"epoch": 1, "lr": 0.1, "loss": 2.5},
    {"epoch": 2, "lr": 0.05, "loss": 1.5, "val/accuracy": 0.8},
]


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(e.step, pytest.approx(e.value)) for e in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_curves_are_the_columns_by_epoch(tmp_path: Path) -> None:
    write_metrics(tmp_path / "fine", ROWS, {"finished": True})
    for _ in range(2):  # the second call replaces what the first one wrote
        result = command("tensorboard", tmp_path / "fine", "--out", tmp_path / "logs")
        assert "2 rows of 1 runs" in result.output
    assert read(tmp_path / "logs" / "fine") == {
        "lr": [(1, 0.1), (2, 0.05)],
        "loss": [(1, 2.5), (2, 1.5)],
        "val/accuracy": [(2, 0.8)],
    }


def test_watching_adds_new_rows_until_the_run_is_over(tmp_path: Path) -> None:
    run = tmp_path / "fine"
    write_metrics(run, ROWS[:1], {"finished": False})
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            write_metrics(run, ROWS, {"finished": True})

    assert write_events([run], tmp_path / "logs", 7.0, sleep) == 2
    assert waited == [7.0, 7.0]
    assert read(tmp_path / "logs" / "fine")["loss"] == [(1, 2.5), (2, 1.5)]


def test_steps_are_counted_where_the_log_counts_none() -> None:
    assert scalars({"step": "50", "loss": "2", "note": "x", "empty": ""}, 3) == (50, {"loss": 2.0})
    assert scalars({"loss": "2"}, 3) == (3, {"loss": 2.0})


def test_folders_without_a_log_and_equal_names_are_named(tmp_path: Path) -> None:
    assert "no such log" in refused("tensorboard", tmp_path, "--out", tmp_path / "logs")
    for folder in ("a", "b"):
        write_metrics(tmp_path / folder / "fine", ROWS, {"finished": True})
    runs = (tmp_path / "a" / "fine", tmp_path / "b" / "fine")
    assert "two runs are called fine" in refused("tensorboard", *runs, "--out", tmp_path / "logs")


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    sentence = refused("tensorboard", tmp_path, "--out", tmp_path / "logs")
    assert "pip install '.[tensorboard]'" in sentence
