"""From the bytes of a picture to its faces, and from faces to attributes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sspl.apps.serving.costs import decoding_bytes
from sspl.data.decoding import TooLargeError, formats_read
from sspl.data.images import read_image
from sspl.data.pictures import Content
from sspl.data.streams import in_batches
from sspl.device import pick_device
from sspl.errors import DataError
from sspl.faces.face import FaceDetector
from sspl.inference.attribution import explain_canvases
from sspl.inference.crops import FaceCrop, crop_faces, whole_picture
from sspl.inference.explain import by_part, classes_of, face_parts
from sspl.models.bundle import load_model
from sspl.models.scoring import logits_of
from sspl.settings import Precision


def open_picture(content: bytes, max_pixels: int) -> Image.Image:
    """Return an uploaded picture upright and in RGB.

    Raises `DataError` when it is none, of a format not taken, damaged, or larger than
    `max_pixels`; the size is looked at before any pixel is decoded.
    """
    with _explained(max_pixels):
        return read_image(Content(content, "the picture"), max_pixels)


@contextmanager
def _explained(max_pixels: int) -> Iterator[None]:
    """Say of a picture that cannot be used no more than its sender must know."""
    try:
        yield
    except TooLargeError:
        raise DataError(f"the picture has more than {max_pixels} px; send a smaller one.") from None
    except DataError:
        formats = ", ".join(formats_read())
        raise DataError(f"not a picture that can be read; send {formats}.") from None


MOST_SCORED: Final = 64
"""Faces that pass through the network together."""


def upload_bytes(content: bytes, max_pixels: int) -> int:
    """Return `decoding_bytes` of an upload; raise as `open_picture`."""
    with _explained(max_pixels):
        return decoding_bytes(Content(content, "the picture"), max_pixels)


@dataclass(frozen=True)
class LookedUpload:
    """A picture's size upright in px and its faces, the largest first; how many more were found."""

    width: int
    height: int
    faces: list[FaceCrop]
    left_out: int

    @property
    def nbytes(self) -> int:
        """Memory of the faces."""
        return sum(face.canvas.nbytes for face in self.faces)


@dataclass(frozen=True)
class Explained:
    """Why one attribute of a face is as it is; see `FaceParts`.

    Args:
        baseline: what an average face has.
        parts: what each part adds; empty where the model pools over all places.
        added: float32 (h, w), what each place adds.
    """

    baseline: float
    parts: dict[str, float]
    added: NDArray[np.float32]


class Reader:
    """A fine-tuned model and, unless every picture is one face, a face detector.

    Args:
        folder: run folder or model folder.
        detector: finds faces; None takes each picture as one aligned face.
        device: where the network runs.
        precision: of the network's arithmetic.
    """

    def __init__(
        self,
        folder: Path,
        detector: FaceDetector | None,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        self.model = load_model(folder)
        self.device = pick_device(device)
        self.model.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.detector = detector
        self.precision = precision
        self._detecting = threading.Lock()

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes in output order."""
        return self.model.schema.names

    def look(self, content: bytes, max_pixels: int, max_faces: int) -> LookedUpload:
        """Return what is on an uploaded picture, which is not kept; raise as `open_picture`."""
        image = open_picture(content, max_pixels)
        faces, left_out = self.faces(image, max_faces)
        return LookedUpload(image.width, image.height, faces, left_out)

    def faces(self, image: Image.Image, most: int) -> tuple[list[FaceCrop], int]:
        """Return the largest faces of an upright RGB picture, and how many more there are."""
        box, canvas = self.model.box, self.model.canvas
        if self.detector is None:
            return [whole_picture(image, box, canvas)], 0
        # Detectors keep the picture's size as state.
        with self._detecting:
            found = self.detector.detect(np.asarray(image))
        largest = sorted(found, key=lambda face: -face.area)[:most]
        return crop_faces(image, largest, box, canvas), len(found) - len(largest)

    def probabilities(self, pictures: Sequence[Sequence[FaceCrop]]) -> list[NDArray[np.float64]]:
        """Return calibrated probabilities float64 (faces, attributes) of each picture.

        The faces of all pictures pass through the network together, `MOST_SCORED` at a time.
        """
        canvases = [face.canvas for faces in pictures for face in faces]
        parts = [np.empty((0, len(self.attributes)))]
        parts += [self._scores(batch) for batch in in_batches(canvases, MOST_SCORED)]
        ends = np.cumsum([len(faces) for faces in pictures])
        return np.split(np.concatenate(parts), ends[:-1])

    def _scores(self, canvases: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        pixels = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).to(self.device)
        model = self.model
        logits = logits_of(
            model.network, pixels, model.input_size, model.flip_average, self.precision
        )
        return model.probabilities(logits.cpu().numpy())

    def explanations(self, asked: Sequence[tuple[FaceCrop, int]]) -> list[Explained]:
        """Return why the attribute of a number is as it is in a face; all pass through together."""
        canvases = np.stack([face.canvas for face, _ in asked])
        found = face_parts(explain_canvases(self.model, canvases))
        classes = classes_of(self.model)
        # A copy: the maps of all attributes of all these faces are not kept for it.
        return [
            Explained(float(parts.baseline[i]), by_part(parts, i, classes), parts.maps[i].copy())
            for parts, (_, i) in zip(found, asked, strict=True)
        ]
