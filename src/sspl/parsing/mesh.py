"""From the 468 points of the face mesh to a mask of 19 classes.

Points are numbered as in MediaPipe's canonical face model; which of them lie around eyes, brows,
lips and face is a fact of that model, published with it. l_ and r_ are the person's own left and
right: the left eye is on the right of a picture that is not mirrored.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.faces.face import Points
from sspl.parsing.parser import Ids

POINTS: Final = 468
OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
TOP: Final = 10
BOTTOM: Final = 152
SIDES: Final = (234, 454)
"""The outermost points at the height of the ears, from the picture's left to its right."""

FOREHEAD: Final = (103, 67, 109, 10, 338, 297, 332)
"""Points of the oval that lie below the hairline; skin goes on above them."""

LEFT_EYE: Final = (
    263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
)  # fmt: skip
RIGHT_EYE: Final = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
)  # fmt: skip
LEFT_BROW: Final = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
RIGHT_BROW: Final = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
UPPER_LIP: Final = (
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
    78,
)  # fmt: skip
LOWER_LIP: Final = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
    78,
)  # fmt: skip
MOUTH: Final = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)  # fmt: skip
NOSE: Final = (
    168, 417, 465, 412, 399, 456, 420, 360, 278, 294, 327, 326, 2, 97, 98, 64, 48, 131, 198, 236,
    174, 188, 245, 193,
)  # fmt: skip

PAINTED: Final = (
    ("skin", OVAL), ("nose", NOSE), ("l_brow", LEFT_BROW), ("r_brow", RIGHT_BROW),
    ("l_eye", LEFT_EYE), ("r_eye", RIGHT_EYE), ("mouth", MOUTH), ("u_lip", UPPER_LIP),
    ("l_lip", LOWER_LIP),
)  # fmt: skip
"""What is painted over hair, neck and cloth, in this order."""

FOREHEAD_RISE: Final = 0.1
"""How far skin goes on above the mesh, in heights of the face."""

BROW_DROP: Final = 0.02
"""How far the brows of a picture lie below the mesh's, in heights of the face."""

JAW, SHOULDERS, COLLAR, NECK_HALF_WIDTH = 0.85, 1.05, 1.35, 0.4
"""Where a person outside the face is hair, neck or cloth: heights are counted from the top of the
face (0) to the chin (1), widths from its middle line in widths of the face. Read off where each
class is the commonest in masks of CelebAMask-HQ, whose pictures end at about the collar."""

PERSON: Final = 0.5
FINENESS: Final = 4
"""Polygons are drawn this many times finer; a pixel takes the class of its middle."""

COARSE_FROM: Final = 1024
"""Px of a side from which they are not, to save memory."""


def render_mesh(points: Points, size: tuple[int, int], person: NDArray[np.float32] | None) -> Ids:
    """Return class ids uint8 (h, w) of `celebamask19` for one face.

    Hair, neck and cloth are told apart by where they lie around the face, so only roughly; ears,
    glasses, hats and jewellery are not told at all.

    Args:
        points: float64 (468, 2), x and y in px.
        size: height and width of the picture.
        person: how much of each pixel is a person, (h, w); without it what is outside the face
            stays `UNKNOWN`.
    """
    taxonomy = built_in_taxonomy("celebamask19")
    ids = _surroundings(points, size, person)
    down = _axes(points)[1]
    height = float((points[BOTTOM] - points[TOP]) @ down)
    points = points.copy()
    points[list(FOREHEAD)] -= FOREHEAD_RISE * height * down
    points[[*LEFT_BROW, *RIGHT_BROW]] += BROW_DROP * height * down
    for name, outline in PAINTED:
        ids[_inside(points, outline, size)] = taxonomy.index(name)
    return ids


def _axes(points: Points) -> tuple[Points, Points]:
    """Return unit vectors along the face: to the picture's right, and down."""
    across = points[SIDES[1]] - points[SIDES[0]]
    right = across / np.linalg.norm(across)
    return right, np.array([-right[1], right[0]])


def _surroundings(points: Points, size: tuple[int, int], person: NDArray[np.float32] | None) -> Ids:
    taxonomy = built_in_taxonomy("celebamask19")
    if person is None:
        return np.full(size, UNKNOWN, np.uint8)
    right, down = _axes(points)
    middle = points[list(SIDES)].mean(0)
    places = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1) + 0.5
    width = np.linalg.norm(points[SIDES[1]] - points[SIDES[0]])
    aside = np.abs((places - middle) @ right) / width
    below = (places - points[TOP]) @ down / ((points[BOTTOM] - points[TOP]) @ down)
    hair = (below < JAW) | ((aside >= NECK_HALF_WIDTH) & (below < SHOULDERS))
    neck = ~hair & (aside < NECK_HALF_WIDTH) & (below < COLLAR)
    names = np.where(hair, "hair", np.where(neck, "neck", "cloth"))
    ids = np.full(size, taxonomy.background, np.uint8)
    for name in ("hair", "neck", "cloth"):
        ids[(person >= PERSON) & (names == name)] = taxonomy.index(name)
    return ids


def _inside(points: Points, outline: tuple[int, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return bool (h, w): pixels whose middle lies in the polygon through some of the points."""
    fine = FINENESS if max(size) < COARSE_FROM else 1
    canvas = Image.new("1", (size[1] * fine, size[0] * fine))
    corners = [(x * fine, y * fine) for x, y in points[list(outline)].tolist()]
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    return np.asarray(canvas)[fine // 2 :: fine, fine // 2 :: fine]
