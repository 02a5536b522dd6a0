"""The pages at the top of the repository: short, and true of what is there."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml

from sspl import __version__
from sspl.cli.main import cli
from sspl.data.adapters import ADAPTERS
from sspl.models.backbones import BACKBONES
from sspl.tasks.built_in import BUILT_IN
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = re.compile(r"^(?:\$ )?sspl (.+)$", re.M)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def unknown(line: str) -> list[str]:
    """The first word of a command line that is no command, or its options that are none."""
    command: click.Command = cli
    words = re.sub(r"'[^']*'", "VALUE", line.partition(" #")[0]).split()
    while isinstance(command, click.Group):
        if not words or not words[0][0].isalpha():  # of `sspl --help`, or of "sspl ..."
            return []
        found = command.commands.get(words[0])
        if found is None:
            return [words[0]]
        command, words = found, words[1:]
    known = {name for option in command.params for name in option.opts + option.secondary_opts}
    return [w for w in words if w.startswith("--") and w not in {*known, "--help"}]


def test_readme_is_short_and_its_commands_are_there() -> None:
    assert page("README.md").count("\n") <= 110
    lines = COMMANDS.findall(page("README.md"))
    assert len(lines) > 8
    assert [w for line in lines for w in unknown(line)] == []
    assert unknown("predict run --nothing") == ["--nothing"]
    assert unknown("model nothing") == ["nothing"]


def test_commands_of_every_page_are_there() -> None:
    """In blocks, and `sspl ...` within a sentence or a table."""
    for path in sorted(ROOT.glob("docs/**/*.md")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = COMMANDS.findall(text) + re.findall(r"`sspl ([^`]+)`", text)
        assert [w for line in lines for w in unknown(line)] == [], path.name


def test_make_has_the_targets_that_pages_name() -> None:
    targets = re.findall(r"^([a-z-]+):", page("Makefile"), re.M)
    named = re.findall(r"\bmake ([a-z-]+)", page("README.md") + page("CONTRIBUTING.md"))
    commands = [name for name in named if name in {"demo", "test", "lint", "docs", "mutation"}]
    assert set(commands) <= set(targets)
    assert len(set(commands)) == 5


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == __version__
    assert yaml.safe_load(page("CITATION.cff"))["version"] == __version__
    assert f"## {__version__.partition('.dev')[0]} " in page("CHANGELOG.md")


def test_citation_has_what_the_format_asks_for() -> None:
    content = yaml.safe_load(page("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= content.keys()
    for work in content["references"]:
        assert {"type", "title", "authors", "year"} <= work.keys()
    assert content["references"][0]["doi"] == "10.1109/CVPR46437.2021.01174"


def test_contributing_names_lists_and_layers_that_are_there() -> None:
    text = page("CONTRIBUTING.md")
    for name in re.findall(r"`((?:src|tests|tools|examples|docs)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name
    layers = text.partition("## Layers")[2].partition("## Add a task")[0]
    packages = {p.name for p in (ROOT / "src" / "sspl").iterdir() if (p / "__init__.py").is_file()}
    rows = re.findall(r"^\| (`.+?) \|", layers, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert packages <= named
    assert {"`BUILT_IN`", "`ADAPTERS`", "`BACKBONES`"} <= set(re.findall(r"`[A-Z_]+`", text))
    assert all((BUILT_IN, ADAPTERS, BACKBONES))


def table(title: str) -> list[tuple[list[str], list[str]]]:
    """Rows of a table of the changes: what was in backquotes on the left, and on the right."""
    part = page("CHANGELOG.md").partition(f"### {title}\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| ([^|]*`[^|]*) \| ([^|]*) \|$", part, re.M)
    return [(re.findall(r"`([^`]+)`", a), re.findall(r"`([^`]+)`", b)) for a, b in rows]


def test_settings_are_renamed_to_what_is_there() -> None:
    fields = PretrainSettings.model_fields.keys() & FinetuneSettings.model_fields.keys()
    assert {"backbone", "backbone_weights"} <= fields
    new = {name for _, names in table("Settings renamed") for name in names}
    tasks = {name.removeprefix("task.").removesuffix(".*") for name in new if "task." in name}
    assert tasks - {"NAME"} <= BUILT_IN.keys()
    assert len(tasks) > 8


def test_modules_moved_to_where_the_changes_say() -> None:
    rows = table("Modules moved")
    assert len(rows) > 10
    for before, after in rows:
        homes = after if after != ["io."] else [f"io.{name}" for name in before]
        package = ""
        for name in homes:
            package = name.rpartition(".")[0] or package
            full = f"sspl.{package}.{name.removeprefix(package).removeprefix('.')}"
            assert find_spec(full), full
        for name in before:
            if name.startswith(".") or name == "onnx" or name in {"demo"}:
                continue
            assert _gone(f"sspl.{name}") or name in {"tasks.pst", "weights"}, name


def _gone(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ModuleNotFoundError:
        return True


@pytest.mark.parametrize("hook", ["ruff", "ruff-format", "mypy"])
def test_hooks_run_what_lint_runs(hook: str) -> None:
    hooks = yaml.safe_load(page(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    entry = next(h["entry"] for h in hooks if h["id"] == hook)
    command = entry.removeprefix(".venv/bin/")
    assert f"$(BIN)/{command}" in page("Makefile")
