"""Pictures and their hand-made masks: what a parser is trained and tested on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sspl.data.adapters.dialect import read_csv
from sspl.data.images import fit_pair, read_image, read_mask
from sspl.data.pairing import find_pairs_of
from sspl.data.records import IMAGE_SUFFIXES
from sspl.domain.taxonomy import Taxonomy
from sspl.errors import DataError
from sspl.io.progress import watched


@dataclass(frozen=True)
class MaskPairs:
    """Labelled pairs; `names` are paths without suffix, `splits` are `train` or `test`."""

    names: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    splits: tuple[str, ...]

    def split(self, name: str) -> "MaskPairs":
        """Return the pairs of one split; raise `DataError` when there is none."""
        chosen = [i for i, s in enumerate(self.splits) if s == name]
        if not chosen:
            raise DataError(f"no pair of picture and mask is in split '{name}'.")
        return self.select(chosen)

    def select(self, indices: Sequence[int]) -> "MaskPairs":
        """Return the pairs at `indices`, in that order."""
        columns = (self.names, self.images, self.masks, self.splits)
        return MaskPairs(*(tuple(column[i] for i in indices) for column in columns))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.names)


def find_pairs(images: Path, masks: Path, split_file: Path | None) -> MaskPairs:
    """Match pictures and masks by their paths without suffix (`find_pairs_of`).

    Args:
        images: folder of pictures.
        masks: folder of masks; each needs a picture, pictures without one are left out.
        split_file: CSV with columns `name` (path) and `split` (`train` or `test`); without it
            one pair in six, chosen by a hash of its name, is held out for the test.

    Raises `DataError` naming the file and line of the first problem.
    """
    pairs = find_pairs_of(images, masks, IMAGE_SUFFIXES)
    if not pairs:
        raise DataError(f"{masks}: holds no PNG mask.")
    names, pictures, found = (tuple(column) for column in zip(*pairs, strict=True))
    splits = _read_splits(split_file) if split_file else {n: _held_out(n) for n in names}
    for name in names:
        if name not in splits:
            raise DataError(f"{split_file}: no line for '{name}', which has a mask; add one.")
    return MaskPairs(names, pictures, found, tuple(splits[name] for name in names))


def _held_out(stem: str) -> str:
    return "test" if hashlib.sha256(stem.encode()).digest()[0] % 6 == 0 else "train"


def _read_splits(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise DataError(f"{path}: no such split file.")
    rows = read_csv(path)
    _, header = next(rows)
    if not {"name", "split"} <= set(header):
        raise DataError(f"{path}: needs the columns 'name' and 'split'.")
    splits: dict[str, str] = {}
    for line, row in rows:
        name, split = row[header.index("name")], row[header.index("split")]
        if split not in {"train", "test"}:
            raise DataError(f"{path}, line {line}: split is '{split}'; use train or test.")
        if name in splits:
            raise DataError(f"{path}, line {line}: '{name}' comes twice.")
        splits[name] = split
    return splits


def draw_training_pairs(pairs: MaskPairs, count: int, seed: int) -> MaskPairs:
    """Return `count` training pairs drawn by seed; raise `DataError` if there are fewer."""
    if not 1 <= count <= len(pairs):
        raise DataError(f"pairs: asked for {count}, but there are {len(pairs)} training pairs.")
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return pairs.select(sorted(int(i) for i in chosen))


def load_pairs(
    pairs: MaskPairs, source: Taxonomy, target: Taxonomy, size: int, title: str
) -> tuple[Tensor, Tensor]:
    """Decode every pair, whole, to a square canvas (`fit_pair`).

    Returns uint8 images (n, 3, size, size) and masks (n, size, size) with ids of `target`.
    """
    table = target.remap_table(source)
    images = torch.empty((len(pairs), 3, size, size), dtype=torch.uint8)
    masks = torch.empty((len(pairs), size, size), dtype=torch.uint8)
    paths = zip(pairs.images, pairs.masks, strict=True)
    for i, (image_path, mask_path) in enumerate(watched(paths, title, len(pairs), leave=False)):
        image = read_image(image_path)
        mask = read_mask(mask_path, image.size, len(source))
        pixels, ids = fit_pair(image, mask, size)
        images[i] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        masks[i] = torch.from_numpy(table[ids])
    return images, masks
