"""Faces of public data sets and of the user's own, as `sspl.data.records.FaceSet`."""

from typing import Final

from sspl.data.adapters.base import OPTIONS, Adapter
from sspl.data.adapters.celeba import CELEBA
from sspl.data.adapters.folder import FOLDER
from sspl.data.adapters.label_studio import LABEL_STUDIO
from sspl.data.adapters.lfwa import LFWA
from sspl.data.adapters.maad import MAAD
from sspl.data.adapters.packed import PACKED
from sspl.data.adapters.table import CSV
from sspl.data.adapters.utkface import UTKFACE
from sspl.errors import SettingsError
from sspl.io.user_code import is_user_code, load_user_code

__all__ = ["ADAPTERS", "FORMATS", "OPTIONS", "Adapter", "adapter_of", "format_fault"]

ADAPTERS: Final[tuple[Adapter, ...]] = (
    CSV, LABEL_STUDIO, PACKED, CELEBA, LFWA, MAAD, UTKFACE, FOLDER,
)  # fmt: skip
"""The data sets that `FORMAT:ROOT` knows by name; a new one needs its file and its place here.

A root without a format is read by the first that fits.
"""

_BY_NAME: Final = {adapter.name: adapter for adapter in ADAPTERS}
FORMATS: Final = tuple(_BY_NAME)


def format_fault(name: str) -> str | None:
    """Return what is wrong with a format that is neither of `FORMATS` nor FILE.py:NAME."""
    if name in FORMATS or is_user_code(name):
        return None
    return f"unknown data format '{name}'; use {', '.join(FORMATS)}, or FILE.py:NAME"


def adapter_of(name: str) -> Adapter:
    """Return the adapter of a format, or the one that FILE.py:NAME holds.

    The file is run, so use none that you don't trust. Raises `SettingsError` for an unknown
    format, and for a file that is not there or has no such `Adapter`.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    fault = format_fault(name)
    if fault is not None:
        raise SettingsError(f"{fault}.")
    found = load_user_code(name, "data")
    if not isinstance(found, Adapter):
        file, _, value = name.rpartition(":")
        raise SettingsError(f"data: {file} has no Adapter '{value}'.")
    return found
