"""Whether pictures are shaped like those that a model learnt from: crops, or whole photographs."""

import logging
from typing import Final

import numpy as np

from sspl.data.data_settings import CELEBA_BOX
from sspl.data.images import Box, read_format
from sspl.data.records import Faces

log = logging.getLogger(__name__)

Size = tuple[int, int]
"""Width and height in px, upright."""

CELEBA_SIZE: Final[Size] = (178, 218)
"""Of CelebA's aligned pictures, and of the crops of `sspl faces detect`."""

LOOKED_AT: Final = 64
SAME_SHAPE: Final = 1.05
"""Ratio of two aspects up to which they are one."""

MUCH_LARGER: Final = 2.0
"""Ratio of shorter sides above which a picture is hardly a crop of the same kind."""

DETECT: Final = "give --detect, which finds and cuts the faces"


def usual_size(faces: Faces, box: Box) -> Size | None:
    """Return the size of the largest of some faces; None where they have no shape in common.

    Of pictures that were cut when they were packed, `box` alone tells what they were.
    """
    if faces.cut is not None or not len(faces):
        return size_by_box(box)
    count = min(len(faces), LOOKED_AT)
    places = [i * len(faces) // count for i in range(count)]
    sizes = [read_format(faces[place].image)[1] for place in places]
    aspects = [width / height for width, height in sizes]
    return max(sizes) if max(aspects) <= SAME_SHAPE * min(aspects) else None


def size_by_box(box: Box) -> Size | None:
    """Return what pictures are to be like, by the crop that is used of them."""
    return CELEBA_SIZE if np.allclose(box, CELEBA_BOX, rtol=0, atol=1e-6) else None


def is_unlike(size: Size, usual: Size | None) -> bool:
    """Tell whether a picture has another shape than the usual ones, or is much larger."""
    if usual is None:
        return False
    turned = size[0] * usual[1] / (size[1] * usual[0])
    larger = min(size) > MUCH_LARGER * min(usual)
    return larger or not 1 / SAME_SHAPE <= turned <= SAME_SHAPE


class Unlike:
    """Counts pictures that are unlike those a model learnt from, for one warning."""

    def __init__(self, usual: Size | None) -> None:
        self.usual, self.looked_at, self.count = usual, 0, 0
        self.example: Size | None = None

    def note(self, size: Size | None) -> None:
        """Count a picture; `size` is that of one that is unlike."""
        self.looked_at += 1
        if size is not None:
            self.count += 1
            self.example = self.example or size

    def warn(self, advice: str) -> None:
        """Say how many there are, and what to do; nothing where there are none."""
        if self.usual and self.example:
            (width, height), (wide, high) = self.example, self.usual
            log.warning(
                f"{self.count} of {self.looked_at} pictures differ in shape or size from those "
                f"that the model learnt from (one is {width} x {height} px, those were {wide} x "
                f"{high}); unless they show the face cut in the same way, {advice}."
            )
