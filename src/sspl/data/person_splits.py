"""A split of a set in which no person is in two parts."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from sspl.data.records import IDENTITY, SPLITS, FaceSet
from sspl.errors import DataError, SettingsError

REST: Final = SPLITS[0]
"""The split of those who are in no other."""


def person_splits(faces: FaceSet, shares: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Deal the people of a set out to splits; return the split of each face.

    People are drawn by the seed, whatever the order of the faces, and a split takes the next ones
    until it has its share of the faces, to within half of one person's. Who is left is in `train`.

    Args:
        faces: with the group `identity`.
        shares: share of the faces by split, such as `{"test": 0.2, "val": 0.1}`.
        seed: the same seed and people give the same splits.

    Raises:
        DataError: where it is not known who is in a picture, or a split gets nobody.
        SettingsError: where the shares leave nothing to learn from.
    """
    if sum(shares.values()) >= 1:
        raise SettingsError("--test and --val: they must leave faces to learn from; give less.")
    people, person, counts = np.unique(_identities(faces), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(people))
    middles = (np.cumsum(counts[order]) - counts[order] / 2) / len(faces)
    of_person = np.full(len(people), REST, dtype=object)
    begin = 0.0
    for split, share in shares.items():
        chosen = order[(middles >= begin) & (middles < begin + share)]
        of_person[chosen] = split
        begin += share
    for split in (REST, *(split for split, share in shares.items() if share)):
        if split not in of_person:
            raise DataError(
                f"{faces.source}: of its {len(people)} people none comes to split {split}; give "
                "another share or seed."
            )
    return tuple(of_person[person].tolist())


def _identities(faces: FaceSet) -> Sequence[str]:
    identities = faces.groups.get(IDENTITY)
    if identities is None:
        raise DataError(
            f"{faces.source}: does not say who is in a picture; a csv does by a column that "
            "group_columns=identity names."
        )
    unknown = sum(not identity for identity in identities)
    if unknown:
        raise DataError(
            f"{faces.source}: of {unknown:,} faces it is not known who they are, so that a split "
            "cannot keep people apart; leave them out."
        )
    return identities
