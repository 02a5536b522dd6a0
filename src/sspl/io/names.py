"""Names of pictures from anywhere: what one may be, and where it leads below a folder."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sspl.errors import DataError

REMEDY: Final = "give a path relative to the folder of images"

_OUTSIDE: Final = re.compile(r"[/\\]|[A-Za-z]:|\.\.(?:[/\\]|$)|.*[/\\]\.\.(?:[/\\]|$)", re.DOTALL)
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DEVICE: Final = re.compile(
    r"(?:^|[/\\])(?:con|prn|aux|nul|com\d|lpt\d)(?:\.[^/\\]*)?(?:[/\\]|$)", re.IGNORECASE
)
"""What Windows takes for a device, with any suffix."""


_PLAIN: Final = re.compile(
    r"(?:(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:[./]|$))\w[\w.-]*(?:/|$))+(?<!/)",
    re.ASCII | re.IGNORECASE,
)
"""Names that are clean as they stand, no device's among them: nearly all there are."""


_ODD_IN_NAMES: Final = re.compile(
    r"[^\w./\n-]|(?:^|[/\n])(?:[./\n-]|$|(?:con|prn|aux|nul|com\d|lpt\d)(?:[./\n]|$))|/$",
    re.ASCII | re.IGNORECASE,
)
"""What lines of names have of which one may be no plain name."""


def are_plain_names(raw: Iterable[str]) -> bool:
    """Tell, at once of many names, that `is_plain_name` is so of each; false may be wrong."""
    names = list(raw)
    text = "\n".join(names)
    return text.count("\n") == len(names) - 1 and _ODD_IN_NAMES.search(text) is None


def is_plain_name(raw: str) -> bool:
    """Tell, soon, that a name is clean as it stands; of others `clean_name` tells."""
    return _PLAIN.fullmatch(raw) is not None


def folded(text: str) -> str:
    """Return a name as systems see it that ignore case and the form of accents."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def clean_name(raw: str) -> str:
    """Return the name of a picture as a clean relative POSIX path.

    Raises `ValueError` when it is none: empty, absolute, with a drive letter, out of its folder,
    the name of a device, or with characters (but a tab) that control a terminal or are no text. A
    backslash is part of the name here, but may not lead out where it is taken for a slash.
    """
    if is_plain_name(raw):
        return raw
    name = posixpath.normpath(raw) if raw else ""
    if (
        not name
        or posixpath.normpath(name.replace("\\", "/")) == "."
        or _OUTSIDE.match(name)
        or _UNWRITABLE.search(name)
        or _DEVICE.search(name)
    ):
        raise ValueError(f"{raw!r} is no image name; {REMEDY}")
    return name


def printable(text: str) -> str:
    """Return a text in which bytes of file names that are no UTF-8 stand as such, `\\xe9` say."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def require_utf8(name: str) -> None:
    """Raise `DataError` for the name of a file that no list or table could hold."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{printable(name)}: the file name is not UTF-8 but an older encoding, Latin-1 "
            "perhaps; rename the file."
        ) from None


def require_clean(names: Iterable[str], where: str) -> None:
    """Raise `DataError`, beginning with `where`, for the first name that is not a clean one."""
    for name in names:
        try:
            clean = clean_name(name)
        except ValueError as error:
            raise DataError(f"{where}: {error}.") from None
        if clean != name:
            raise DataError(f"{where}: {name!r} is no image name; '{clean}' would be one.")


def path_below(folder: Path, name: str) -> Path:
    """Return the place of a name below a folder that is written to.

    Raises `DataError` for what is no name, and where a link inside the folder leads out of it.
    """
    require_clean([name], str(folder))
    path = folder / name
    real = Path(os.path.realpath(path.parent))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise DataError(
            f"{path.parent} is a link that leads out of {folder}; remove it, or choose another "
            "folder."
        )
    return path


def require_own_places(names: Iterable[str], places: Iterable[Path], where: str) -> None:
    """Raise `DataError`, beginning with `where`, for two names that would go to one file."""
    seen: dict[Path, str] = {}
    for name, place in zip(names, places, strict=True):
        other = seen.setdefault(place, name)
        if other != name:
            raise DataError(
                f"{where}: '{other}' and '{name}' would both be written to {place}; rename one "
                "of them."
            )
