"""From the bytes of a picture to its faces, and from faces to attributes."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sspl.data.decoding import TooLargeError, formats_read
from sspl.data.images import read_image
from sspl.data.pictures import Content
from sspl.device import Precision, pick_device
from sspl.errors import DataError
from sspl.faces.face import FaceDetector
from sspl.inference.attribution import explain_canvases
from sspl.inference.crops import FaceCrop, crop_faces, whole_picture
from sspl.inference.explain import FaceParts, face_parts
from sspl.models.bundle import load_model
from sspl.models.scoring import logits_of


def open_picture(content: bytes, max_pixels: int) -> Image.Image:
    """Return an uploaded picture upright and in RGB.

    Raises `DataError` when it is none, of a format not taken, damaged, or larger than
    `max_pixels`; the size is looked at before any pixel is decoded.
    """
    try:
        return read_image(Content(content, "the picture"), max_pixels)
    except TooLargeError:
        raise DataError(f"the picture has more than {max_pixels} px; send a smaller one.") from None
    except DataError:
        formats = ", ".join(formats_read())
        raise DataError(f"not a picture that can be read; send {formats}.") from None


class Reader:
    """A fine-tuned model and, unless every picture is one face, a face detector.

    Args:
        folder: run folder or model folder.
        detector: finds faces; None takes each picture as one aligned face.
        device: where the network runs.
        precision: of the network's arithmetic.
    """

    def __init__(
        self, folder: Path, detector: FaceDetector | None, device: str = "auto",
        precision: Precision = "auto",
    ) -> None:  # fmt: skip
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

    def faces(self, image: Image.Image) -> list[FaceCrop]:
        """Return the faces of an upright RGB picture, the largest first."""
        box, canvas = self.model.box, self.model.canvas
        if self.detector is None:
            return [whole_picture(image, box, canvas)]
        # Detectors keep the picture's size as state.
        with self._detecting:
            found = self.detector.detect(np.asarray(image))
        return crop_faces(image, found, box, canvas)

    def probabilities(self, pictures: Sequence[Sequence[FaceCrop]]) -> list[NDArray[np.float64]]:
        """Return calibrated probabilities float64 (faces, attributes) of each picture.

        All faces of all pictures pass through the network together.
        """
        canvases = [face.canvas for faces in pictures for face in faces]
        if not canvases:
            return [np.empty((0, len(self.attributes))) for _ in pictures]
        pixels = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).to(self.device)
        model = self.model
        logits = logits_of(
            model.network, pixels, model.input_size, model.flip_average, self.precision
        )
        scores = model.probabilities(logits.cpu().numpy())
        ends = np.cumsum([len(faces) for faces in pictures])
        return np.split(scores, ends[:-1])

    def explanations(self, faces: Sequence[FaceCrop]) -> list[FaceParts]:
        """Return of each face what its parts add to the logits; all pass through together."""
        return face_parts(explain_canvases(self.model, np.stack([face.canvas for face in faces])))
