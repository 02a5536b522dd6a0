"""A pack, which `sspl data pack` made of another data set."""

from pathlib import Path
from typing import Final

from sspl.data.adapters.base import Adapter
from sspl.data.packs.layout import INDEX_FILE, PLAN_FILE
from sspl.data.packs.read import PackedFaces, read_pack


def is_pack(root: Path) -> bool:
    """Tell whether a folder is a pack, finished or not."""
    return any((root / file).is_file() for file in (INDEX_FILE, PLAN_FILE))


PACKED: Final = Adapter(
    name="packed",
    read=read_pack,
    stream=PackedFaces,
    brings_masks=True,
    root="[pack](#many-faces)",
    labels="those that were packed",
    splits="those that were packed",
    fits=is_pack,
)
