"""Tasks that users keep in files of their own, named as FILE.py:CLASS."""

from sspl.domain.taxonomy import Taxonomy
from sspl.errors import SettingsError
from sspl.models.trunk import Trunk
from sspl.tasks.base import PretextTask
from sspl.user_code import load_user_code


class UserTask(PretextTask):
    """What a task from a file looks like to the pre-trainer."""

    def __init__(self, trunk: Trunk, taxonomy: Taxonomy, input_size: int) -> None:
        """Build the head for a trunk's feature maps and pictures of `input_size` px."""
        super().__init__()


def load_task(text: str) -> type[UserTask]:
    """Return the task class that FILE.py:CLASS names; the file is run, so use none you don't trust.

    Raises `SettingsError` when the file is not there or has no such `UserTask`.
    """
    found = load_user_code(text, "tasks")
    if not (isinstance(found, type) and issubclass(found, UserTask)):
        file, _, name = text.rpartition(":")
        raise SettingsError(f"tasks: {file} has no class '{name}' derived from UserTask.")
    return found
