"""Which of the training faces keep their labels."""

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sspl.data.adapters.dialect import read_lines
from sspl.data.adapters.lookup import alike
from sspl.data.records import FaceSet, Labels
from sspl.errors import DataError, SettingsError
from sspl.io.files import write_text

Rule = Literal["seeded", "every_kth"]

_MAX_CANDIDATES: Final = 1000


def count_for(faces: int, *, fraction: float | None = None, labels: int | None = None) -> int:
    """Return how many of `faces` keep their labels: a fraction (half rounds up) or a count.

    Raises `SettingsError` unless exactly one is given and it comes to 1 up to `faces`.
    """
    _check_share(fraction, labels)
    if fraction is not None:
        # Through the decimal text, because 0.145 * 100 is 14.499999999999998.
        exact = Decimal(str(fraction)) * faces
        labels = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    assert labels is not None
    _check_count(labels, faces)
    return labels


def _check_share(fraction: float | None, labels: int | None) -> None:
    if (fraction is None) == (labels is None):
        raise SettingsError("give either a label fraction or a number of labels, not both.")
    if fraction is not None and not 0 < fraction <= 1:
        raise SettingsError(f"label fraction {fraction} is out of range; use above 0 up to 1.")


def _check_count(count: int, faces: int) -> None:
    if not 1 <= count <= faces:
        raise SettingsError(f"{count} labelled faces are out of range; there are {faces} faces.")


def every_kth(
    faces: int, *, fraction: float | None = None, labels: int | None = None
) -> NDArray[np.int64]:
    """Return every k-th of `faces` in file order, from the first: 0, k, 2k, ...

    The paper's rule (docs/method.md#data-and-protocol). k is 1 / `fraction`, rounded (half up);
    for a number of faces it is the smallest k that gives so many. Raises `SettingsError` where
    no k does, or unless exactly one is given.

    Examples:
        >>> every_kth(10, fraction=0.25).tolist(), every_kth(10, labels=4).tolist()
        ([0, 4, 8], [0, 3, 6, 9])
    """
    _check_share(fraction, labels)
    if fraction is not None:
        k = int((1 / Decimal(str(fraction))).quantize(Decimal(1), rounding=ROUND_HALF_UP))
        return np.arange(0, faces, k, dtype=np.int64)
    count = count_for(faces, labels=labels)
    k = -(-faces // count)
    places = np.arange(0, faces, k, dtype=np.int64)
    if len(places) != count:
        raise SettingsError(
            f"labels.rule=every_kth: no k takes {count} of {faces} faces; {len(places)} are every "
            f"k-th for k={k}, {-(-faces // (k - 1))} for k={k - 1}: give one of these numbers, or "
            "labels.rule=seeded."
        )
    return places


def label_subset(
    labels: Labels,
    count: int | None = None,
    *,
    fraction: float | None = None,
    rule: Rule,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose the faces that keep their labels: a number of them or a fraction.

    `every_kth` is the paper's rule, without a seed (`every_kth`).

    `seeded` draws uniformly, then repairs: while an attribute has no positive (or no
    negative) in the draw, a random face that has one is swapped in for a random face whose
    removal costs no attribute its last positive or negative. Rare values are therefore kept
    a little more often than in a uniform draw (each at least once wherever such a swap
    exists); at most one face is swapped for each attribute and value.

    Args:
        labels: int8 (faces, attributes), 1, 0 or `MISSING`.
        count: how many faces to choose.
        fraction: which share of them instead, above 0 up to 1.
        rule: `seeded` or `every_kth`.
        seed: the same seed on the same labels gives the same faces.

    Returns:
        int64 (count,), sorted and distinct.

    Raises:
        SettingsError: unless one of the two is given and comes to 1 up to the number of faces
            (`every_kth`: to a number that some k gives), or for another rule.

    Examples:
        >>> labels = np.array([[1], [0], [0], [0], [1], [0]], np.int8)
        >>> label_subset(labels, 3, rule="every_kth").tolist()
        [0, 2, 4]
    """
    faces = len(labels)
    if rule == "every_kth":
        return every_kth(faces, fraction=fraction, labels=count)
    count = count_for(faces, fraction=fraction, labels=count)
    if rule != "seeded":
        raise SettingsError(f"unknown subset rule '{rule}'; use seeded or every_kth.")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(faces)[:count]
    # One column for each value of each attribute: who has it.
    has = np.concatenate([labels == 1, labels == 0], axis=1)
    while _swap(chosen, has, rng):
        pass
    return np.sort(chosen).astype(np.int64)


def _swap(chosen: NDArray[np.int64], has: NDArray[np.bool_], rng: np.random.Generator) -> bool:
    """Bring one absent value into `chosen`, the rarest first; return whether one could be."""
    inside = has[chosen].sum(axis=0)
    overall = has.sum(axis=0)
    absent = np.flatnonzero((inside == 0) & (overall > 0))
    for value in absent[np.argsort(overall[absent], kind="stable")]:
        candidates = rng.permutation(np.flatnonzero(has[:, value]))[:_MAX_CANDIDATES]
        # A face may leave if each value of which it is the last holder comes with the newcomer.
        last_held = (has[chosen] & (inside == 1)).astype(np.float32)
        lost = last_held @ (~has[candidates]).T.astype(np.float32)
        fits = np.flatnonzero((lost == 0).any(axis=0))
        if len(fits):
            newcomer = fits[0]
            leaver = rng.choice(np.flatnonzero(lost[:, newcomer] == 0))
            chosen[leaver] = candidates[newcomer]
            return True
    return False


def save_subset(path: Path, names: Iterable[str]) -> None:
    """Write face names to a text file, one a line; raises `DataError` for one with a line end."""
    names = list(names)
    for name in names:
        if not name.strip() or name.splitlines() != [name]:
            raise DataError(f"{path}: the face name {name!r} does not fit on a line; rename it.")
    write_text(path, "".join(f"{name}\n" for name in names))


def load_subset(path: Path, faces: FaceSet) -> NDArray[np.int64]:
    """Read a file of face names and return the faces' places in `faces`, int64, sorted.

    Raises `DataError` for an empty file, and with the line for a name that `faces` has not
    or that is there twice.
    """
    places = {name: i for i, name in enumerate(faces.names)}
    lines: dict[str, int] = {}
    for line, name in read_lines(path):
        if name not in places:
            raise DataError(
                f"{path}, line {line}: '{name}' is not a face of {faces.source}"
                f"{alike(name, faces.names)}."
            )
        if name in lines:
            raise DataError(
                f"{path}, line {line}: '{name}' was given before, in line {lines[name]}; keep one."
            )
        lines[name] = line
    if not lines:
        raise DataError(f"{path}: the file is empty.")
    return np.array(sorted(places[name] for name in lines), dtype=np.int64)
