"""The one record type that every adapter yields and everything above reads."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from sspl.data.images import WHOLE_FRAME, Box
from sspl.data.pairing import pair_faces
from sspl.data.pictures import Picture
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError

log = logging.getLogger(__name__)

MISSING: Final = -1
"""Label value of an attribute that nobody has judged on this face."""

IDENTITY: Final = "identity"
"""Name of the group that says who is in the picture."""

SPLITS: Final = ("train", "val", "test")
IMAGE_SUFFIXES: Final = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng",
        ".bmp", ".dib", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif",
    }
)  # fmt: skip
"""How names of files end that are taken for pictures; what they hold decides how they are read."""

Labels = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Cut:
    """What pictures were cut to when they were packed.

    Args:
        box: crop of the original picture.
        canvas: side in px of the square that it became.
    """

    box: Box
    canvas: int


class PathsBelow(Sequence[Path]):
    """Paths of names below a folder, each made when it is asked for: they take far more room."""

    def __init__(self, root: Path, names: tuple[str, ...]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> "PathsBelow": ...

    def __getitem__(self, index: int | slice) -> "Path | PathsBelow":
        if isinstance(index, slice):
            return PathsBelow(self.root, self.names[index])
        return self.root / self.names[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def select(self, places: Sequence[int]) -> "PathsBelow":
        """Return the paths at some places, in that order."""
        return PathsBelow(self.root, tuple(self.names[i] for i in places))


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """One face.

    Args:
        name: its key in label files, unique in its set (relative POSIX path of the image).
        image: where the picture lies.
        mask: where its semantic mask lies, or None.
        split: `train`, `val`, `test` or None when the set has no splits.
        labels: int8 (attributes,), 1 yes, 0 no, `MISSING` unknown.

    Examples:
        >>> labels = np.array([1, 0, MISSING], np.int8)
        >>> FaceRecord("a.jpg", Path("a.jpg"), mask=None, split="train", labels=labels).split
        'train'
    """

    name: str
    image: Picture
    mask: Picture | None
    split: str | None
    labels: Labels


@dataclass(frozen=True)
class FaceSet:
    """Faces of one source, in a fixed order, with one schema.

    Args:
        source: where they came from, for messages.
        schema: attributes; empty for unlabelled faces.
        names, images, masks, splits: as in `FaceRecord`, one per face.
        labels: int8 (faces, attributes).
        groups: by name, such as `age`, what each face belongs to, such as `20-29`, empty where
            unknown; for reports by subgroup, never learnt from. The group `identity` says who
            is in the picture.
        cut: what the pictures were cut to already; None: they are whole.
        not_read: by kind, such as `.gif`, how many files of a folder were left out.
        code: the user's file whose adapter read them; None: one of the package.

    Examples:
        >>> faces = parse_data_spec("celeba:faces").open()
        >>> len(faces.split("train")), faces.select([9])[0].name
        (7, '000010.jpg')
    """

    source: str
    schema: AttributeSchema
    names: tuple[str, ...]
    images: Sequence[Picture]
    masks: tuple[Picture | None, ...]
    splits: tuple[str | None, ...]
    labels: Labels
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cut: Cut | None = None
    not_read: Mapping[str, int] = field(default_factory=dict)
    code: Path | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.images), len(self.masks), len(self.splits)}
        lengths |= {len(values) for values in self.groups.values()}
        if lengths != {len(self.labels)} or self.labels.shape[1:] != (len(self.schema),):
            raise ValueError(f"{self.source}: columns of unequal length")

    @property
    def has_masks(self) -> bool:
        """Whether every face has a mask."""
        return all(mask is not None for mask in self.masks)

    def label_counts(self) -> dict[str, dict[str, int]]:
        """Return how many faces say yes and no, by attribute."""
        yes, no = (self.labels == 1).sum(0), (self.labels == 0).sum(0)
        return {
            name: {"yes": int(yes[i]), "no": int(no[i])} for i, name in enumerate(self.schema.names)
        }

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> FaceRecord:
        return FaceRecord(
            self.names[index],
            self.images[index],
            self.masks[index],
            self.splits[index],
            self.labels[index],
        )

    def __iter__(self) -> Iterator[FaceRecord]:
        return (self[i] for i in range(len(self)))

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> "FaceSet":
        """Return the faces at `indices`, in that order."""
        chosen = [int(i) for i in indices]
        images = self.images
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            images=images.select(chosen)
            if isinstance(images, PathsBelow)
            else tuple(images[i] for i in chosen),
            masks=tuple(self.masks[i] for i in chosen),
            splits=tuple(self.splits[i] for i in chosen),
            labels=self.labels[chosen],
            groups={name: tuple(g[i] for i in chosen) for name, g in self.groups.items()},
        )

    def split(self, name: str) -> "FaceSet":
        """Return the faces of one split.

        Raises `DataError` when the split holds none, naming the splits there are.
        """
        indices = [i for i, s in enumerate(self.splits) if s == name]
        if not indices:
            there = sorted({s for s in self.splits if s is not None}) or ["none"]
            raise DataError(
                f"{self.source} has no face in split '{name}'; its splits are {', '.join(there)}."
            )
        return self.select(indices)

    def with_masks(self, root: Path) -> "FaceSet":
        """Attach `root/<name with suffix .png>` to every face, as `pair_faces` says.

        Files that are masks of others are no faces of a set without labels: they are left out,
        and the log says how many.
        """
        masks = pair_faces(self.names, self.images, root, self.source, bool(len(self.schema)))
        if len(masks) < len(self):
            log.warning(
                "%s: %s of its %s files are masks in %s, and no faces.",
                self.source,
                f"{len(self) - len(masks):,}",
                f"{len(self):,}",
                root,
            )
        return replace(self.select(list(masks)), masks=tuple(masks.values()))


class Faces(Protocol):
    """What is needed to read pictures and masks: of a `FaceSet`, or of a stream that holds none."""

    @property
    def source(self) -> str:
        """Where they came from, for messages."""

    @property
    def cut(self) -> Cut | None:
        """What the pictures were cut to already."""

    @property
    def has_masks(self) -> bool:
        """Whether every face has a mask."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> FaceRecord: ...


def box_in(faces: Faces, box: Box, canvas: int) -> Box:
    """Return the crop that shows `box` of the original pictures, as they are now.

    Raises `DataError` when they were cut to another box, or to fewer than `canvas` px.
    """
    return box_in_cut(faces.cut, faces.source, box, canvas)


def box_in_cut(cut: Cut | None, source: str, box: Box, canvas: int) -> Box:
    """Return what `box_in` does, of pictures from `source` that were cut so."""
    if cut is None:
        return box
    if not np.allclose(box, cut.box, rtol=0, atol=1e-6):
        there, wanted = (":".join(f"{x:.4g}" for x in b) for b in (cut.box, box))
        raise DataError(
            f"{source} holds faces cut to {there}, but {wanted} is needed; pack them again "
            "with that crop, or without --canvas."
        )
    if canvas > cut.canvas:
        side = cut.canvas
        raise DataError(
            f"{source} holds squares of {side} px, too few for a canvas of {canvas}; set "
            f"canvas={side} or less, or pack again with --canvas {canvas}."
        )
    return WHOLE_FRAME


@dataclass(frozen=True)
class FaceSource:
    """Faces of one set and the box of each original picture that is used.

    Examples:
        >>> faces = parse_data_spec("celeba:faces")
        >>> source = FaceSource(faces.open(), faces.box())
        >>> source.box
        (0.0, 0.0, 1.0, 1.0)
    """

    faces: Faces
    box: Box
