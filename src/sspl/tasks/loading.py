"""From the names in the settings to task classes and their settings."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Final

from sspl.errors import SettingsError
from sspl.io.user_code import load_user_code
from sspl.settings import Settings
from sspl.tasks.base import PretextTask, TaskContext
from sspl.tasks.built_in import BUILT_IN, require_task

TASKS: Final[tuple[type[PretextTask], ...]] = tuple(
    getattr(import_module(f"sspl.tasks.{name}"), kind) for name, kind in BUILT_IN.items()
)
"""The tasks that the settings know by name."""

RESERVED: Final = "adversarial"
"""Name of a term of the loss that is no task."""


def load_task(text: str) -> type[PretextTask]:
    """Return the task class that FILE.py:CLASS names; the file is run, so use none you don't trust.

    Raises `SettingsError` when the file is not there or has no such `PretextTask`.
    """
    found = load_user_code(text, "tasks")
    if not (isinstance(found, type) and issubclass(found, PretextTask)):
        file, _, name = text.rpartition(":")
        raise SettingsError(f"tasks: {file} has no class '{name}' derived from PretextTask.")
    return found


def task_kinds(tasks: Iterable[str]) -> dict[str, type[PretextTask]]:
    """Return the class of each task by the task's own name, in the order given.

    `tasks` are names of `sspl.tasks.TASKS` and FILE.py:CLASS. Raises `SettingsError` for a name
    that is neither, and for two tasks of one name.
    """
    known = {kind.name: kind for kind in TASKS}
    kinds: dict[str, type[PretextTask]] = {}
    for task in tasks:
        if task in known:
            kinds[task] = known[task]
            continue
        require_task(task)
        kind = load_task(task)
        if kind.name in (*known, *kinds, RESERVED):
            raise SettingsError(
                f"tasks: the name '{kind.name}' of {task} is taken; choose another."
            )
        kinds[kind.name] = kind
    return kinds


def build_tasks(
    tasks: Iterable[str], settings: Mapping[str, Settings], context: TaskContext
) -> dict[str, PretextTask]:
    """Build the tasks of a network, by their own names."""
    return {name: kind(settings[name], context) for name, kind in task_kinds(tasks).items()}
