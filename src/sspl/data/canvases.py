"""Faces as square uint8 canvases, decoded once into memory or streamed by worker processes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from sspl.data.images import Box, image_canvas, mask_canvas, read_image, read_mask
from sspl.data.records import FaceSet
from sspl.device import usable_cores

GIB: Final = 2**30


@dataclass(frozen=True)
class FaceSource:
    """Faces of one set and the box of each picture that is used."""

    faces: FaceSet
    box: Box


@dataclass(frozen=True)
class CanvasBatch:
    """Some faces.

    Args:
        index: int64 (n,), place of each face in its `Canvases`.
        images: uint8 (n, 3, c, c).
        masks: uint8 (n, c, c), or None without masks.
    """

    index: Tensor
    images: Tensor
    masks: Tensor | None


class Canvases(Dataset[tuple[Tensor, Tensor]]):
    """Canvases of one or more sources, one after the other.

    Args:
        sources: where the faces come from.
        canvas: side in px.
        classes: number of semantic classes, to read masks too; None leaves masks alone.
        cache_gb: keep all canvases in memory when they take no more than this.
        workers: processes that decode when the canvases are not kept.
    """

    def __init__(
        self, sources: Sequence[FaceSource], canvas: int, classes: int | None,
        cache_gb: float = 4.0, workers: int = 0,
    ) -> None:  # fmt: skip
        self.sources = list(sources)
        self.canvas = canvas
        self.classes = classes
        self.workers = workers
        self.starts = np.cumsum([0, *(len(s.faces) for s in self.sources)])
        self._kept: tuple[Tensor, Tensor] | None = None
        channels = 3 if classes is None else 4
        if len(self) * channels * canvas**2 <= cache_gb * GIB:
            self._kept = self._decode_all()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return uint8 (3, c, c) and uint8 (c, c); the mask is empty when masks are not read.

        Raises `DataError` naming the file that cannot be used.
        """
        if self._kept is not None:
            return self._kept[0][index], self._kept[1][index]
        return self._decode(index)

    def _decode(self, index: int) -> tuple[Tensor, Tensor]:
        which = int(np.searchsorted(self.starts, index, side="right")) - 1
        source = self.sources[which]
        face = source.faces[index - int(self.starts[which])]
        image = read_image(face.image)
        pixels = torch.from_numpy(image_canvas(image, source.box, self.canvas).copy())
        if self.classes is None or face.mask is None:
            return pixels.permute(2, 0, 1), torch.empty(0, dtype=torch.uint8)
        mask = read_mask(face.mask, image.size, self.classes)
        ids = torch.from_numpy(mask_canvas(mask, source.box, self.canvas).copy())
        return pixels.permute(2, 0, 1), ids

    def _decode_all(self) -> tuple[Tensor, Tensor]:
        side = self.canvas
        images = torch.empty((len(self), 3, side, side), dtype=torch.uint8)
        mask_shape = (0,) if self.classes is None else (side, side)
        masks = torch.empty((len(self), *mask_shape), dtype=torch.uint8)
        with ThreadPoolExecutor(usable_cores()) as pool:
            decoded = pool.map(self._decode, range(len(self)))
            for i, (image, mask) in enumerate(tqdm(decoded, "read faces", len(self), leave=False)):
                images[i], masks[i] = image, mask
        return images, masks

    def batches(self, order: Sequence[int], batch_size: int) -> Iterator[CanvasBatch]:
        """Yield the faces of `order`, `batch_size` at a time; the last batch may be smaller."""
        chunks = [list(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
        if self._kept is not None:
            images, masks = self._kept
            for chunk in chunks:
                yield self._batch(chunk, images[chunk], masks[chunk])
            return
        loader = DataLoader(self, batch_sampler=chunks, num_workers=self.workers)
        for chunk, (images, masks) in zip(chunks, loader, strict=True):
            yield self._batch(chunk, images, masks)

    def _batch(self, chunk: list[int], images: Tensor, masks: Tensor) -> CanvasBatch:
        return CanvasBatch(torch.tensor(chunk), images, None if self.classes is None else masks)
