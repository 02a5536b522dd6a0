"""What the shell completes beyond commands and options; only settings of tasks load torch."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

Completed = Callable[[click.Context, click.Parameter, str], list[str]]


def preset_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the presets that begin so."""
    from sspl.training.stage_settings import PRESETS

    return _beginning(PRESETS, begun)


def study_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the studies of the package that begin so."""
    from sspl.study.study_settings import packaged_studies

    return _beginning(packaged_studies(), begun)


def keys_for(command: str) -> Completed:
    """Return what completes the settings of a command as `KEY=`."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from sspl.cli.settings import settings_of
        from sspl.settings import LATE
        from sspl.settings.keys import keys_of

        without = "" if begun.startswith(f"{LATE}.") else LATE
        keys = keys_of(settings_of(command), without=without)
        names = _beginning((key.name for key in keys), begun)
        return [f"{name}=" for name in names if "[]" not in name and "NAME" not in name]

    return complete


def attribute_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return CelebA's attributes that begin so, behind those that the list has already."""
    from sspl.domain.attributes import celeba_schema

    before, comma, last = begun.rpartition(",")
    names = (name for name in celeba_schema().names if name not in before.split(","))
    return [f"{before}{comma}{name}" for name in _beginning(names, last)]


def threshold_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the attributes of RUN, a run folder or packed model, that begin so, as `NAME=`."""
    run = context.params.get("run")
    names = () if run is None else _attributes_of(Path(run))
    return [f"{name}=" for name in _beginning(names, begun)]


def _attributes_of(run: Path) -> Iterable[str]:
    from sspl.errors import SsplError
    from sspl.io.files import read_json

    for file, key in (("metrics.json", "label_counts"), ("config.json", "attributes")):
        try:
            content: Any = read_json(run / file)
            return [str(name) for name in content[key]]
        except (SsplError, OSError, LookupError, TypeError):
            continue
    return ()


def _beginning(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun)]
