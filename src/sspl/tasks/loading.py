"""From the names in the settings to task classes and their settings."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sspl.errors import SettingsError
from sspl.io.user_code import is_user_code, load_user_code
from sspl.settings import Settings, build
from sspl.tasks import TASKS
from sspl.tasks.base import PretextTask, TaskContext

BUILT_IN: Final = tuple(kind.name for kind in TASKS)
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
        if not is_user_code(task):
            raise SettingsError(
                f"tasks: '{task}' is none of {', '.join(BUILT_IN)}, nor FILE.py:CLASS."
            )
        kind = load_task(task)
        if kind.name in (*known, *kinds, RESERVED):
            raise SettingsError(
                f"tasks: the name '{kind.name}' of {task} is taken; choose another."
            )
        kinds[kind.name] = kind
    return kinds


def task_settings(given: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Settings]:
    """Return the settings of every built-in task and of the user's, each of the task's own model.

    Raises `SettingsError` naming a field that does not fit by its path, or a task that is unknown.
    """
    kinds = {kind.name: kind for kind in TASKS} | task_kinds(tasks)
    for name in given:
        if name not in kinds:
            raise SettingsError(f"task.{name}: no task has this name; use {', '.join(kinds)}.")
    return {
        name: build(kind.Settings, given.get(name, {}), where=f"task.{name}")
        for name, kind in kinds.items()
    }


def build_tasks(
    tasks: Iterable[str], settings: Mapping[str, Settings], context: TaskContext
) -> dict[str, PretextTask]:
    """Build the tasks of a network, by their own names."""
    return {name: kind(settings[name], context) for name, kind in task_kinds(tasks).items()}
