"""Canvases decoded by threads while the caller computes; nothing is kept."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.images import Box, image_canvas, read_image
from sspl.device import usable_cores

BATCHES_AHEAD: Final = 2


def stream_canvases(
    images: Sequence[Path], box: Box, canvas: int, batch_size: int, threads: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 (n, canvas, canvas, 3) for the pictures in order, `batch_size` at a time.

    The next two batches are decoded meanwhile by `threads` threads (0: one a core). Raises
    `DataError` naming the picture that cannot be used.
    """

    def decode(path: Path) -> NDArray[np.uint8]:
        return image_canvas(read_image(path), box, canvas)

    waiting = iter(images)
    pending: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(threads or usable_cores()) as pool:

        def start(count: int) -> None:
            pending.extend(pool.submit(decode, path) for path in islice(waiting, count))

        try:
            start(batch_size * (1 + BATCHES_AHEAD))
            while pending:
                batch = [pending.popleft().result() for _ in range(min(batch_size, len(pending)))]
                start(batch_size)
                yield np.stack(batch)
        finally:
            # Without this an error would wait for pictures that nobody wants any more.
            for future in pending:
                future.cancel()
