"""What lies where in a pack.

    pack.json             what the pack is made of, its shards and their checksums
    train-000000.tar      000000000.jpg 000000000.mask.png 000000000.json 000000001.jpg ...
    train-000000.npz      where each of them lies in the tar; names, labels and groups

The shards are tar files as WebDataset reads them; each holds faces of one split (`faces` where
there is none). The tables beside them save reading every header and every label.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sspl.data.images import Box
from sspl.data.pictures import REMEDY
from sspl.data.records import MISSING, SPLITS, Labels
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError, first_line
from sspl.io.files import ARCHIVE_DAMAGES, parse_json
from sspl.io.names import require_clean

INDEX_FILE: Final = "pack.json"
PLAN_FILE: Final = "unfinished.json"
VERSION: Final = 1
NO_SPLIT: Final = "faces"
SPLIT_KEYS: Final = (*SPLITS, NO_SPLIT)

PLACES: Final = ("image_at", "image_bytes", "image_crc", "mask_at", "mask_bytes", "mask_crc")
"""Columns of a table's `places`; masks that are not there have 0 bytes."""


class PackPlan(BaseModel):
    """What a pack is made of; two packs of one plan are the same, byte by byte.

    Args:
        version: of this layout.
        source: the data spec that was packed.
        canvas: side in px of the squares that pictures were cut to; None: packed as they were.
        box: crop of the pictures that the squares show; None: packed as they were.
        encoding: `as is`, `jpeg` or `webp` (lossless).
        classes: semantic classes of the masks in id order; None without masks.
        attributes: name to face region.
        groups: names of the groups.
        splits: split (or `faces`) to number of faces.
        shard_faces: faces in a shard, but for the last one of each split.
        fingerprint: of all names, labels and groups.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = VERSION
    source: str
    canvas: int | None
    box: Box | None
    encoding: str
    classes: tuple[str, ...] | None
    attributes: dict[str, str]
    groups: tuple[str, ...]
    splits: dict[str, int]
    shard_faces: int
    fingerprint: str

    def attribute_schema(self) -> AttributeSchema:
        """Return the attributes of the labels."""
        return AttributeSchema(tuple(self.attributes), tuple(self.attributes.values()))

    @property
    def columns(self) -> tuple[int, int]:
        """How many attributes and groups each face has."""
        return len(self.attributes), len(self.groups)


class ShardMetadata(BaseModel):
    """One shard: its files' name without suffix, split (or `faces`), and what the tar holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z]+-[0-9]+$")
    split: str
    faces: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class Index(BaseModel):
    """The content of `pack.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: PackPlan
    faces: int
    shards: tuple[ShardMetadata, ...]


@dataclass(frozen=True)
class ShardTable:
    """The faces of one shard.

    Args:
        places: int64 (faces, 6), columns `PLACES`.
        names: the face names.
        labels: int8 (faces, attributes).
        groups: str (faces, groups).
    """

    places: NDArray[np.int64]
    names: NDArray[np.str_]
    labels: Labels
    groups: NDArray[np.str_]


def split_key(split: str | None) -> str:
    """Return the word by which a plan and its shards call a split."""
    return NO_SPLIT if split is None else split


def shard_name(split: str, number: int) -> str:
    """Return the name, without suffix, of the 0-based shard of a split."""
    return f"{split}-{number:06d}"


def tar_path(root: Path, shard: str) -> Path:
    """Return where a shard's pictures lie."""
    return root / f"{shard}.tar"


def table_path(root: Path, shard: str) -> Path:
    """Return where a shard's table lies."""
    return root / f"{shard}.npz"


