"""int8 from a float graph: static quantisation, calibrated on unlabelled faces."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from sspl.data.images import Box
from sspl.data.records import FaceSet
from sspl.data.streams import stream_canvases
from sspl.device import generator_for
from sspl.errors import DataError
from sspl.inference.portable import INPUT, Int8Metadata, run_session
from sspl.metrics.attributes import THRESHOLD
from sspl.models.bundle import AttributeModel
from sspl.onnx.files import onnx, start_session

FEWEST_FACES: Final = 10
HELD_OUT_SHARE: Final = 5
BATCH: Final = 16
QUANTISED: Final = ("Conv", "Relu", "MaxPool", "Add")
"""Nearly all of the work, and what lies between; the heads need their fine steps."""

MAPS: Final = (*QUANTISED, "Resize")
"""What makes feature maps; other numbers that are added up span too much for eight bits."""


class _Faces(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime carries no types
    def __init__(self, batches: Iterator[NDArray[np.uint8]]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next inputs, None after the last."""
        images = next(self.batches, None)
        return None if images is None else {INPUT: images}


def split_calibration(faces: FaceSet, count: int) -> tuple[FaceSet, FaceSet]:
    """Return up to `count` faces to calibrate on and up to `count` others to judge by.

    At least a fifth of the faces is for judging. Raises `DataError` when there are fewer than
    ten.
    """
    if len(faces) < FEWEST_FACES:
        raise DataError(
            f"{faces.source}: {len(faces)} faces are too few to calibrate on; "
            f"give at least {FEWEST_FACES}."
        )
    held_out = min(count, len(faces) // HELD_OUT_SHARE)
    order = torch.randperm(len(faces), generator=generator_for(0)).tolist()
    return faces.select(order[held_out : held_out + count]), faces.select(order[:held_out])


def quantise(
    proto: onnx.ModelProto, faces: FaceSet, model: AttributeModel, count: int
) -> tuple[onnx.ModelProto, Int8Metadata]:
    """Return the int8 graph (QDQ, a scale for each output channel) and how far it is off.

    Args:
        proto: the float graph.
        faces: unlabelled faces; the box and canvas of `model` apply.
        model: the model that the graph came from.
        count: most faces to calibrate on.
    """
    calibration, held_out = split_calibration(faces, count)
    quantised = _quantise(proto, _batches(calibration, model.box, model.canvas))
    before, after = (
        _probabilities(graph, _batches(held_out, model.box, model.canvas))
        for graph in (proto, quantised)
    )
    apart = np.abs(before - after)
    flipped = (before >= THRESHOLD) != (after >= THRESHOLD)
    return quantised, Int8Metadata(
        calibration_faces=len(calibration),
        held_out_faces=len(held_out),
        largest_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        flipped_decisions=int(flipped.sum()),
        decisions=flipped.size,
    )


def _batches(faces: FaceSet, box: Box, canvas: int) -> Iterator[NDArray[np.uint8]]:
    return stream_canvases(faces, box, canvas, BATCH)


def _probabilities(
    proto: onnx.ModelProto, batches: Iterator[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    session = start_session(proto.SerializeToString(), "the graph")
    return np.concatenate([run_session(session, images) for images in batches])


def sums_of_others(proto: onnx.ModelProto) -> list[str]:
    """Return the names of the additions of anything but two feature maps."""
    makers = {output: node.op_type for node in proto.graph.node for output in node.output}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type == "Add" and any(makers.get(name) not in MAPS for name in node.input)
    ]


def _quantise(proto: onnx.ModelProto, batches: Iterator[NDArray[np.uint8]]) -> onnx.ModelProto:
    logger = logging.getLogger()
    level = logger.level
    with tempfile.TemporaryDirectory() as folder:
        given, prepared, done = (Path(folder) / f"{n}.onnx" for n in ("float", "folded", "int8"))
        # From a file: quant_pre_process strips a graph in memory of its weights.
        onnx.save(proto, given)
        # onnxruntime writes progress to the root logger.
        logger.setLevel(logging.ERROR)
        try:
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                done,
                _Faces(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                nodes_to_exclude=sums_of_others(onnx.load(prepared)),
                # CPUs without VNNI add pairs of products in 16 bits, which eight-bit weights
                # overflow: seven bits give the same result everywhere.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            logger.setLevel(level)
        return onnx.load(done)
