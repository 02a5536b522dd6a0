"""Faces as square uint8 canvases, decoded once into memory or streamed."""

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sspl.data.images import mask_canvas, read_canvas, read_mask, square_side
from sspl.data.kept import canvases_file, mapped
from sspl.data.orders import WINDOW, Places, WindowedOrder
from sspl.data.packs.read import PackedFaces
from sspl.data.records import FaceSource, box_in
from sspl.data.streams import read_ahead
from sspl.distributed.random import sent
from sspl.errors import DataError, SsplError
from sspl.io.cores import usable_cores
from sspl.io.progress import watched

GIB: Final = 2**30
SIZES_LOOKED_AT: Final = 64
"""Faces of each source whose size tells how large its pictures are."""

LEAST_SIDE: Final = 32
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

    def to(self, device: torch.device) -> "CanvasBatch":
        """Return the batch with its pictures on a device, not waited for; the places stay."""
        masks = None if self.masks is None else sent(self.masks, device)
        return replace(self, images=sent(self.images, device), masks=masks)

    def tensors(self) -> list[Tensor]:
        """Return the pictures and, if any, masks."""
        return [self.images] if self.masks is None else [self.images, self.masks]


def ahead(batches: Iterator[CanvasBatch], device: torch.device) -> Iterator[CanvasBatch]:
    """Yield batches on a device; to a CUDA device they are copied one ahead, beside its work."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: tuple[CanvasBatch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(copies):
            copied = batch.to(device), copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = copied
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: CanvasBatch, copied: torch.cuda.Event) -> CanvasBatch:
    """Let the device's work wait for the copy, and the memory for the work."""
    work = torch.cuda.current_stream()
    work.wait_event(copied)
    for tensor in batch.tensors():
        tensor.record_stream(work)
    return batch


def own_side(sources: Sequence[FaceSource], canvas: int) -> int:
    """Return the side of a canvas that keeps all that pictures hold, `canvas` at most.

    It is that of the largest square among some faces of each source, spread evenly.
    """
    largest = LEAST_SIDE
    for source in sources:
        faces = source.faces
        if faces.cut is not None:
            largest = max(largest, faces.cut.canvas)
            continue
        for i in range(0, len(faces), max(1, len(faces) // SIZES_LOOKED_AT)):
            if largest >= canvas:
                break
            largest = max(largest, square_side(faces[i].image, source.box))
    return min(canvas, largest)


class Canvases:
    """Canvases of one or more sources, one after the other.

    Args:
        sources: where the faces come from.
        canvas: side in px.
        classes: number of semantic classes, to read masks too; None leaves masks alone.
        cache_gb: keep all canvases in memory when they take no more than this.
        workers: processes that decode when the canvases are not kept; 0: threads of this one.
            They stay from one order to the next.
        enlarge: bring smaller pictures to `canvas`; else it is no larger than `own_side`.
        cache_folder: keep them in a file there, which other processes and later runs use, too.

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
        enlarge: bool = True,
        cache_folder: Path | None = None,
    ) -> None:
        self.sources = list(sources)
        self.canvas = canvas = canvas if enlarge else own_side(self.sources, canvas)
        self.classes = classes
        self.workers = workers
        self.boxes = [box_in(s.faces, s.box, canvas) for s in self.sources]
        self.starts = np.cumsum([0, *(len(s.faces) for s in self.sources)])
        self._kept: Sequence[Tensor] | None = None
        self._loader: DataLoader[Any] | None = None
        channels = 3 if classes is None else 4
        if len(self) * channels * canvas**2 <= cache_gb * GIB:
            self._kept = self._decode_all(cache_folder)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs, which has no workers itself."""
        return self.__dict__ | {"_loader": None}

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

    def _decode_all(self, folder: Path | None) -> Sequence[Tensor]:
        side = self.canvas
        mask_shape = (0,) if self.classes is None else (side, side)
        shapes = [(len(self), side, side, 3), (len(self), *mask_shape)]
        if folder is not None:
            file = folder / canvases_file(self.sources, side, self.classes)
            return mapped(file, shapes, self._decode_into)
        tensors = [torch.empty(shape, dtype=torch.uint8) for shape in shapes]
        self._decode_into(tensors)
        return tensors

    def _decode_into(self, tensors: Sequence[Tensor]) -> None:
        images, masks = tensors
        with ThreadPoolExecutor(usable_cores()) as pool:
            decoded = pool.map(self.decode, range(len(self)))
            bar = watched(decoded, "read faces", len(self), leave=False)
            for i, (image, mask) in enumerate(bar):
                images[i], masks[i] = image, mask

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
            read = self._from_workers(chunks)
        else:
            read = (_stacked(batch) for batch in read_ahead(self.decode, chunks))
        for chunk, batch in zip(chunks, read, strict=True):
            yield self._batch(chunk, batch)

    def _from_workers(self, chunks: "Chunks") -> Iterator[Canvas]:
        if self._loader is None:
            # The loader's own generator spares the global one, whose state decides what is learnt.
            # It reads by a copy: were `self` in it, the two would wait for the garbage collector,
            # which takes the queues before the workers hear that it is over (5 s each).
            self._loader = DataLoader(
                _WorkersView(copy(self)),
                batch_sampler=_Changing(chunks),
                num_workers=self.workers,
                collate_fn=_as_it_is,
                generator=torch.Generator(),
                persistent_workers=True,
            )
        self._loader.batch_sampler.chunks = chunks  # type: ignore[union-attr]
        try:
            with _deaths_wait():
                batches = iter(self._loader)
            for batch in batches:
                if isinstance(batch, SsplError):
                    raise batch
                yield batch
        except RuntimeError as error:
            self._loader = None
            if "DataLoader worker (pid" not in str(error):
                raise
            raise DataError(
                f"one of {self.workers} data workers died, often for want of memory or of "
                "shared memory (/dev/shm); set fewer runtime.workers or a smaller batch."
            ) from None

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


class _Changing:
    """The chunks of the order that is read now: a loader keeps one sampler, and so its workers."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.chunks)


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
