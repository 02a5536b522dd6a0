"""Faces as square uint8 canvases, decoded once into memory or streamed."""

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sspl.data.images import mask_canvas, read_canvas, read_mask
from sspl.data.orders import WINDOW, Places, WindowedOrder
from sspl.data.packs.read import PackedFaces
from sspl.data.records import FaceSource, box_in
from sspl.data.streams import read_ahead
from sspl.errors import DataError, SsplError
from sspl.io.cores import usable_cores
from sspl.io.progress import watched

GIB: Final = 2**30
BLOCK: Final = 1024
"""Faces of other sets that stay together beside those of a pack, as those of a shard do."""

Canvas = tuple[Tensor, Tensor]
"""Picture uint8 (c, c, 3) and mask uint8 (c, c), which is empty when masks are not read.

Several are stacked along a first dimension. Channels stay last, as decoders give them and as
resizing and sampling read them fastest.
"""


@dataclass(frozen=True)
class CanvasBatch:
    """Some faces.

    Args:
        index: int64 (n,), place of each face in its `Canvases`.
        images: uint8 (n, 3, c, c), in memory channels last.
        masks: uint8 (n, c, c), or None without masks.

    Examples:
        >>> images = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
        >>> batch = CanvasBatch(torch.tensor([7, 3]), images, masks=None)
        >>> batch.index.tolist()
        [7, 3]
    """

    index: Tensor
    images: Tensor
    masks: Tensor | None


class Canvases:
    """Canvases of one or more sources, one after the other.

    Args:
        sources: where the faces come from.
        canvas: side in px.
        classes: number of semantic classes, to read masks too; None leaves masks alone.
        cache_gb: keep all canvases in memory when they take no more than this.
        workers: processes that decode when the canvases are not kept; 0: threads of this one.

    Examples:
        >>> faces = parse_data_spec("celeba:faces")
        >>> canvases = Canvases([FaceSource(faces.open(), faces.box())], canvas=40, classes=None)
        >>> [len(batch.images) for batch in canvases.batches(range(10), batch_size=4)]
        [4, 4, 2]
    """

    def __init__(
        self,
        sources: Sequence[FaceSource],
        canvas: int,
        classes: int | None,
        cache_gb: float = 4.0,
        workers: int = 0,
    ) -> None:
        self.sources = list(sources)
        self.canvas = canvas
        self.classes = classes
        self.workers = workers
        self.boxes = [box_in(s.faces, s.box, canvas) for s in self.sources]
        self.starts = np.cumsum([0, *(len(s.faces) for s in self.sources)])
        self._kept: tuple[Tensor, Tensor] | None = None
        channels = 3 if classes is None else 4
        if len(self) * channels * canvas**2 <= cache_gb * GIB:
            self._kept = self._decode_all()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def decode(self, index: int) -> Canvas:
        """Read one face from its files; raise `DataError` naming one that cannot be used."""
        which = int(np.searchsorted(self.starts, index, side="right")) - 1
        face = self.sources[which].faces[index - int(self.starts[which])]
        box = self.boxes[which]
        canvas, size = read_canvas(face.image, box, self.canvas)
        pixels = torch.from_numpy(canvas)
        if self.classes is None or face.mask is None:
            return pixels, torch.empty(0, dtype=torch.uint8)
        mask = read_mask(face.mask, size, self.classes)
        return pixels, torch.from_numpy(mask_canvas(mask, box, self.canvas))

    def _decode_all(self) -> tuple[Tensor, Tensor]:
        side = self.canvas
        images = torch.empty((len(self), side, side, 3), dtype=torch.uint8)
        mask_shape = (0,) if self.classes is None else (side, side)
        masks = torch.empty((len(self), *mask_shape), dtype=torch.uint8)
        with ThreadPoolExecutor(usable_cores()) as pool:
            decoded = pool.map(self.decode, range(len(self)))
            bar = watched(decoded, "read faces", len(self), leave=False)
            for i, (image, mask) in enumerate(bar):
                images[i], masks[i] = image, mask
        return images, masks

    def random_order(self, generator: torch.Generator) -> Sequence[int]:
        """Return the places of all faces in an order that the generator alone decides.

        Where faces come out of packs it is a `WindowedOrder` by shard, which holds none of them.
        """
        if any(isinstance(source.faces, PackedFaces) for source in self.sources):
            return WindowedOrder(self._blocks(), WINDOW, generator)
        order: list[int] = torch.randperm(len(self), generator=generator).tolist()
        return order

    def _blocks(self) -> Places:
        starts = [
            start
            + (
                source.faces.starts[:-1]
                if isinstance(source.faces, PackedFaces)
                else np.arange(0, len(source.faces), BLOCK)
            )
            for start, source in zip(self.starts, self.sources, strict=False)
        ]
        return np.concatenate([*starts, [len(self)]])

    def batches(
        self, order: Sequence[int], batch_size: int, first: int = 0, steps: int | None = None
    ) -> Iterator[CanvasBatch]:
        """Yield the faces of `order`, `batch_size` at a time; the last batch may be smaller.

        Batches before the 0-based `first` and from `steps` on are left out unread. The batches
        are the same with any number of workers. Raises `DataError` for a face that cannot be
        read, and when a worker process dies.
        """
        chunks = Chunks(order, batch_size, first, steps)
        if self._kept is not None:
            images, masks = self._kept
            for chunk in chunks:
                yield self._batch(chunk, (images[chunk], masks[chunk]))
            return
        if self.workers:
            read = _from_processes(self, chunks)
        else:
            read = (_stacked(batch) for batch in read_ahead(self.decode, chunks))
        for chunk, batch in zip(chunks, read, strict=True):
            yield self._batch(chunk, batch)

    def _batch(self, chunk: list[int], batch: Canvas) -> CanvasBatch:
        images, masks = batch
        images = images.permute(0, 3, 1, 2)
        return CanvasBatch(torch.tensor(chunk), images, None if self.classes is None else masks)


