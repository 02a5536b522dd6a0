"""Random orders of faces that are never held as a whole."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, overload

import numpy as np
import torch
from numpy.typing import NDArray

from sspl.device import generator_for

WINDOW: Final = 16_384
"""How many faces are shuffled together, where they are too many to shuffle at once."""

Places = NDArray[np.int64]


class WindowedOrder(Sequence[int]):
    """All places of blocks of faces, each once: blocks shuffled, then places inside windows.

    The blocks are put in a random order and cut into windows of whole blocks, about `window` faces
    each (at least one block, and one window for all where they are no more than two of them); the
    places of each window are shuffled together. Every place is a function of the generator's state
    and of where it is asked for, so an order can be entered anywhere. Memory: one number a block
    and two windows.

    Args:
        starts: int64 (blocks + 1,), first place of each block, and behind the last one.
        window: faces that are shuffled together.
        generator: decides the order; advanced by a fixed number of draws.
    """

    def __init__(self, starts: Places, window: int, generator: torch.Generator) -> None:
        sizes = np.diff(starts)
        self._blocks = torch.randperm(len(sizes), generator=generator).numpy()
        self._seed = int(torch.randint(2**62, (), generator=generator))
        self._starts = starts
        before = np.concatenate([[0], np.cumsum(sizes[self._blocks])])
        self._length = int(before[-1])
        windows = max(1, self._length // window)
        # Windows of nearly equal size: the last one must not be a few faces that stay together.
        of_block = before[:-1] * windows // max(1, self._length)
        self._first_block = np.append(
            np.flatnonzero(np.diff(of_block, prepend=-1)), len(self._blocks)
        )
        self._first_place = before[self._first_block[:-1]]
        self._window = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> list[int]: ...
    def __getitem__(self, key: int | slice) -> int | list[int]:
        if isinstance(key, slice):
            return [self._at(i) for i in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(f"place {key} of {len(self)}")
        return self._at(key % len(self))

    def _at(self, i: int) -> int:
        window = int(np.searchsorted(self._first_place, i, side="right")) - 1
        return int(self._window(window)[i - self._first_place[window]])

    def _shuffled(self, window: int) -> Places:
        blocks = self._blocks[self._first_block[window] : self._first_block[window + 1]]
        places = np.concatenate([np.arange(self._starts[b], self._starts[b + 1]) for b in blocks])
        order = torch.randperm(len(places), generator=generator_for(self._seed, window))
        shuffled: Places = places[order.numpy()]
        return shuffled