def read_index(root: Path) -> Index:
    """Return the index of a pack whose shards are all there in their size.

    Raises `DataError` for a folder that is no pack, an unfinished one, and a shard that is not
    there or of another size, naming it.
    """
    file = root / INDEX_FILE
    if not file.is_file():
        if (root / PLAN_FILE).is_file():
            raise DataError(
                f"{root} is an unfinished pack; give the same 'sspl data pack' again to finish it."
            )
        raise DataError(f"{root} is no pack: there is no {INDEX_FILE}; make one: 'sspl data pack'.")
    index = _parsed(file)
    for shard in index.shards:
        tar = tar_path(root, shard.name)
        for path in (tar, table_path(root, shard.name)):
            if not path.is_file():
                raise DataError(
                    f"{path}: this part of the pack is missing; give the same 'sspl data pack' "
                    "again to make it."
                )
        if tar.stat().st_size != shard.bytes:
            raise DataError(
                f"{tar} has {tar.stat().st_size:,} bytes and not {shard.bytes:,}; {REMEDY}."
            )
    return index


def _parsed(file: Path) -> Index:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        version = content["plan"]["version"] if isinstance(content, Mapping) else None
        if version != VERSION:
            raise DataError(
                f"{file}: layout {version} and not {VERSION}; pack again with this software."
            )
        return Index.model_validate(content)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: no index of a pack ({reason}); pack again.") from None


def read_table(root: Path, shard: ShardMetadata, columns: tuple[int, int]) -> ShardTable:
    """Return the table of a shard; raise `DataError` naming one that is damaged.

    `columns` are those of the plan. Names are those that a label file may have.
    """
    path = table_path(root, shard.name)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            table = ShardTable(*(arrays[name] for name in ("places", "names", "labels", "groups")))
    except ARCHIVE_DAMAGES as error:
        raise DataError(f"{path}: damaged table ({first_line(error)}); {REMEDY}.") from None
    if table.places.shape != (shard.faces, len(PLACES)) or len(table.names) != shard.faces:
        raise DataError(f"{path}: not the table of {shard.faces} faces; {REMEDY}.")
    shapes = ((shard.faces, columns[0]), (shard.faces, columns[1]))
    if (table.labels.shape, table.groups.shape) != shapes:
        raise DataError(f"{path}: not the labels and groups that the index lists; {REMEDY}.")
    if (table.names.ndim, table.names.dtype.kind, table.groups.dtype.kind) != (1, "U", "U"):
        raise DataError(f"{path}: damaged table (its names or groups are no text); {REMEDY}.")
    require_clean(table.names.tolist(), str(path))
    if not _is_plausible(table, shard):
        raise DataError(f"{path}: damaged table (its places or labels are none); {REMEDY}.")
    return table


def _is_plausible(table: ShardTable, shard: ShardMetadata) -> bool:
    """Tell whether pictures lie within the shard and labels are labels."""
    if table.places.dtype != np.int64 or table.labels.dtype != np.int8:
        return False
    at, size = table.places[:, [0, 3]], table.places[:, [1, 4]]
    within = bool(((at >= 0) & (size >= 0) & (at <= shard.bytes - size)).all())
    return within and bool(np.isin(table.labels, (MISSING, 0, 1)).all())


def finished_shard(root: Path, name: str, split: str, faces: int) -> ShardMetadata | None:
    """Return the metadata of a shard that is already there whole; None where it has to be made."""
    try:
        with np.load(table_path(root, name), allow_pickle=False) as arrays:
            metadata = ShardMetadata.model_validate_json(str(arrays["facts"]))
        whole = tar_path(root, name).stat().st_size == metadata.bytes
    except ARCHIVE_DAMAGES:
        return None
    return metadata if whole and (metadata.split, metadata.faces) == (split, faces) else None


def read_plan(root: Path) -> PackPlan | None:
    """Return the plan of a pack, finished or not; None where there is none."""
    if (root / INDEX_FILE).is_file():
        return _parsed(root / INDEX_FILE).plan
    if not (root / PLAN_FILE).is_file():
        return None
    try:
        return PackPlan.model_validate_json((root / PLAN_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{root / PLAN_FILE}: damaged ({reason}); choose another --out.") from None


def as_json(content: Any) -> str:
    """Return JSON without blanks."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
