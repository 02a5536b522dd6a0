"""Bars are for people who look; a log gets a line now and then."""

import io
import logging
import sys

import pytest

from sspl.io.progress import counted, note, watched


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
