"""What a face parser is to the rest of the software, whatever it is made of."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sspl.domain.taxonomy import Taxonomy

Pixels = NDArray[np.uint8]
Ids = NDArray[np.uint8]


class Parser(Protocol):
    """Says of every pixel of a picture of which class it is."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes whose ids `parse` returns."""
        ...

    @property
    def canvas(self) -> int:
        """Side in px of the square pictures that it is tested on."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of all that it is made of, equal for equal parsers alone."""
        ...

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width to which it scales a picture of (width, height)."""
        ...

    def parse(self, pictures: Sequence[Pixels]) -> list[Ids]:
        """Return class ids (h, w) for each uint8 (h, w, 3) RGB picture.

        The pictures may differ in size, but `looks_at` gives the same for all of them.
        """
        ...
