"""Pictures of an explanation: heat maps over a face, and its segmentation."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sspl.data.palette import overlay
from sspl.data.sheets import Line, key_of

FOR: Final = (214, 47, 39)
AGAINST: Final = (44, 123, 182)
SIDE: Final = 224
"""Px of a face on a sheet."""

STRENGTH: Final = 0.8

Pixels = NDArray[np.uint8]


def heat_map(face: Pixels, added: NDArray[np.floating], side: int = SIDE) -> Pixels:
    """Return uint8 (side, side, 3): the grey face, red where a place speaks for, blue against.

    Args:
        face: uint8 (c, c, 3).
        added: float (h, w), what each place adds; the strongest place has the full colour.
    """
    grey = np.asarray(Image.fromarray(face).convert("L").resize((side, side)), dtype=np.float32)
    smooth = Image.fromarray(added.astype(np.float32)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    strongest = float(np.abs(added).max())
    # A map that is zero everywhere has no strongest place.
    value = np.asarray(smooth) / (strongest or 1.0)
    colour = np.where((value > 0)[..., None], FOR, AGAINST)
    opacity = STRENGTH * np.abs(value).clip(0, 1)[..., None]
    blended = grey[..., None] * (1 - opacity) + colour * opacity
    return blended.round().clip(0, 255).astype(np.uint8)


def segmented(face: Pixels, ids: Pixels, classes: int, side: int = SIDE) -> Pixels:
    """Return uint8 (side, side, 3): the face with the classes of ids uint8 (h, w) over it."""
    image = np.asarray(Image.fromarray(face).resize((side, side)))
    large = np.asarray(Image.fromarray(ids).resize((side, side), Image.Resampling.NEAREST))
    return overlay(image, large, classes)


def legend(ids: Pixels, classes: Sequence[str]) -> list[Line]:
    """Return the names and colours of all classes that are there, those that cover most first."""
    shares = np.bincount(ids.ravel(), minlength=len(classes))
    order = np.argsort(-shares, kind="stable")
    return key_of(classes, [int(i) for i in order if shares[i]])
