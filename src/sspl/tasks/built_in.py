"""Which tasks of stage 1 there are, and what the settings say of each, known without torch."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from sspl.errors import SettingsError
from sspl.io.user_code import is_user_code
from sspl.settings import Settings, build

BUILT_IN: Final[Mapping[str, str]] = {
    # The paper's three, then those of other papers, to compare with.
    "prt": "PatchRotation",
    "pst": "PatchSegmentation",
    "pct": "PatchClassification",
    "rotnet": "WholeRotation",
    "location": "RelativeLocation",
    "simclr": "SimCLR",
    "byol": "BYOL",
    "colourise": "Colourisation",
    "masked": "MaskedModelling",
    # Ours, for faces whose labels are free.
    "attributes": "KnownAttributes",
}
"""The tasks by name, which is also their file's, and their classes; a new one needs a line here."""


def require_task(task: str) -> None:
    """Raise `SettingsError` for what is neither a built-in task nor FILE.py:CLASS."""
    if task not in BUILT_IN and not is_user_code(task):
        raise SettingsError(f"tasks: '{task}' is none of {', '.join(BUILT_IN)}, nor FILE.py:CLASS.")


class TaskSettings(Mapping[str, Settings]):
    """The settings of every built-in task and of the user's, each of the task's own model.

    The models stand in the tasks' files, which need torch: fields are checked at once where torch
    is loaded already, and else when somebody asks for them. Tasks and names are checked at once.

    Args:
        given: what is set, by the task's name.
        tasks: of the run; the files of the user's are run.

    Raises `SettingsError` naming a field that does not fit by its path, or a task that is unknown.
    """

    def __init__(self, given: Mapping[str, Any], tasks: Iterable[str]) -> None:
        self._given, self._tasks = given, tuple(tasks)
        for task in self._tasks:
            require_task(task)
        self._names = tuple(BUILT_IN if BUILT_IN.keys() >= {*self._tasks} else self._models)
        for name in given:
            if name not in self._names:
                raise SettingsError(
                    f"task.{name}: no task has this name; use {', '.join(self._names)}."
                )
        if "torch" in sys.modules:
            self._checked  # noqa: B018

    @cached_property
    def _models(self) -> dict[str, type[Settings]]:
        from sspl.tasks.loading import TASKS, task_kinds

        own = task_kinds(task for task in self._tasks if task not in BUILT_IN)
        return {kind.name: kind.Settings for kind in (*TASKS, *own.values())}

    @cached_property
    def _checked(self) -> dict[str, Settings]:
        return {
            name: build(model, self._given.get(name, {}), where=f"task.{name}")
            for name, model in self._models.items()
        }

    def __getitem__(self, name: str) -> Settings:
        return self._checked[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return repr(dict(self))
