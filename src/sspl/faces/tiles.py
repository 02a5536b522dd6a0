"""A second look at tiles of a large photograph, for faces that are small in it.

A detector sees a photograph shrunk, and misses faces of which too few pixels are left. Here it sees
the whole photograph first, then overlapping tiles of it, each as a picture of its own. What both
find is merged by non-maximum suppression in the photograph's coordinates.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from sspl.faces.detectors import distinct
from sspl.faces.face import Face, FaceDetector, Pixels

TILE: Final = 800
"""Side of a tile, px."""

OVERLAP: Final = 240
"""Px that neighbouring tiles share: a face of at most so many is whole in one of them."""


class Tiled:
    """A detector that looks at the whole picture, then at its tiles.

    Args:
        detector: finds the faces of one picture.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self.detector = detector

    def detect(self, image: Pixels) -> list[Face]:
        """Return the faces of uint8 (h, w, 3) RGB, the surest first.

        A face of a tile counts if it is not larger than `OVERLAP` and does not touch an edge of
        the tile inside the picture: such a one is whole in a neighbour, or for the whole picture.
        """
        height, width = image.shape[:2]
        found = self.detector.detect(image)
        if max(height, width) > TILE:
            for top in starts(height):
                for left in starts(width):
                    found += self._in_tile(image, left, top)
        return distinct(found)

    def _in_tile(self, image: Pixels, left: int, top: int) -> Iterator[Face]:
        height, width = image.shape[:2]
        right, bottom = min(left + TILE, width), min(top + TILE, height)
        edges = (left or -np.inf, top or -np.inf)
        ends = (right if right < width else np.inf, bottom if bottom < height else np.inf)
        tile = np.ascontiguousarray(image[top:bottom, left:right])
        for face in self.detector.detect(tile):
            moved = shifted(face, left, top)
            box = moved.box
            is_whole = box[0] > edges[0] and box[1] > edges[1] and box[2] < ends[0]
            small = max(box[2] - box[0], box[3] - box[1]) <= OVERLAP
            if is_whole and box[3] < ends[1] and small:
                yield moved


def starts(length: int) -> list[int]:
    """Return where tiles begin along a side, evenly spread, so that neighbours share `OVERLAP`.

    Examples:
        >>> starts(700), starts(1000), starts(2000)
        ([0], [0, 200], [0, 400, 800, 1200])
    """
    last = max(0, length - TILE)
    steps = -(-last // (TILE - OVERLAP))
    return [last * i // steps for i in range(steps + 1)] if steps else [0]


def shifted(face: Face, left: int, top: int) -> Face:
    """Return a face of a tile in the coordinates of the picture that the tile begins in there."""
    x0, y0, x1, y1 = face.box
    moved = None if face.landmarks is None else face.landmarks + np.array([left, top])
    return Face((x0 + left, y0 + top, x1 + left, y1 + top), face.score, moved)
