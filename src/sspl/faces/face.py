"""What a face detector finds, and what it looks like to the rest of the software."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

LANDMARKS: Final = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
"""Order of the landmarks; left and right are those of the picture, named as CelebA does."""

EYES: Final = 2
"""How many landmarks a detector gives that finds the eyes only."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a photograph.

    Args:
        box: left, top, right, bottom in px; may reach beyond the photograph.
        score: how sure the detector is, on its own scale.
        landmarks: float64 (5, 2), or (2, 2) for the eyes only, x and y in px in the order
            of `LANDMARKS`; None when the detector has none.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Points | None = None

    def __post_init__(self) -> None:
        shape = None if self.landmarks is None else self.landmarks.shape
        if shape not in {None, (EYES, 2), (len(LANDMARKS), 2)}:
            raise ValueError(f"landmarks have shape {shape}")

    @property
    def short_side(self) -> float:
        """The shorter side of the box in px."""
        left, top, right, bottom = self.box
        return min(right - left, bottom - top)

    @property
    def area(self) -> float:
        """Area of the box in square px."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class FaceDetector(Protocol):
    """Finds faces in one photograph."""

    def detect(self, image: Pixels) -> list[Face]:
        """Return the faces of uint8 (h, w, 3) RGB, in any order."""
        ...
