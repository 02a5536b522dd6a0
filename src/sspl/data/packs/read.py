"""Faces out of a pack: all of them with their labels, or as a stream that holds none."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.packs.layout import (
    NO_SPLIT,
    Index,
    PackPlan,
    ShardMetadata,
    ShardTable,
    read_index,
    read_table,
    tar_path,
)
from sspl.data.pictures import Member
from sspl.data.records import Cut, FaceRecord, FaceSet
from sspl.errors import DataError, SettingsError

TABLES_KEPT: Final = 64
"""More than twice the shards of a shuffling window, unless shards are made very small."""


def read_pack(root: Path) -> FaceSet:
    """Read names, labels, splits and groups of all faces; the pictures stay in the shards.

    Faces come split by split, in each split in the order of the set that was packed. Raises
    `DataError` for a folder that is no pack, and for a shard or table that cannot be used.
    """
    index = read_index(root)
    tables = [read_table(root, shard, index.plan.columns) for shard in index.shards]
    members = [
        _members(root, shard, table, row)
        for shard, table in zip(index.shards, tables, strict=True)
        for row in range(shard.faces)
    ]
    groups = np.concatenate([table.groups for table in tables])
    names = tuple(str(name) for table in tables for name in table.names)
    reject_repeated_faces(str(root), names)
    return FaceSet(
        source=str(root),
        schema=index.plan.attribute_schema(),
        names=names,
        images=tuple(image for image, _ in members),
        masks=tuple(mask for _, mask in members),
        splits=tuple(split for shard in index.shards for split in (_split(shard),) * shard.faces),
        labels=np.concatenate([table.labels for table in tables]),
        groups={g: tuple(groups[:, i].tolist()) for i, g in enumerate(index.plan.groups)},
        cut=_cut(index.plan),
    )


def reject_repeated_faces(where: str, names: Sequence[str]) -> None:
    """Raise `DataError`, beginning with `where`, when two faces have one name."""
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"{where}: two faces are called '{twice}'; pack them again.")


def _members(
    root: Path, shard: ShardMetadata, table: ShardTable, row: int
) -> tuple[Member, Member | None]:
    tar, name = tar_path(root, shard.name), str(table.names[row])
    image_at, image_bytes, image_crc, mask_at, mask_bytes, mask_crc = table.places[row].tolist()
    image = Member(tar, name, image_at, image_bytes, image_crc)
    return image, Member(tar, name, mask_at, mask_bytes, mask_crc) if mask_bytes else None


def _split(shard: ShardMetadata) -> str | None:
    return None if shard.split == NO_SPLIT else shard.split


def _cut(plan: PackPlan) -> Cut | None:
    if plan.canvas is None or plan.box is None:
        return None
    return Cut(plan.box, plan.canvas)


@lru_cache(maxsize=TABLES_KEPT)
def _recent_table(root: Path, shard: ShardMetadata, columns: tuple[int, int]) -> ShardTable:
    return read_table(root, shard, columns)


class PackedFaces:
    """Faces of some splits of a pack, looked up when they are asked for.

    What it holds grows with the number of shards, not of faces.

    Args:
        root: the pack.
        splits: whose faces are used, where the pack has splits; all faces where it has none.

    Raises:
        DataError: as `read_index`.
        SettingsError: when the pack has splits, but none of these.
    """

    def __init__(self, root: Path, splits: Sequence[str]) -> None:
        index: Index = read_index(root)
        self.root, self.source = root, str(root)
        self.schema, self.cut = index.plan.attribute_schema(), _cut(index.plan)
        self.classes, self.columns = index.plan.classes, index.plan.columns
        shards = index.shards
        if any(shard.split != NO_SPLIT for shard in shards):
            shards = tuple(shard for shard in shards if shard.split in splits)
        if not shards:
            raise SettingsError(f"splits: {self.source} has no face in {tuple(splits)}.")
        self.shards = shards
        self.starts: NDArray[np.int64] = np.cumsum([0, *(shard.faces for shard in shards)])

    @property
    def has_masks(self) -> bool:
        """Whether every face has a mask; a pack has one for all or for none."""
        return self.classes is not None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> FaceRecord:
        """Return one face; raises `DataError` naming a table that is damaged."""
        which = int(np.searchsorted(self.starts, index, side="right")) - 1
        shard, row = self.shards[which], index - int(self.starts[which])
        table = _recent_table(self.root, shard, self.columns)
        image, mask = _members(self.root, shard, table, row)
        return FaceRecord(image.name, image, mask, _split(shard), table.labels[row])
