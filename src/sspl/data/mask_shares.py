"""What the masks of a set show: how often each class, and whether anything can be learnt."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.images import read_mask
from sspl.data.records import Faces
from sspl.domain.parts import SMALL_PARTS
from sspl.domain.taxonomy import UNKNOWN, Taxonomy
from sspl.errors import DataError
from sspl.io.cores import usable_cores
from sspl.io.progress import watched

MOST_OF_A_PART: Final = 0.1
"""Share of all known pixels beyond which eyes, nose or mouth are taken for something else."""

LOOKED_AT: Final = 64
"""Masks that tell whether there is anything to learn, where all would take long to read."""

OTHER_ORDER: Final = (
    "are the ids in another order of classes? CelebAMask-HQ's annotation has another than "
    "face-parsing networks; name the order that the masks are in"
)


@dataclass
class ClassCounts:
    """Pixels by id, and masks that hold it, int64 (256,); `masks` is the number of masks."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    holding: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    masks: int = 0

    def add(self, ids: NDArray[np.uint8]) -> None:
        """Count one more mask."""
        counts = np.bincount(ids.ravel(), minlength=256)
        self.pixels += counts
        self.holding += counts > 0
        self.masks += 1

    @property
    def known(self) -> list[int]:
        """Ids that occur, `UNKNOWN` left out."""
        return [int(i) for i in np.flatnonzero(self.pixels[:UNKNOWN])]

    def share(self, index: int) -> float:
        """Return the share of an id in all pixels."""
        return float(self.pixels[index] / max(1, self.pixels.sum()))


def counted(masks: Iterable[NDArray[np.uint8]]) -> ClassCounts:
    """Count masks, uint8 (h, w) each."""
    counts = ClassCounts()
    for ids in masks:
        counts.add(ids)
    return counts


def count_masks(faces: Faces, classes: int) -> ClassCounts:
    """Read and count every mask of a set; raise `DataError` naming one that cannot be used."""
    return counted(_read(faces, range(len(faces)), classes))


def _read(faces: Faces, places: Iterable[int], classes: int) -> Iterator[NDArray[np.uint8]]:
    def ids(place: int) -> NDArray[np.uint8]:
        mask = faces[place].mask
        assert mask is not None, "a set that has masks has one for every face"
        return np.asarray(read_mask(mask, None, classes))

    chosen = list(places)
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            read = pool.map(ids, chosen)
            yield from watched(read, "read masks", len(chosen), unit="mask", leave=False)
        finally:
            # Without this an error would wait for masks that nobody asks for any more.
            pool.shutdown(wait=False, cancel_futures=True)


def require_two_classes(faces: Faces, taxonomy: Taxonomy) -> list[str]:
    """Raise `DataError` unless the masks of a set show two classes; return their `oddities`.

    Some masks from all over the set are looked at, the others only where these show too little.
    """
    first = np.unique(np.linspace(0, len(faces) - 1, min(LOOKED_AT, len(faces)), dtype=int))
    counts = counted(_read(faces, first.tolist(), len(taxonomy)))
    if len(counts.known) < 2:
        for ids in _read(faces, range(len(faces)), len(taxonomy)):
            if len(counts.known) >= 2:
                break
            counts.add(ids)
    problem = nothing_to_learn(counts, taxonomy)
    if problem is not None:
        raise DataError(f"{faces.source}: {problem}.")
    return oddities(counts, taxonomy)


def nothing_to_learn(counts: ClassCounts, taxonomy: Taxonomy) -> str | None:
    """Return why masks teach nothing, without a full stop: fewer than two classes; None if not."""
    known = counts.known
    if len(known) > 1:
        return None
    if not known:
        return "not one pixel of the masks has a known class: all are 255, which means unknown"
    name = _name(known[0], taxonomy)
    alone = f"the masks hold one class alone, {name}, so that nothing can be learnt from them"
    if counts.pixels[UNKNOWN]:
        alone += (
            "; their other pixels are 255, which means unknown: if 255 stands for a class, save "
            "it as that class's id, such as 1"
        )
    return alone


def oddities(counts: ClassCounts, taxonomy: Taxonomy) -> list[str]:
    """Return sentences, without a full stop, on what masks of faces hardly are as they should be.

    Told are masks of fewer than two classes, ids that are no class, and eyes, nose or mouth that
    never occur or cover more than a face's can: signs of ids in another order of classes.
    """
    if (problem := nothing_to_learn(counts, taxonomy)) is not None:
        return [problem]
    told = []
    others = [i for i in counts.known if i >= len(taxonomy)]
    if others:
        shown = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        told.append(f"the masks hold ids that are no class of {taxonomy.name}: {shown}")
    known = max(1, int(counts.pixels[:UNKNOWN].sum()))
    absent, large = [], []
    for part, ids in _ids_of_parts(taxonomy).items():
        pixels = counts.pixels[ids]
        if not pixels.any():
            absent.append(part)
        large += [
            f"'{taxonomy.classes[i]}' covers {n / known:.0%}"
            for i, n in zip(ids, pixels, strict=True)
            if n > MOST_OF_A_PART * known
        ]
    if absent:
        told.append(f"{_listed(absent)} never occur in the masks; {OTHER_ORDER}")
    if large:
        told.append(f"{_listed(large)} of the masks, too much of a face; {OTHER_ORDER}")
    return told


def _listed(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def never_there(counts: ClassCounts, taxonomy: Taxonomy) -> list[str]:
    """Return the classes without one pixel."""
    return [name for i, name in enumerate(taxonomy.classes) if not counts.pixels[i]]


def _ids_of_parts(taxonomy: Taxonomy) -> dict[str, list[int]]:
    """Return for eyes, nose and mouth the ids of their classes, where a list has such."""
    found = {
        part: [i for i, name in enumerate(taxonomy.classes) if is_of(name)]
        for part, is_of in SMALL_PARTS.items()
    }
    return {part: ids for part, ids in found.items() if ids}


def _name(index: int, taxonomy: Taxonomy) -> str:
    if index < len(taxonomy):
        return f"'{taxonomy.classes[index]}' (id {index})"
    return f"id {index}, which is no class of {taxonomy.name}"


def mask_summary(counts: ClassCounts, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return what `mask_lines` says, as JSON values."""

    def row(index: int) -> dict[str, float]:
        holding = counts.holding[index] / max(1, counts.masks)
        return {
            "pixel_share": round(counts.share(index), 6),
            "masks_with_it": round(float(holding), 4),
        }

    return {
        "masks": counts.masks,
        "taxonomy": taxonomy.name,
        "classes": {name: row(i) for i, name in enumerate(taxonomy.classes)},
        "unknown": row(UNKNOWN),
        "no_class": {str(i): row(i) for i in counts.known if i >= len(taxonomy)},
        "remarks": oddities(counts, taxonomy),
    }


def mask_lines(summary: dict[str, Any]) -> list[str]:
    """Return a table of the share of each class."""
    rows = summary["classes"] | {f"id {i}": row for i, row in summary["no_class"].items()}
    rows |= {"unknown (255)": summary["unknown"]}
    width = max(len("class"), *map(len, rows))
    lines = [
        f"{summary['masks']:,} masks, classes of {summary['taxonomy']}",
        f"{'class':<{width}}{'pixels':>10}{'masks with it':>15}",
    ]
    for name, row in rows.items():
        lines.append(f"{name:<{width}}{row['pixel_share']:>10.2%}{row['masks_with_it']:>15.1%}")
    return lines
