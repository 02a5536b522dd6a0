"""Pictures that a list names in another spelling than their folder does."""

import os
import posixpath
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote

from sspl.data.adapters.masks import looks_like_mask
from sspl.data.records import IMAGE_SUFFIXES
from sspl.errors import DataError
from sspl.io.names import clean_name, folded

SIGNS: Final = "backslashes or percent signs"
UNICODE: Final = "another Unicode form of a letter"
CASE: Final = "capital and small letters"
NO_ENDING: Final = "a missing ending"
ENDING: Final = "another ending"
_SAME: Final = (SIGNS, UNICODE)
"""Spellings that mean the same picture, whatever else the list names."""

_RANKS: Final = (UNICODE, CASE, NO_ENDING, ENDING)


@dataclass(frozen=True)
class Found:
    """A picture under the name that it has on disk, and how the list's name differs."""

    name: str
    how: str


def present(root: Path, names: Iterable[str]) -> set[str]:
    """Return those names that are files, listing each folder once (no stat per file)."""
    there: set[str] = set()
    for folder in set(map(_above, names)):
        there.update(posixpath.join(folder, e.name) for e in _listed(root / folder) if is_file(e))
    return there


def not_present(root: Path, names: Iterable[str]) -> set[str]:
    """Return those names that are no files, listing each folder once; there may be millions."""
    absent = set(names)
    for folder in set(map(_above, absent)):
        absent.difference_update(
            posixpath.join(folder, e.name) for e in _listed(root / folder) if is_file(e)
        )
    return absent


def respelled(root: Path, absent: Collection[str], there: Collection[str]) -> dict[str, Found]:
    """Find pictures under other spellings of their names.

    Backslashes stand for slashes, `%20` for a blank; composed and decomposed letters are one;
    then case counts no more, then a missing ending, then which ending it is. The first of these
    that fits one picture alone decides. Only folders that can hold such a picture are listed.

    Args:
        root: folder of the images.
        absent: names that no file has.
        there: names of the list that are files.

    Returns:
        What was found, by the name in the list.
    """
    odd = (name for name in absent if "\\" in name or "%" in name)
    variants = {name: found for name in odd if (found := list(_variants(name)))}
    files = present(root, (v for found in variants.values() for v in found))
    result = {}
    for name, spellings in variants.items():
        exact = next((v for v in spellings if v in files), None)
        if exact is not None:
            result[name] = Found(exact, SIGNS)
    # Of millions of names hardly one may lie in a folder that is there.
    last = {name: found[-1] for name, found in variants.items()}
    below: dict[str, list[str]] = {}
    for name in absent:
        below.setdefault(_above(last.get(name, name)), []).append(name)
    folders = _folders(root, {folded(folder) for folder in below})
    near = (names for folder, names in below.items() if folded(folder) in folders)
    left = (name for names in near for name in names if name not in result)
    spelled = ((name, last.get(name, name)) for name in left)
    rest = {name: (spelling, _key(spelling)) for name, spelling in spelled}
    candidates = _pictures(root, folders, {key for _, key in rest.values()})
    for name, (spelling, key) in rest.items():
        best = _best(root, spelling, candidates.get(key, ()))
        if best is not None and (best.how in _SAME or best.name not in there):
            result[name] = best
    return result


def alike(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence on a name that is not among `names`: which one is like it."""
    spelling = ([name, *_variants(name)])[-1]
    for other in names:
        if _key(other) == _key(spelling):
            how = SIGNS if other == spelling else _difference(spelling, other)
            return f"; '{other}' is, which differs by {how}"
    return ""


def elsewhere(root: Path, name: str, settable: bool = True) -> str:
    """Return the end of a sentence on a name that is not there: what is, or where it is.

    Without `settable` it names no setting of data sets.
    """
    spelling = ([name, *_variants(name)])[-1]
    folders = _folders(root, {_folder_of(spelling)})
    near = sorted(_pictures(root, folders, {_key(spelling)}).get(_key(spelling), ()))
    if near:
        shown = ", ".join(f"'{other}' ({_difference(spelling, other)})" for other in near[:3])
        return f"; like it are {shown}, of which none is it for sure: write the name as it is there"
    inner = [entry.name for entry in _listed(root) if is_folder(entry)]
    for folder in inner:
        if (root / folder / spelling).is_file():
            there = root / folder
            remedy = f"set images={there}" if settable else "give that folder"
            return f"; it is in {there}: {remedy}"
    parts = PurePosixPath(spelling).parts
    for start in range(1, len(parts)):
        rest = posixpath.join(*parts[start:])
        if (root / rest).is_file():
            return f"; there is '{rest}': take '{posixpath.join(*parts[:start])}/' out of the list"
    return ""


def _variants(name: str) -> Iterator[str]:
    """Yield what a name may be written for, where that is a clean name too."""
    slashed = name.replace("\\", "/")
    for spelling in (slashed, unquote(slashed)):
        try:
            clean = clean_name(spelling)
        except ValueError:
            continue
        if clean != name:
            yield clean


def _has_ending(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _key(name: str) -> str:
    return folded(posixpath.splitext(name)[0] if _has_ending(name) else name)


def _above(name: str) -> str:
    """Return the folder of a clean name: `posixpath.dirname`, of millions of names."""
    return name.rpartition("/")[0]


def _folder_of(name: str) -> str:
    return folded(_above(name))


def _folders(root: Path, wanted: set[str]) -> dict[str, list[str]]:
    """Return the folders that are there, by the folded name for which they are wanted."""
    above = {""}
    for folder in wanted:
        parent = posixpath.dirname(folder)
        while parent not in above:
            above.add(parent)
            parent = posixpath.dirname(parent)
    found: dict[str, list[str]] = {"": [""]} if "" in wanted else {}
    waiting = [""] if wanted - {""} else []
    while waiting:
        folder = waiting.pop()
        for entry in _listed(root / folder):
            name = posixpath.join(folder, entry.name)
            same = folded(name)
            if (same in wanted or same in above) and is_folder(entry):
                if same in wanted:
                    found.setdefault(same, []).append(name)
                if same in above:
                    waiting.append(name)
    return found


def _pictures(
    root: Path, folders: Mapping[str, Sequence[str]], keys: set[str]
) -> dict[str, list[str]]:
    """Return the pictures of each key in these folders."""
    found: dict[str, list[str]] = {}
    for folder in (f for there in folders.values() for f in there) if keys else ():
        for entry in _listed(root / folder):
            name = posixpath.join(folder, entry.name)
            if _has_ending(name) and (key := _key(name)) in keys and is_file(entry):
                found.setdefault(key, []).append(name)
    return found


def _difference(name: str, other: str) -> str:
    plain, there = (unicodedata.normalize("NFC", text) for text in (name, other))
    if plain == there:
        return UNICODE
    if folded(plain) == folded(there):
        return CASE
    return ENDING if _has_ending(name) else NO_ENDING


def _best(root: Path, name: str, candidates: Sequence[str]) -> Found | None:
    differences = {other: _difference(name, other) for other in candidates}
    for how in _RANKS:
        fitting = [other for other, difference in differences.items() if difference == how]
        if len(fitting) > 1:
            return None
        if fitting:
            unsure = how in (ENDING, NO_ENDING)
            is_mask = unsure and looks_like_mask(root / fitting[0])
            return None if is_mask else Found(fitting[0], how)
    return None


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error}).") from error


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file; a link to nowhere or to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder; a link to nowhere or to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
