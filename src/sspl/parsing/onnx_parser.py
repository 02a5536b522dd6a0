"""Parsers of the user's own: an ONNX graph with a YAML file of the same name beside it.

The YAML says what a graph cannot: which classes its output has, in which order, and how a
picture is brought into the range that it was trained on. Nothing of that is guessed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from sspl.domain.taxonomy import BUILT_IN, MAX_CLASSES, UNKNOWN, Taxonomy, called, load_taxonomy
from sspl.errors import DataError, SettingsError
from sspl.models.extractor_settings import Three
from sspl.models.extractors import NUMBERS
from sspl.onnx import ONNX_SUFFIX
from sspl.onnx.files import external_files, parse_onnx, run_in_batches, start_session
from sspl.parsing.network import resize
from sspl.parsing.parser import Ids, Pixels
from sspl.settings import Settings, build, read_settings

NEAREST: Final = Image.Resampling.NEAREST

Side = Annotated[int, Field(ge=32, le=4096)]


class OnnxParserSettings(Settings):
    """What stands in the YAML beside an ONNX parser.

    Attributes:
        classes: names in the order of the output's ids, or a taxonomy (built in, or its file).
        names: class of this parser: class of `taxonomy`, where the two names differ.
        taxonomy: classes of the masks that are written (built in, or its file).
        input_size: height and width in px that the graph takes.
        layout: where the channels stand, in the input and in logits.
        channels: order of the colour channels, and of `mean` and `std`.
        scale: what a grey level of 0 to 255 is multiplied by first.
        mean: what is subtracted then, for each channel.
        std: what is divided by then.
        output: `logits` (or probabilities) for each class, or their `argmax`.
        output_name: which output, if not the first.
    """

    classes: str | tuple[str, ...]
    names: dict[str, str] = Field(default_factory=dict)
    taxonomy: str = "celebamask19"
    input_size: tuple[Side, Side]
    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "bgr"]
    scale: float = Field(gt=0)
    mean: Three
    std: Three
    output: Literal["logits", "argmax"]
    output_name: str | None = None

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if min(self.std) <= 0:
            raise ValueError("std must be above 0 for each channel")
        if not isinstance(self.classes, str):
            if not 2 <= len(self.classes) <= MAX_CLASSES:
                raise ValueError(f"classes: give 2 to {MAX_CLASSES} names")
            if len(set(self.classes)) != len(self.classes):
                raise ValueError("classes: one is listed twice; give each once")
        return self


def read_parser_settings(path: Path) -> OnnxParserSettings:
    """Read the YAML beside an ONNX parser; errors name the file."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; it must name the classes, input size and normalisation of "
            f"the parser {path.with_suffix(ONNX_SUFFIX).name}."
        )
    try:
        return build(OnnxParserSettings, read_settings(path))
    except SettingsError as error:
        raise SettingsError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _taxonomy(name: str, described: Path) -> Taxonomy:
    """Return a taxonomy named in the YAML file `described`: built in, or a file beside it."""
    try:
        return load_taxonomy(name if name in BUILT_IN else str(described.parent / name))
    except DataError as error:
        raise DataError(f"{described}: {error}") from None


def class_table(
    classes: Sequence[str], names: Mapping[str, str], target: Taxonomy, where: str
) -> NDArray[np.uint8]:
    """Return uint8 (256,): id in `classes` to id in `target`, by name; others are `UNKNOWN`.

    Raises `DataError` naming the first class without a counterpart.
    """
    for name in names:
        if called(name, classes) is None:
            raise DataError(f"{where}: names: the parser has no class '{name}'.")
    rules = {called(name, classes): wanted for name, wanted in names.items()}
    table = np.full(256, UNKNOWN, np.uint8)
    for i, name in enumerate(classes):
        wanted = rules.get(name, name)
        if called(wanted, target.classes) is None:
            raise DataError(
                f"{where}: class '{wanted}' is none of {target.name}; say under 'names' which of "
                f"{', '.join(target.classes)} it is."
            )
        table[i] = target.index(wanted)
    return table


