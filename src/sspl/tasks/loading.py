"""Tasks that users keep in files of their own, named as FILE.py:CLASS."""

import importlib.util
from pathlib import Path

from sspl.domain.taxonomy import Taxonomy
from sspl.errors import SettingsError
from sspl.models.trunk import Trunk
from sspl.tasks.base import PretextTask


class UserTask(PretextTask):
    """What a task from a file looks like to the pre-trainer."""

    def __init__(self, trunk: Trunk, taxonomy: Taxonomy, input_size: int) -> None:
        """Build the head for a trunk's feature maps and pictures of `input_size` px."""
        super().__init__()


def is_task_file(text: str) -> bool:
    """Tell whether `text` has the form FILE.py:CLASS."""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def load_task(text: str) -> type[UserTask]:
    """Return the task class that FILE.py:CLASS names; the file is run, so use none you don't trust.

    Raises `SettingsError` when the file is not there or has no such `UserTask`.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SettingsError(f"tasks: {path} is not there; give the path of a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, UserTask)):
        raise SettingsError(f"tasks: {path} has no class '{name}' derived from UserTask.")
    return found