@dataclass(frozen=True)
class Chunks:
    """The places of each batch; none is held longer than it is looked at.

    Args: as `Canvases.batches`.
    """

    order: Sequence[int]
    batch_size: int
    first: int = 0
    steps: int | None = None

    def __iter__(self) -> Iterator[list[int]]:
        size = self.batch_size
        steps = -(-len(self.order) // size) if self.steps is None else self.steps
        return (list(self.order[k * size : (k + 1) * size]) for k in range(self.first, steps))


def _stacked(faces: list[Canvas]) -> Canvas:
    images, masks = zip(*faces, strict=True)
    return torch.stack(images), torch.stack(masks)


class _WorkersView(Dataset[Canvas]):
    """What a worker process reads: a whole batch, or the error that stopped it."""

    def __init__(self, canvases: Canvases) -> None:
        self.canvases = canvases

    def __getitem__(self, index: int) -> Canvas:
        return self.canvases.decode(index)

    def __getitems__(self, chunk: list[int]) -> Canvas | SsplError:
        # An error that is raised here would arrive wrapped in the worker's traceback.
        try:
            return _stacked([self.canvases.decode(index) for index in chunk])
        except SsplError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def _from_processes(canvases: Canvases, chunks: Chunks) -> Iterator[Canvas]:
    # The loader's own generator spares the global one, whose state decides what is learnt.
    loader = DataLoader(
        _WorkersView(canvases),
        batch_sampler=chunks,
        num_workers=canvases.workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )
    with _deaths_wait():
        batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            raise DataError(
                f"one of {canvases.workers} data workers died, often for want of memory or of "
                "shared memory (/dev/shm); set fewer runtime.workers or a smaller batch."
            ) from None
        if isinstance(batch, SsplError):
            raise batch
        yield batch


@contextmanager
def _deaths_wait() -> Iterator[None]:
    """Keep torch from raising a worker's death in the middle of whatever runs at that moment.

    Its SIGCHLD handler does; without it the death is noticed when the next batch is asked for.
    """
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "SIGCHLD")):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)
