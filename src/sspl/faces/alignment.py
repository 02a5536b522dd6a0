"""From a face in a photograph to a crop in the frame of CelebA's aligned pictures.

CelebA's aligned pictures are 178 x 218. Its authors say that faces were "roughly aligned using
similarity transformation according to the two eye locations"; its eyes and mouths scatter by
2 to 4 px about the points in `FRAME_LANDMARKS`.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.faces.face import EYES, Face, Points

Numbers = NDArray[np.complex128]

FRAME_WIDTH: Final = 178
FRAME_HEIGHT: Final = 218

FRAME_LANDMARKS: Final[Points] = np.array(
    [(69.0, 111.7), (109.0, 111.7), (88.6, 134.4), (72.0, 152.2), (105.5, 152.2)]
)
"""Mean of YuNet's landmarks on 599 aligned CelebA faces (half size, scaled up), made level.

In px, about: standard deviations there are 3 px in x and 2.5 px in y, 6 px for the nose's x.
"""

FRAME_BOX: Final = (37.4, 71.8, 140.6, 175.0)
"""About where the Haar cascade `frontalface_alt2` sees aligned CelebA faces, in px."""

PROFILE: Final = 0.5
"""Eyes nearer to each other than this, in units of eyes to mouth, do not give the rotation.

In CelebA's frame the ratio is 1; in profile both eyes fall on one spot and their line says
nothing.
"""

_FIT: Final = [0, 1, 3, 4]  # The nose turns with the head more than the others do.
_OVERSAMPLING: Final = 2
_MARGIN: Final = 3


@dataclass(frozen=True)
class Placement:
    """The similarity that takes a photograph to its crop: z -> turn * z + shift, z = x + iy.

    Coordinates are px from the top left corner of the picture, so that the centre of the first
    pixel is 0.5 + 0.5i.
    """

    turn: complex
    shift: complex

    @property
    def scale(self) -> float:
        """Crop px for each px of the photograph; above 1 the face is enlarged."""
        return abs(self.turn)

    @property
    def rotation(self) -> float:
        """By how many degrees the face is tilted in the photograph, clockwise positive."""
        # Adding 0 turns -0 into 0.
        return 0.0 - math.degrees(math.atan2(self.turn.imag, self.turn.real))

    def apply(self, points: Points) -> Points:
        """Take points float64 (n, 2) of the photograph to the crop."""
        return _points(self.turn * _numbers(points) + self.shift)


def frame_size(height: int = FRAME_HEIGHT) -> tuple[int, int]:
    """Return width and height of a crop in CelebA's aspect."""
    return round(height * FRAME_WIDTH / FRAME_HEIGHT), height


def place(face: Face, height: int = FRAME_HEIGHT) -> Placement:
    """Return the similarity that takes a face to a crop of this height.

    Rotation comes from the line through the eyes, scale and position from eyes and mouth by
    least squares: this comes nearest to the scatter of CelebA's own landmarks. Without a mouth
    the eyes decide alone, without landmarks the box.
    """
    unit = height / FRAME_HEIGHT
    points = face.landmarks
    if points is None or _spread(points) < 1:
        return _place_box(face.box, unit)
    chosen = _FIT if len(points) > EYES else [0, 1]
    return _fit(_numbers(points[chosen]), _numbers(FRAME_LANDMARKS[chosen]) * unit)


def _place_box(box: tuple[float, float, float, float], unit: float) -> Placement:
    """Lay the centre of a box on the frame's box, of equal area."""
    left, top, right, bottom = (v * unit for v in FRAME_BOX)
    area = (box[2] - box[0]) * (box[3] - box[1])
    scale = math.sqrt((right - left) * (bottom - top) / area)
    centre = complex(left + right, top + bottom) / 2
    return Placement(complex(scale), centre - scale * complex(box[0] + box[2], box[1] + box[3]) / 2)


def _spread(points: Points) -> float:
    return float(np.ptp(points, axis=0).max())


def _fit(source: Numbers, target: Numbers) -> Placement:
    """Fit target = turn * source + shift by least squares, the angle from the eyes if they tell."""
    middle, goal = source.mean(), target.mean()
    turn = np.vdot(source - middle, target - goal) / np.vdot(source - middle, source - middle).real
    if _frontal(source):
        way = (target[1] - target[0]) / (source[1] - source[0])
        way /= abs(way)
        # With the angle fixed, the best scale is the free fit's part along it.
        along = (turn * way.conjugate()).real
        turn = along * way if along > 0 else turn
    return Placement(complex(turn), complex(goal - turn * middle))


def _frontal(points: Numbers) -> bool:
    eyes, mouth = points[:EYES], points[EYES:]
    apart = abs(eyes[1] - eyes[0])
    least = PROFILE * abs(mouth.mean() - eyes.mean()) if len(mouth) else 0
    return bool(apart > 0 and apart >= least)


def _numbers(points: Points) -> Numbers:
    return points[:, 0] + 1j * points[:, 1]


def _points(numbers: Numbers) -> Points:
    return np.stack([numbers.real, numbers.imag], axis=1)


def cut(image: Image.Image, placement: Placement, height: int = FRAME_HEIGHT) -> Image.Image:
    """Return the crop of an RGB photograph, RGB of `frame_size(height)`.

    Beyond the photograph its border pixels are repeated. A photograph that is shrunk is
    averaged over areas, so that fine texture does not turn into patterns.
    """
    factor = max(1, math.floor(1 / placement.scale))
    shrunk = image.reduce(factor) if factor > 1 else image
    size = frame_size(height)
    grid = (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING)
    # Back from the oversampled crop to the shrunk photograph.
    turn = 1 / (placement.turn * factor * _OVERSAMPLING)
    origin = -placement.shift / (placement.turn * factor)
    region, left, top = _region(shrunk, turn, origin, grid)
    origin -= complex(left, top)
    back = (turn.real, -turn.imag, origin.real, turn.imag, turn.real, origin.imag)
    fine = region.transform(grid, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    return fine.reduce(_OVERSAMPLING)


def _region(
    image: Image.Image, turn: complex, origin: complex, grid: tuple[int, int]
) -> tuple[Image.Image, int, int]:
    """Return what the crop needs of a photograph, borders repeated, and its left and top."""
    corners = [origin + turn * complex(x, y) for x in (0, grid[0]) for y in (0, grid[1])]
    x, y = [z.real for z in corners], [z.imag for z in corners]
    left, top = math.floor(min(x)) - _MARGIN, math.floor(min(y)) - _MARGIN
    columns = np.arange(left, math.ceil(max(x)) + _MARGIN).clip(0, image.width - 1)
    rows = np.arange(top, math.ceil(max(y)) + _MARGIN).clip(0, image.height - 1)
    return Image.fromarray(np.asarray(image)[np.ix_(rows, columns)]), left, top
