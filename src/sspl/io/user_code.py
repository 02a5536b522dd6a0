"""Python files of the user's own, named as FILE.py:NAME.

Settings that a user writes name such files, and they are run. A model may come from anyone: it
says which code it needs by name and SHA-256, and that runs only once the user has named the file.
"""

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Any, Final

from sspl.errors import SettingsError

PINNED: Final = r"^[^/\\:@]+\.py:[A-Za-z_][A-Za-z0-9_]*@[0-9a-f]{64}$"
"""FILE.py:NAME@SHA-256 of a file whose folder is left out."""

_trusted: dict[str, Path] = {}


def is_user_code(text: str) -> bool:
    """Tell whether `text` has the form FILE.py:NAME."""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def file_of(text: str) -> Path:
    """Return the file of FILE.py:NAME; of any other text the file that it names."""
    return Path(text.rpartition(":")[0] if is_user_code(text) else text)


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


def trust(text: str) -> str:
    """Let models run the file of FILE.py:NAME in this process; return `PINNED` of it.

    Raises `SettingsError` for another form, and for a file that is not there.
    """
    file, _, name = text.rpartition(":")
    path = Path(file).absolute()
    if not is_user_code(text) or not re.match(PINNED, f"{path.name}:{name}@{'0' * 64}"):
        raise SettingsError(f"'{text}' does not have the form FILE.py:CLASS.")
    if not path.is_file():
        raise SettingsError(f"{file} is not there; give the path of a Python file.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _trusted[digest] = path
    return f"{path.name}:{name}@{digest}"


def forget(pinned: str) -> None:
    """Run the file no longer that `trust` gave this name."""
    _trusted.pop(pinned.rpartition("@")[2], None)


def load_trusted(pinned: str, option: str) -> Any:
    """Return what FILE.py:NAME@SHA-256 names, None if the file has no such name.

    Raises `SettingsError` where the user has not named that very file with the option.
    """
    code, _, digest = pinned.partition("@")
    path = _trusted.get(digest)
    if path is None:
        others = ", ".join(f"{known} has {other}" for other, known in _trusted.items())
        raise SettingsError(
            f"this model needs {code} with SHA-256 {digest}, and code runs only where you name its "
            f"file: if you trust it, add {option} {code}{others and f' ({others})'}."
        )
    return load_user_code(f"{path}:{code.rpartition(':')[2]}", option)
