"""A parser that needs no training: polygons through the points of a face mesh."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sspl.domain.taxonomy import UNKNOWN, Taxonomy, built_in_taxonomy
from sspl.faces.face import Points
from sspl.parsing.mesh import render_mesh
from sspl.parsing.parser import Ids, Pixels

NAME: Final = "landmarks"
CANVAS: Final = 256
VERSION: Final = 1
"""Goes up when the same points would give another mask."""


class FaceMesh(Protocol):
    """Finds the points of a face."""

    def points(self, image: Pixels) -> Points | None:
        """Return float64 (468, 2), x and y in px of uint8 (h, w, 3), or None without a face."""
        ...


class PersonMask(Protocol):
    """Tells persons from what is behind them."""

    def person(self, image: Pixels) -> NDArray[np.float32]:
        """Return float32 (h, w): how much of each pixel of uint8 (h, w, 3) is a person, 0 to 1."""
        ...


@dataclass(frozen=True)
class LandmarkParser:
    """Draws the mesh of the face in each picture.

    A picture without a face is `UNKNOWN` throughout, and so is all but the face without `people`.

    Args:
        mesh, people: where points and persons come from.
        digest: of both.
    """

    mesh: FaceMesh
    people: PersonMask | None
    digest: str

    @property
    def taxonomy(self) -> Taxonomy:
        """The 19 classes; some of them it never gives."""
        return built_in_taxonomy("celebamask19")

    @property
    def canvas(self) -> int:
        """Side in px of the pictures that it is tested on."""
        return CANVAS

    def fingerprint(self) -> str:
        """Return the digest of what it is made of and of how it draws."""
        return f"{NAME} {VERSION} {self.digest}"

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the picture's own height and width."""
        return size[1], size[0]

    def parse(self, pictures: Sequence[Pixels]) -> list[Ids]:
        """Return class ids (h, w) for each uint8 (h, w, 3) RGB picture."""
        return [self._parse(pixels) for pixels in pictures]

    def _parse(self, pixels: Pixels) -> Ids:
        size = (pixels.shape[0], pixels.shape[1])
        points = self.mesh.points(pixels)
        if points is None:
            return np.full(size, UNKNOWN, np.uint8)
        return render_mesh(points, size, self.people.person(pixels) if self.people else None)
