"""Run folders: everything that is needed to read a result or to make it again."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import metadata as installed
from pathlib import Path
from typing import Any, Final

from sspl import __version__
from sspl.distributed.group import agreed, is_first
from sspl.errors import SsplError
from sspl.io.files import write_csv, write_json, write_text
from sspl.io.locks import claimed
from sspl.io.resuming import Extent, require_same_settings
from sspl.io.run_files import (
    METRICS_CSV,
    METRICS_JSON,
    RUN_FILE,
    SETTINGS_FILE,
    finished,
    has_state,
    require_new,
    rows_done,
)
from sspl.settings import Settings, dump_yaml

VERSIONED: Final = ("torch", "numpy", "pillow", "safetensors", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    found = {"sspl": __version__, "python": platform.python_version()}
    return found | {name: installed.version(name) for name in VERSIONED}


@contextmanager
def claimed_run(folder: Path) -> Iterator[None]:
    """Let no other run write this folder; of several processes of one run the first claims it.

    Raises `SsplError` as `sspl.io.locks.claimed`, in all processes.
    """
    with ExitStack() as held:
        agreed(lambda: held.enter_context(claimed(folder, folder=True)) if is_first() else None)
        yield


def start_run(
    folder: Path,
    kind: str,
    settings: Settings,
    seed: int,
    resume: bool,
    extent: Extent | None = None,
    inputs: Callable[[bool], None] = lambda _: None,
) -> None:
    """Make a run folder with its settings, versions and seed, or go on in one.

    Args:
        folder, kind, settings, seed, resume: the run's.
        extent: lets it become longer, see `require_same_settings`.
        inputs: told whether a run goes on; notes or compares what it is of.

    Raises `SsplError` when the folder already holds a run and `resume` is off, or when the run to
    be resumed had other settings.
    """
    settings_file = folder / SETTINGS_FILE
    text = dump_yaml(settings)
    if settings_file.exists():
        require_new(folder, resume)
        other = require_same_settings(settings_file, settings, extent, rows_done(folder))
        if extent and extent[0] in other and finished(folder) and not has_state(folder):
            raise SsplError(
                f"{folder} is finished, and its state for going on is not there any more; "
                "choose another --out."
            )
        inputs(True)
        if settings_file.read_bytes() != text.encode("utf-8"):
            write_text(settings_file, text)
        return
    write_json(
        folder / RUN_FILE,
        {
            "kind": kind,
            "seed": seed,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "platform": platform.platform(),
        },
    )
    inputs(False)
    write_text(settings_file, text)


def write_metrics(
    folder: Path, rows: Sequence[Mapping[str, Any]], final: Mapping[str, Any]
) -> None:
    """Write the log as CSV (one row an epoch or interval) and the final figures as JSON."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(folder / METRICS_CSV, header, ([row.get(key) for key in header] for row in rows))
    write_json(folder / METRICS_JSON, final)
