"""A model as one ONNX file: the graph, and in its metadata everything a prediction needs.

The graph maps `images`, uint8 (n, canvas, canvas, 3) in RGB, to `probabilities`, float32
(n, attributes): resampling to the input size, normalisation, averaging over the mirrored face,
temperatures and the sigmoid are all inside.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from sspl.data.images import Box
from sspl.domain.attributes import attribute_fault
from sspl.errors import DataError, SettingsError
from sspl.io.files import parse_json
from sspl.io.weight_headers import METADATA_KEY
from sspl.models.decisions import check_decisions
from sspl.models.extractor_settings import MOST_SIDE
from sspl.models.model_metadata import read_metadata
from sspl.onnx import ONNX_SUFFIX
from sspl.onnx.files import external_tensors, onnx, onnxruntime, parse_onnx, start_session
from sspl.settings import Settings, build

ROUNDING: Final = 1e-6
INPUT: Final = "images"
OUTPUT: Final = "probabilities"


class Int8Metadata(Settings):
    """How an int8 file was calibrated and how far it is from the float graph it came from.

    Differences are of probabilities, over held-out faces that were not calibrated on.
    """

    calibration_faces: int
    held_out_faces: int
    largest_difference: float
    mean_difference: float
    flipped_decisions: int
    decisions: int


class PortableMetadata(Settings):
    """What stands in the metadata of an exported file.

    Attributes:
        attributes: name to face region, in output order.
        thresholds: probability from which each attribute is decided to be there.
        unsure: attribute to the band of probabilities where that is not sure.
        box: left, top, right, bottom of the part of each picture that is used, as fractions.
        canvas: side in px of the largest centred square in the box, after resizing.
        input_size: side in px that the network sees; the graph resamples to it itself.
        pictures: as in `AttributeModel`.
    """

    kind: Literal["sspl-attributes"] = "sspl-attributes"
    format: Literal[1] = 1
    attributes: dict[str, str] = Field(min_length=1)
    thresholds: tuple[float, ...]
    unsure: dict[str, tuple[float, float]] = Field(default_factory=dict)
    box: Box
    canvas: int = Field(ge=1, le=MOST_SIDE)
    input_size: int = Field(ge=1, le=MOST_SIDE)
    flip_average: bool
    pictures: tuple[PositiveInt, PositiveInt] | None = None
    opset: int
    numbers: Literal["float32", "int8"] = "float32"
    int8: Int8Metadata | None = None
    versions: dict[str, str]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError("box needs left < right and top < bottom, as fractions from 0 to 1")
        if len(self.thresholds) != len(self.attributes):
            raise ValueError("there must be one threshold for each attribute")
        fault = attribute_fault(tuple(self.attributes))
        if fault:
            raise ValueError(fault)
        check_decisions(dict(zip(self.attributes, self.thresholds, strict=True)), self.unsure)
        for name in self.unsure.keys() - self.attributes.keys():
            raise ValueError(f"'{name}' has a band but is no attribute")
        return self


@dataclass(frozen=True)
class PortableModel:
    """An exported model, ready to run."""

    session: onnxruntime.InferenceSession
    metadata: PortableMetadata

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, canvas, canvas, 3) to probabilities float32 (n, attributes)."""
        found = run_session(self.session, images)
        if found.shape != (len(images), len(self.metadata.attributes)):
            raise DataError(f"the ONNX graph gave {found.shape} numbers for {len(images)} faces.")
        if not ((found >= -ROUNDING) & (found <= 1 + ROUNDING)).all():
            raise DataError(
                "the ONNX graph gave numbers that are no probabilities; export the model again."
            )
        return found.clip(0, 1)


def stated_box(path: Path) -> Box:
    """Return the part of each picture that a model of any kind uses, without opening its network.

    Raises `DataError` when there is no model in `path`, or a damaged one.
    """
    if path.suffix != ONNX_SUFFIX:
        return read_metadata(path).box
    if not path.is_file():
        raise DataError(f"{path}: no such model file; make it with 'sspl export'.")
    return _read_metadata(path, path.read_bytes()).box


def load_portable(path: Path) -> PortableModel:
    """Read an exported model.

    Raises `DataError` when the file is missing, damaged, was not written by this software, or
    keeps data outside itself.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; make it with 'sspl export'.")
    content = path.read_bytes()
    metadata = _read_metadata(path, content)
    session = start_session(content, str(path))
    shapes = (session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[1:])
    wanted = ([metadata.canvas, metadata.canvas, 3], [len(metadata.attributes)])
    if shapes != wanted:
        raise DataError(
            f"{path}: the graph maps {shapes[0]} to {shapes[1]} but its metadata say "
            f"{wanted[0]} to {wanted[1]}; export the model again."
        )
    return PortableModel(session, metadata)


def _read_metadata(path: Path, content: bytes) -> PortableMetadata:
    proto = parse_onnx(content, str(path))
    if external_tensors(proto):
        raise DataError(f"{path}: keeps weights in another file; 'sspl export' writes one file.")
    found = {p.key: p.value for p in proto.metadata_props}.get(METADATA_KEY)
    if found is None:
        raise DataError(
            f"{path}: an ONNX file, but not one of this software; its metadata hold no "
            f"'{METADATA_KEY}'."
        )
    try:
        return build(PortableMetadata, parse_json(found))
    except (SettingsError, ValueError) as error:
        raise DataError(
            f"{path}: metadata that this version cannot use ({str(error).rstrip('.')}); "
            "export the model again."
        ) from None


def pack(proto: onnx.ModelProto, metadata: PortableMetadata) -> bytes:
    """Return the file's content: the graph with the metadata as its only metadata."""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {METADATA_KEY: metadata.model_dump_json()})
    content: bytes = proto.SerializeToString()
    return content


def run_session(
    session: onnxruntime.InferenceSession, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Map uint8 (n, canvas, canvas, 3) to probabilities float32 (n, attributes)."""
    result: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
    return result
