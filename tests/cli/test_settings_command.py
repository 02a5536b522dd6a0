"""`sspl settings`: a line for each key, and the same as JSON."""

import json

import pytest
from click.testing import CliRunner

from sspl.cli.main import cli
from sspl.errors import SettingsError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["settings", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_line_says_key_default_values_and_what_for() -> None:
    (line,) = (line for line in run("pretrain").splitlines() if line.startswith("optim.epochs "))
    assert line.split() == [
        "optim.epochs",
        "=",
        "40",
        "whole",
        "number",
        "from",
        "1",
        "passes",
        "over",
        "the",
        "faces",
    ]


def test_a_preset_brings_its_values() -> None:
    found = json.loads(run("pretrain", "--preset", "paper-sspl", "--json"))
    (key,) = (key for key in found if key["name"] == "optim.epochs")
    assert key["default"] == "80"


def test_presets_that_are_not_there_are_refused() -> None:
    with pytest.raises(SettingsError, match="--preset: parser has none"):
        run("parser", "--preset", "small")
    with pytest.raises(SettingsError, match="unknown preset 'tiny'"):
        run("pretrain", "--preset", "tiny")
