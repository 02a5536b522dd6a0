"""The settings of every command, as a page of the documentation.

    python tools/settings_page.py

writes docs/settings.md from the models that check the settings. Run it when one of them changes: a
test holds the page to it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sspl.cli.settings import COMMANDS, settings_of
from sspl.settings.keys import Key, keys_of
from sspl.training.stage_settings import PRESETS

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
USED: Final = {
    "pretrain": "`sspl pretrain`, stage 1",
    "finetune": "`sspl finetune`, stage 2",
    "probe": "`sspl probe`, heads on frozen features",
    "parser": "`sspl parser train`",
    "benchmark": "`sspl benchmark`, a study",
}

INTRODUCTION: Final = """# Settings

Every setting that follows a command as `key=value`, or stands in a file for `--settings` or, of a
study, `--config`. Values are YAML: `null` is nothing, `[1, 2]` a list, which your shell wants in
quotes. `[]` in a key marks what a list has several of, such as data sets; those are given in a file
or by an option. `NAME` is called as you like. The defaults of both stages are those of the preset
`small`; what other presets change stands below them. On a terminal `sspl settings COMMAND
--preset PRESET` prints the same, and the shell completes the keys
([how](guide-engineer.md#habits-of-the-command-line)). Made by `python tools/settings_page.py`.
"""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for command in COMMANDS:
        keys = keys_of(settings_of(command))
        parts.append(f"\n## {USED[command]}\n\n{_table(keys)}")
        if command in ("pretrain", "finetune"):
            parts.append(f"\n### Where presets of {command} differ\n\n{_presets(command)}")
    return "".join(parts)


def _table(keys: list[Key]) -> str:
    rows = ((_code(k.name), _code(k.default), k.kind, k.says) for k in keys)
    return _rows(("Key", "Default", "Values", "What for"), rows)


def _presets(command: str) -> str:
    columns = [
        {k.name: k.default for k in keys_of(settings_of(command, preset))} for preset in PRESETS
    ]
    names = [n for n in columns[0] if len({column[n] for column in columns}) > 1]
    rows = ((_code(n), *(_code(column[n]) for column in columns)) for n in names)
    return _rows(("Key", *PRESETS), rows)


def _rows(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
