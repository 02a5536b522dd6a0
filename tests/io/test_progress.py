"""Bars are for people who look; a log gets a line now and then."""

import io
import logging
import sys
from pathlib import Path

import pytest

from sspl.cli.options import ending
from sspl.io.progress import Pace, counted, note, watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "asked_for_quiet", "shown"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
)
def test_a_bar_is_shown_on_a_terminal_alone(
    stream: io.StringIO,
    asked_for_quiet: str,
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TQDM_DISABLE", asked_for_quiet)
    assert list(watched(range(3), "count")) == [0, 1, 2]
    with caplog.at_level(logging.INFO):
        note("epoch", 2, 5, {"loss": 0.123456, "val/accuracy": None})
    assert bool(stream.getvalue()) == shown
    assert ("epoch 2/5: loss 0.1235" in caplog.text) != shown


def test_things_are_counted_as_people_do() -> None:
    assert [counted(n, "face") for n in (0, 1, 2, 1200)] == [
        "0 faces", "1 face", "2 faces", "1,200 faces",
    ]  # fmt: skip


def test_the_rest_takes_as_long_as_the_pace_says() -> None:
    """From 1 of 5 epochs on: half an epoch in 30 s leaves 3.5 of them, or 210 s."""
    now = [100.0]
    pace = Pace(1.0, 5.0, lambda: now[0])
    assert pace.left(1.0) == ""
    now[0] = 130.0
    assert pace.left(1.5) == "about 4 min left"
    now[0] = 220.0
    assert pace.left(4.0) == "about 40 s left"
    assert pace.left(5.0) == ""


def test_a_line_of_the_log_ends_with_what_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        note("epoch", 2, 5, {"loss": 0.5}, "about 4 min left")
        note("epoch", 5, 5, {"loss": 0.25})
    assert [r.getMessage() for r in caplog.records] == [
        "epoch 2/5: loss 0.5, about 4 min left",
        "epoch 5/5: loss 0.25",
    ]


def test_the_end_rounds_its_figures_and_says_where_and_what_next() -> None:
    found = ending({"epoch": 3, "loss": 0.45679163932}, Path("fine"), 130.0, "sspl evaluate fine")
    assert [" ".join(line.split()) for line in found.splitlines()] == [
        "epoch 3",
        "loss 0.4568",
        "The run is in fine; it took 2 min.",
        "Next: sspl evaluate fine",
    ]
