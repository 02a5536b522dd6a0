"""The faces of a picture, cut as the network sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.data.images import Box, image_canvas
from sspl.faces.alignment import cut, place
from sspl.faces.face import Face


@dataclass(frozen=True)
class FaceCrop:
    """A face as the network sees it.

    Args:
        box: left, top, right, bottom in px of the upright picture; None when the whole picture
            is the face.
        score: the detector's, on its own scale; None without detection.
        canvas: uint8 (c, c, 3).
    """

    box: tuple[float, float, float, float] | None
    score: float | None
    canvas: NDArray[np.uint8]


def whole_picture(image: Image.Image, box: Box, canvas: int) -> FaceCrop:
    """Take an upright RGB picture as one aligned face; `box` is the part that is used."""
    return FaceCrop(None, None, image_canvas(image, box, canvas))


def crop_faces(image: Image.Image, faces: Sequence[Face], box: Box, canvas: int) -> list[FaceCrop]:
    """Cut the faces found in an upright RGB picture in CelebA's frame, the largest first.

    `box` is the part of the frame that is used.
    """
    return [
        FaceCrop(face.box, face.score, image_canvas(cut(image, place(face)), box, canvas))
        for face in sorted(faces, key=lambda f: (-f.area, f.box))
    ]
