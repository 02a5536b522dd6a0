"""Python files of the user's own, named as FILE.py:NAME."""

import importlib.util
from pathlib import Path
from typing import Any

from sspl.errors import SettingsError


def is_user_code(text: str) -> bool:
    """Tell whether `text` has the form FILE.py:NAME."""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def absolute(text: str) -> str:
    """Return FILE.py:NAME with the file's whole path, so that it holds in any folder."""
    return str(Path(text).absolute())


def load_user_code(text: str, field: str) -> Any:
    """Return what FILE.py:NAME names, None if the file has no such name.

    The file is run, so use none that you don't trust. Raises `SettingsError`, beginning with the
    setting's name, when the file is not there.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SettingsError(f"{field}: {path} is not there; give the path of a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name, None)
