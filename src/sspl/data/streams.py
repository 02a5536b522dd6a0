"""Faces read by threads while the caller computes; nothing is kept."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sspl.data.images import Box, read_canvas
from sspl.data.records import Faces, box_in
from sspl.io.cores import usable_cores

BATCHES_AHEAD: Final = 2

K = TypeVar("K")
V = TypeVar("V")


def read_ahead(
    read: Callable[[K], V], batches: Iterable[Sequence[K]], threads: int = 0
) -> Iterator[list[V]]:
    """Yield `read` of every key of each batch, in order.

    The next two batches are read meanwhile by `threads` threads (0: one a core). What `read`
    raises is raised when its batch is due.
    """
    waiting = iter(batches)
    pending: deque[list[Future[V]]] = deque()
    with ThreadPoolExecutor(threads or usable_cores()) as pool:

        def start(count: int) -> None:
            pending.extend([pool.submit(read, k) for k in keys] for keys in islice(waiting, count))

        try:
            start(1 + BATCHES_AHEAD)
            while pending:
                batch = [future.result() for future in pending[0]]
                pending.popleft()
                start(1)
                yield batch
        finally:
            # Without this an error would wait for pictures that nobody wants any more.
            for future in (f for futures in pending for f in futures):
                future.cancel()


def in_batches(items: Iterable[K], size: int) -> Iterator[list[K]]:
    """Yield lists of `size` items in order, taken when they are asked for; the last is shorter."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch


def stream_canvases(
    faces: Faces, box: Box, canvas: int, batch_size: int, threads: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 (n, canvas, canvas, 3) for the faces in order, `batch_size` at a time.

    `box` is that of the original pictures. Threads as in `read_ahead`. Raises `DataError` naming
    the picture that cannot be used, and where faces were cut to another box when they were packed.
    """
    inner = box_in(faces, box, canvas)

    def decode(index: int) -> NDArray[np.uint8]:
        return read_canvas(faces[index].image, inner, canvas)[0]

    places = range(len(faces))
    chunks = (places[i : i + batch_size] for i in range(0, len(faces), batch_size))
    for batch in read_ahead(decode, chunks, threads):
        yield np.stack(batch)
