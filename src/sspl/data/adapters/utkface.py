"""UTKFace: age, gender and race stand in the name of each picture."""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from sspl.data.adapters.base import Adapter
from sspl.data.adapters.folder import kind_of, read_folder
from sspl.data.adapters.source import splits_by_name
from sspl.data.records import IMAGE_SUFFIXES, FaceSet
from sspl.domain.attributes import schema_for
from sspl.errors import DataError

log = logging.getLogger(__name__)

RACES: Final = ("White", "Black", "Asian", "Indian", "other")
OLDEST_DECADE: Final = 70

_NAME: Final = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+ ?(?:\.?j?pg)?(?:\.chip)?\.jpg")
_FAULTY: Final = re.compile(r"\d{1,3}_(?:\d*_){0,2}\d{8,} ?(?:\.?j?pg)?(?:\.chip)?\.jpg")
"""A name of the set in which gender or race is missing or none of those there are."""

_GUESSED: Final = re.compile(r"\d{1,3}_(?:\d*_){0,2}\d{14,} ?(?:\.?j?pg)?(?:\.chip)?\.jpg")
"""A name that no other set has: its date goes on to seconds at least."""

_SHOWN: Final = 10

_TRAIN, _VAL = 7, 8
"""Of ten parts of all names, the first seven are for training, the eighth for validation."""


def read_utkface(root: Path, split_file: Path | None = None) -> FaceSet:
    """Read UTKFace: the attribute `Male`, and `age` and `race` as groups.

    Names are `AGE_GENDER_RACE_DATE.jpg.chip.jpg` with gender 0 for male and 1 for female. Ages
    are grouped by decade, from 70 on together. UTKFace has no splits of its own and names no
    person; without `split_file` the split of a face follows from a hash of its file name (70 %
    train, 10 % val, 20 % test), so the pictures of one person may be in two splits. A few names
    as published lack gender or race, or have none of those there are: such pictures are left
    out, and the log lists them.

    Args:
        root: folder, with or without folders in it.
        split_file: CSV with columns `name,split`.

    Raises:
        DataError: for a picture of another name, and when none can be used.
    """
    faces = _without_faulty(read_folder(root))
    metadata = [_parse(root, name) for name in faces.names]
    ages, genders, races = zip(*metadata, strict=True)
    splits = splits_by_name(faces.names, split_file, root) if split_file else _hashed(faces.names)
    return replace(
        faces,
        schema=schema_for(["Male"]),
        splits=splits,
        labels=np.array([[gender == 0] for gender in genders], dtype=np.int8),
        groups={
            "age": tuple(age_group(age) for age in ages),
            "race": tuple(RACES[race] for race in races),
        },
    )


def age_group(age: int) -> str:
    """Return the decade of an age, such as `20-29`; from 70 on `70+`."""
    decade = age // 10 * 10
    return f"{decade}-{decade + 9}" if decade < OLDEST_DECADE else f"{OLDEST_DECADE}+"


def _without_faulty(faces: FaceSet) -> FaceSet:
    files = [PurePosixPath(name).name for name in faces.names]
    faulty = {i for i, f in enumerate(files) if not _NAME.fullmatch(f) and _FAULTY.fullmatch(f)}
    if not faulty:
        return faces
    listed = [faces.names[i] for i in sorted(faulty)]
    shown = ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
    problem = f"{faces.source}: {len(faulty)} names say no gender or race of UTKFace: {shown}"
    if len(faulty) == len(faces):
        raise DataError(f"{problem}; not one picture can be used.")
    log.warning("%s; these pictures are left out.", problem)
    kept = faces.select([i for i in range(len(faces)) if i not in faulty])
    counted = {**faces.not_read, "whose name says no gender or race": len(faulty)}
    return replace(kept, not_read=counted)


def _parse(root: Path, name: str) -> tuple[int, int, int]:
    match = _NAME.fullmatch(PurePosixPath(name).name)
    if match is None:
        raise DataError(
            f"{root}: '{name}' is not named AGE_GENDER_RACE_DATE.jpg.chip.jpg with gender 0 or 1 "
            "and race 0 to 4; rename it or take it out."
        )
    age, gender, race = match.groups()
    return int(age), int(gender), int(race)


def _hashed(names: Sequence[str]) -> tuple[str, ...]:
    parts = [_tenth(PurePosixPath(name).name) for name in names]
    return tuple("train" if p < _TRAIN else "val" if p < _VAL else "test" for p in parts)


def _tenth(name: str) -> int:
    """Return 0 to 9, the same for a name everywhere."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10


def is_utkface(root: Path) -> bool:
    """Tell whether a folder has pictures that are all called as those of UTKFace, and some right.

    Of another folder hardly more than one name is looked at.
    """
    some = False
    for _, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in files:
            if name.startswith(".") or kind_of(name) not in IMAGE_SUFFIXES:
                continue
            if not _GUESSED.fullmatch(name):
                return False
            some = some or _NAME.fullmatch(name) is not None
    return some


UTKFACE: Final = Adapter(
    name="utkface",
    read=read_utkface,
    options=("split_file",),
    labels="`Male`, from the file names; age group and race as groups",
    splits="train, val, test by a hash of the file name, or by `split_file`",
    layout="""\
utkface/20_0_1_20170113132639480.jpg.chip.jpg ...   age_gender_race_date
""",
    fits=is_utkface,
)