def place_in(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, width, height of a picture of `size` scaled into a `frame`, centred.

    Both are (width, height); the aspect is kept.
    """
    scale = min(frame[0] / size[0], frame[1] / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    return (frame[0] - width) // 2, (frame[1] - height) // 2, width, height


class OnnxParser:
    """An ONNX graph that maps a batch of pictures to classes for each pixel.

    A picture keeps its aspect: it is scaled into the input, and its border pixels fill the rest.
    Raises `DataError` when the file, its YAML and the graph do not fit together.
    """

    def __init__(self, path: Path) -> None:
        described = path.with_suffix(".yaml")
        self._settings = read_parser_settings(described)
        if not path.is_file():
            raise DataError(f"{path}: no such parser.")
        content = path.read_bytes()
        beside = external_files(parse_onnx(content, str(path)), path)
        self._digest = hashlib.sha256(content)
        for file in beside:
            self._digest.update(file.read_bytes())
        self._digest.update(self._settings.model_dump_json().encode())
        self._taxonomy = _taxonomy(self._settings.taxonomy, described)
        self._classes, self._table = self._read_classes(described)
        self._where = str(path)
        self._session = start_session(path if beside else content, self._where)
        self._batch, self._numbers = self._check_input()
        self._output = self._check_output()

    def _read_classes(self, described: Path) -> tuple[int, NDArray[np.uint8]]:
        classes, names = self._settings.classes, dict(self._settings.names)
        if isinstance(classes, str):
            source = _taxonomy(classes, described)
            names = {**self._taxonomy.sources.get(source.name, {}), **names}
            classes = source.classes
        return len(classes), class_table(classes, names, self._taxonomy, str(described))

    def _check_input(self) -> tuple[int | None, type]:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise DataError(f"{self._where}: has {len(inputs)} inputs; a parser takes pictures.")
        if inputs[0].type not in NUMBERS:
            raise DataError(
                f"{self._where}: takes {inputs[0].type}; export it for float or float16 pictures."
            )
        height, width = self._settings.input_size
        wanted = [3, height, width] if self._settings.layout == "nchw" else [height, width, 3]
        shape = list(inputs[0].shape)
        if len(shape) != 4 or not _fits(shape[1:], wanted):
            raise DataError(
                f"{self._where}: takes pictures of shape {shape}, but its YAML's input_size and "
                f"layout say {['n', *wanted]}."
            )
        batch = shape[0] if isinstance(shape[0], int) else None
        return batch, NUMBERS[inputs[0].type]

    def _check_output(self) -> str:
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        name = self._settings.output_name or next(iter(outputs))
        if name not in outputs:
            raise DataError(
                f"{self._where}: has no output '{name}'; it has {', '.join(outputs)}: set "
                "output_name in its YAML."
            )
        if outputs[name]:  # an empty one says that the graph does not know it
            self._check_shape(list(outputs[name]))
        return name

    def _check_shape(self, shape: list[Any]) -> None:
        """Refuse an output that cannot hold what the YAML says; sizes may be names."""
        if self._settings.output == "argmax":
            if len(shape) == 3 or (len(shape) == 4 and _fits(shape[1:2], [1])):
                return
            raise DataError(
                f"{self._where}: its output has shape {shape}, but its YAML says argmax, which "
                "is (n, height, width)."
            )
        axis = 1 if self._settings.layout == "nchw" else 3
        if len(shape) != 4 or not _fits([shape[axis]], [self._classes]):
            raise DataError(
                f"{self._where}: its output has shape {shape}, but its YAML lists "
                f"{self._classes} classes, which should be number {axis + 1} of it."
            )

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes that ids are remapped to."""
        return self._taxonomy

    @property
    def canvas(self) -> int:
        """The longer side of the graph's input."""
        return max(self._settings.input_size)

    def fingerprint(self) -> str:
        """Return a digest of the graph, its weights and its YAML."""
        return self._digest.hexdigest()

    def looks_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the graph's input size."""
        return self._settings.input_size

    def parse(self, pictures: Sequence[Pixels]) -> list[Ids]:
        """Return class ids (h, w) for each uint8 (h, w, 3) RGB picture."""
        frames = np.stack([self._prepared(pixels) for pixels in pictures])
        scores = run_in_batches(self._session, self._output, frames, self._batch, self._where)
        self._check_shape(list(scores.shape))
        if not np.isfinite(scores).all():
            raise DataError(f"{self._where}: gave what is no number; export the model again.")
        return [
            self._ids(one, (pixels.shape[0], pixels.shape[1]))
            for one, pixels in zip(scores, pictures, strict=True)
        ]

    def _prepared(self, pixels: Pixels) -> NDArray[Any]:
        """Return (3, h, w) or (h, w, 3) numbers in the range that the graph takes."""
        height, width = self._settings.input_size
        left, top, w, h = place_in((pixels.shape[1], pixels.shape[0]), (width, height))
        scaled = np.asarray(
            Image.fromarray(pixels).resize((w, h), Image.Resampling.BILINEAR, reducing_gap=2.0)
        )
        margins = ((top, height - h - top), (left, width - w - left), (0, 0))
        framed = np.pad(scaled, margins, mode="edge").astype(np.float32)
        if self._settings.channels == "bgr":
            framed = framed[..., ::-1]
        mean, std = np.array([self._settings.mean, self._settings.std], np.float32)
        numbers = (framed * np.float32(self._settings.scale) - mean) / std
        if self._settings.layout == "nchw":
            numbers = numbers.transpose(2, 0, 1)
        return np.ascontiguousarray(numbers, self._numbers)

    def _ids(self, scores: NDArray[Any], size: tuple[int, int]) -> Ids:
        """Bring one picture's output back to its own (height, width), in ids of `taxonomy`."""
        height, width = self._settings.input_size
        left, top, w, h = place_in((size[1], size[0]), (width, height))
        if self._settings.output == "argmax":
            ids = scores.reshape(scores.shape[-2:])
            if not (np.equal(ids, np.floor(ids)) & (ids >= 0) & (ids < self._classes)).all():
                raise DataError(
                    f"{self._where}: gives class ids that are none of the {self._classes} classes "
                    "in its YAML."
                )
            framed = Image.fromarray(ids.astype(np.uint8)).resize((width, height), NEAREST)
            whole = framed.crop((left, top, left + w, top + h))
            return self._mapped(np.asarray(whole.resize((size[1], size[0]), NEAREST)))
        if self._settings.layout == "nhwc":
            scores = scores.transpose(2, 0, 1)
        logits = torch.from_numpy(scores.astype(np.float32))[None]
        logits = resize(logits, (height, width))[..., top : top + h, left : left + w]
        return self._mapped(resize(logits, size)[0].argmax(0).numpy())

    def _mapped(self, own: NDArray[Any]) -> Ids:
        ids: Ids = self._table[own]
        return ids


def _fits(shape: Sequence[Any], wanted: Sequence[int]) -> bool:
    """Tell whether a shape can be the wanted one; sizes that are no numbers are open."""
    return all(not isinstance(s, int) or s == w for s, w in zip(shape, wanted, strict=True))
