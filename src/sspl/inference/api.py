"""A model for Python programs: `sspl.load(path).predict(pictures)`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sspl.data.framing import Size, Unlike, is_unlike
from sspl.data.images import image_canvas
from sspl.data.streams import in_batches, read_ahead
from sspl.inference.pictures import Picture, each_picture, name_of, open_picture
from sspl.inference.scorers import Scorer, load_scorer
from sspl.settings import Precision

BATCH_SIZE: Final = 64


@dataclass(frozen=True)
class Answer:
    """What a model says of one attribute of one face.

    Args:
        probability: calibrated on validation faces.
        present: whether the probability reaches the attribute's threshold.
        sure: whether it lies outside the attribute's "not sure" band.

    Examples:
        >>> Answer(probability=0.7, present=True, sure=True).present
        True
    """

    probability: float
    present: bool
    sure: bool


@dataclass(frozen=True)
class FacePredictions:
    """What a model says of some faces.

    Args:
        attributes: names, in the order of the columns of the arrays.
        probabilities: float64 (faces, attributes), calibrated.
        present: bool (faces, attributes), whether a probability reaches its threshold.
        unsure: bool (faces, attributes), whether a probability lies in its "not sure" band.
        names: path of each picture, or `picture N` with its number from 0.

    Examples:
        >>> yes, no = np.array([[True]]), np.array([[False]])
        >>> said = FacePredictions(("Smiling",), np.array([[0.9]]), yes, no, ("a.jpg",))
        >>> said[0]["Smiling"]
        Answer(probability=0.9, present=True, sure=True)
    """

    attributes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    present: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, face: int) -> dict[str, Answer]:
        """Return what is said of one face, by attribute."""
        row = zip(
            self.attributes,
            self.probabilities[face],
            self.present[face],
            self.unsure[face],
            strict=True,
        )
        return {name: Answer(float(p), bool(yes), not u) for name, p, yes, u in row}

    def __iter__(self) -> Iterator[dict[str, Answer]]:
        return (self[face] for face in range(len(self)))


class Predictor:
    """A model, ready to predict.

    Attributes:
        attributes: names of what it predicts.

    Examples:
        >>> predictor = load(model)
        >>> predictor.attributes
        ('Smiling',)
        >>> predictor.predict(np.zeros((48, 48, 3), np.uint8)).probabilities.shape
        (1, 1)
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.attributes = scorer.attributes

    def predict(
        self, images: Picture | Iterable[Picture], batch_size: int = BATCH_SIZE
    ) -> FacePredictions:
        """Return what the model says of each picture, which shows one face framed as in training.

        Args:
            images: one picture, a folder of them, several of either, or a 4-d array or tensor of
                several. A picture is a path, the bytes of a picture file, such a file opened as
                binary, a PIL picture of any mode, uint8 (h, w, 3) in RGB or (h, w) in grey, or a
                tensor (3, h, w) or (h, w), uint8 or floating point from 0 to 1.
            batch_size: pictures that pass through the network together; threads prepare the
                next ones meanwhile.

        Raises `DataError` naming the picture that cannot be used.
        """
        batches = in_batches(enumerate(each_picture(images)), batch_size)
        parts = [np.empty((0, len(self.attributes)))]
        names: list[str] = []
        unlike = Unlike(self.scorer.pictures)
        for batch in read_ahead(self._canvas, batches):
            for name, size, _ in batch:
                names.append(name)
                unlike.note(size if is_unlike(size, unlike.usual) else None)
            parts.append(self.scorer.probabilities(np.stack([canvas for *_, canvas in batch])))
        unlike.warn("cut the faces first with 'sspl faces detect', or use 'sspl predict --detect'")
        probabilities = np.concatenate(parts)
        present, unsure = self.scorer.decisions.decide(self.attributes, probabilities)
        return FacePredictions(self.attributes, probabilities, present, unsure, tuple(names))

    def _canvas(self, numbered: tuple[int, Picture]) -> tuple[str, Size, NDArray[np.uint8]]:
        number, picture = numbered
        image = open_picture(picture, number)
        canvas = image_canvas(image, self.scorer.box, self.scorer.canvas)
        return name_of(picture, number), image.size, canvas


def load(path: str | Path, device: str = "auto", precision: Precision = "auto") -> Predictor:
    """Return the model of a run folder, a model folder, a file of weights or an ONNX file.

    Args:
        path: where it is.
        device: such as `cpu` or `cuda:0`; `auto` is the accelerator that torch finds, else the CPU.
        precision: `fp32`, `bf16`, or `auto`: bf16 where that is fast.

    Raises `DataError` when there is no model or a damaged one, `SettingsError` for a device that
    is not there.

    Examples:
        >>> said = load(model, device="cpu").predict(render_face(seed=0, index=0, size=64).image)
        >>> 0 <= said[0]["Smiling"].probability <= 1
        True
    """
    return Predictor(load_scorer(Path(path), device, precision))
