"""`sspl settings`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sspl.cli.completion import preset_names
from sspl.cli.options import json_option, say

if TYPE_CHECKING:
    from pydantic import BaseModel

COMMANDS = ("pretrain", "finetune", "probe", "parser", "benchmark")


@click.command()
@click.argument("command", type=click.Choice(COMMANDS))
@click.option(
    "--preset",
    shell_complete=preset_names,
    help="Whose values are the defaults, for pretrain and finetune.  [default: small]",
)
@json_option
def settings(command: str, preset: str | None, as_json: bool) -> None:
    """List the settings of COMMAND: key, default, which values there are, what it is for.

    Give them to COMMAND as key=value; null stands for nothing, [] marks what a list has several
    of, NAME what is called as you like.
    """
    from sspl.settings.keys import keys_of

    keys = keys_of(settings_of(command, preset))
    rows = [(key.name, f"= {key.default}", key.kind, key.says) for key in keys]
    widths = [min(max(len(row[i]) for row in rows), 32) for i in range(3)]
    lines = (
        "  ".join([*(f"{c:<{w}}" for c, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
    say("\n".join(lines), [asdict(key) for key in keys], as_json)


def settings_of(command: str, preset: str | None = None) -> "BaseModel | type[BaseModel]":
    """Return the settings of a command: their model, or what they are with a preset.

    Raises `SettingsError` for a preset that is unknown, or given for a command without any.
    """
    from sspl.errors import SettingsError
    from sspl.settings import build
    from sspl.training import stage_settings

    name = preset or "small"
    if command == "pretrain":
        return build(stage_settings.PretrainSettings, stage_settings.preset(name, "pretrain"))
    if command == "finetune":
        return build(stage_settings.FinetuneSettings, stage_settings.preset(name, "finetune"))
    if preset is not None:
        raise SettingsError(f"--preset: {command} has none; leave it out.")
    if command == "probe":
        return stage_settings.ProbeSettings
    if command == "parser":
        from sspl.parsing.parser_settings import ParserSettings

        return ParserSettings
    from sspl.study.study_settings import StudySettings

    return StudySettings
