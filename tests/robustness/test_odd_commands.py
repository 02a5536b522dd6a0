"""Some odd command lines, and that the generator sees what it looks for.

`python -m tests.robustness.odd_commands` gives all of them.
"""

from pathlib import Path

import click
import pytest
from tests.robustness import odd_commands
from tests.robustness.odd_commands import Ending, Line, all_lines, make_place, run_line, run_lines

from sspl.cli import main as entry

PART = 40


def test_odd_command_lines_end_with_one_sentence(tmp_path: Path) -> None:
    lines = all_lines()
    assert len(lines) >= 1000
    assert {line.about for line in lines} == {line.about for line in all_lines()}
    found = run_lines(lines[:PART], tmp_path)
    assert not [finding for row in found.values() for finding in row["findings"]]
    assert sum(row["lines"] for row in found.values()) == PART


def test_every_command_and_every_option_has_odd_lines() -> None:
    about = [line.about for line in all_lines()]
    for words, command in odd_commands.commands(entry.cli):
        for parameter in command.params:
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                start = f"{' '.join(words)}: {parameter.name}="
                assert any(text.startswith(start) for text in about) or parameter.name in (
                    "every",
                    "classes",
                    "judge_by",
                    "split",
                    "by",
                ), start


@pytest.mark.parametrize(
    ("ending", "what"),
    [
        (Ending(1, "", "", "KeyError: 'x'", ()), "raised KeyError"),
        (Ending(0, "", "", "", ()), "exit code 0"),
        (Ending(2, "", "Error: no.\n", "", ("out",)), "changed out"),
        (Ending(2, "", "Traceback (most recent call last)\nError: no.\n", "", ()), "a trace"),
        (Ending(2, "words", "Error: no.\n", "", ()), "on stdout"),
        (Ending(2, "", "", "", ()), "no one sentence"),
        (Ending(2, "", "Error: no.\nError: no.\n", "", ()), "no one sentence"),
    ],
)  # fmt: skip
def test_what_must_not_happen_is_found(ending: Ending, what: str) -> None:
    assert what in str(ending.fault(Line(("x",), "x")))
    assert Ending(2, "", "Usage: x\nTry 'x'\n\nError: no.\n", "", ()).fault(Line((), "x")) is None


def test_a_line_that_writes_or_raises_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    @click.argument("what")
    def command(what: str) -> None:
        Path("new").touch()
        raise ZeroDivisionError(what)

    monkeypatch.setattr(entry, "cli", command)
    ending = run_line(Line(("x",), "x"), make_place(tmp_path / "place"))
    assert ending.raised == "ZeroDivisionError: x"
    assert ending.changed == ("new",)
