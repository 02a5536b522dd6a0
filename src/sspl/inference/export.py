"""From a fine-tuned model to one ONNX file that needs no torch to run."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sspl.data.records import FaceSet
from sspl.data.synthetic.render import render_face
from sspl.data.transforms import normalise
from sspl.errors import SsplError
from sspl.inference.frozen_graph import frozen_graph
from sspl.inference.graphs import split_prelus
from sspl.inference.portable import (
    INPUT,
    OUTPUT,
    Int8Metadata,
    PortableMetadata,
    pack,
    run_session,
)
from sspl.io.files import write_bytes, write_json
from sspl.io.locks import claimed
from sspl.io.runs import versions
from sspl.models.bundle import AttributeModel
from sspl.models.frozen import frozen_part
from sspl.models.scoring import logits_of
from sspl.onnx import ONNX_SUFFIX
from sspl.onnx.files import onnx, onnxruntime, start_session
from sspl.onnx.writing import OPSET, trace_onnx

TOLERANCE: Final = 1e-4
"""Largest difference in probability between the graph and the torch model."""

CHECK_FACES: Final = 4
_RENDERED_SIZE: Final = 128


class PredictionGraph(nn.Module):
    """Everything between a canvas and its probabilities, as one module."""

    temperatures: Tensor

    def __init__(self, model: AttributeModel) -> None:
        super().__init__()
        self.network = model.network
        self.size = model.input_size
        self.flip_average = model.flip_average
        self.register_buffer("temperatures", torch.from_numpy(model.temperatures).float())

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 (n, canvas, canvas, 3) to float32 (n, attributes)."""
        canvas = images.permute(0, 3, 1, 2).float()
        # One channel each, since onnxruntime would otherwise resize in its slower layout.
        planes = canvas.reshape(-1, 1, *canvas.shape[2:])
        # The same as `warp_images` with the identity, but an operator that is fast everywhere.
        view = F.interpolate(planes, (self.size, self.size), mode="bilinear", align_corners=False)
        view = normalise(view.reshape(-1, 3, self.size, self.size))
        if self.flip_average:
            view = torch.cat([view, view.flip(3)])
        logits: Tensor = self.network(view)
        if self.flip_average:
            logits = logits.reshape(2, -1, logits.shape[1]).mean(0)
        return (logits / self.temperatures).sigmoid()


def export_onnx(
    model: AttributeModel,
    out: Path,
    opset: int = OPSET,
    calibration: FaceSet | None = None,
    calibration_faces: int = 200,
) -> PortableMetadata:
    """Write a model as ONNX, and its metadata as JSON beside it; return the metadata.

    The float graph is compared with the torch model before anything is written. With
    `calibration`, unlabelled faces, the file holds the int8 graph made from it.

    Raises `SsplError` when the graph cannot be made or does not equal the model.
    """
    metadata_file = _metadata_file(out)
    with claimed(out):
        return _export(model, out, metadata_file, opset, calibration, calibration_faces)


def _export(
    model: AttributeModel,
    out: Path,
    metadata_file: Path,
    opset: int,
    calibration: FaceSet | None,
    calibration_faces: int,
) -> PortableMetadata:
    if calibration is not None and frozen_part(model.network) is not None:
        raise SsplError("--int8: a model of frozen features is exported in float32 only.")
    proto = export_graph(model, opset)
    check_graph(proto, model)
    int8 = None
    if calibration is not None:
        from sspl.inference.quantise import quantise

        proto, int8 = quantise(proto, calibration, model, calibration_faces)
    metadata = _metadata(model, proto, int8)
    write_bytes(out, pack(proto, metadata))
    write_json(metadata_file, metadata.model_dump(mode="json"))
    return metadata


def _metadata_file(out: Path) -> Path:
    """Return where the metadata go; refuse a name that would cost the user another file."""
    if out.suffix != ONNX_SUFFIX:
        raise SsplError(f"{out}: give the file a name that ends in {ONNX_SUFFIX}.")
    beside = out.with_suffix(".json")
    if beside.exists() and not out.exists():
        raise SsplError(f"{beside} is already there; choose another name than {out.name}.")
    return beside


def export_graph(model: AttributeModel, opset: int) -> onnx.ModelProto:
    """Return the graph of a model, with any batch size.

    Raises `SsplError` when torch cannot write it at this opset.
    """
    if frozen_part(model.network) is not None:
        return frozen_graph(model, opset)
    example = torch.zeros(2, model.canvas, model.canvas, 3, dtype=torch.uint8)
    proto = trace_onnx(PredictionGraph(model), example, INPUT, OUTPUT, opset)
    split_prelus(proto)
    return proto


def check_graph(proto: onnx.ModelProto, model: AttributeModel) -> None:
    """Compare a graph with its model, in a batch and alone; raise `SsplError` when they differ."""
    session = start_session(proto.SerializeToString(), "the exported graph")
    images = check_images(model.canvas)
    wanted = torch_probabilities(model, images)
    for part in (slice(None), slice(0, 1)):
        apart = float(np.abs(run_session(session, images[part]) - wanted[part]).max())
        # Written so that a NaN fails too.
        if not apart <= TOLERANCE:
            raise SsplError(
                f"the exported graph differs from the model by {apart:.2g} in probability, more "
                f"than {TOLERANCE:g}; nothing was written; try another --opset."
            )


def torch_probabilities(model: AttributeModel, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what `sspl predict` says in fp32: uint8 (n, c, c, 3) to float64 (n, attributes)."""
    canvas = torch.from_numpy(images).permute(0, 3, 1, 2)
    logits = logits_of(model.network, canvas, model.input_size, model.flip_average, "fp32")
    return model.probabilities(logits.numpy())


def check_images(canvas: int) -> NDArray[np.uint8]:
    """Return uint8 (5, canvas, canvas, 3): drawn faces, and noise, where resampling shows most."""
    faces = [render_face(0, i, _RENDERED_SIZE).image for i in range(CHECK_FACES)]
    resized = [np.asarray(Image.fromarray(face).resize((canvas, canvas))) for face in faces]
    noise = np.random.default_rng(0).integers(0, 256, (canvas, canvas, 3), dtype=np.uint8)
    return np.stack([*resized, noise])


def _metadata(
    model: AttributeModel, proto: onnx.ModelProto, int8: Int8Metadata | None
) -> PortableMetadata:
    found = versions() | {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return PortableMetadata(
        attributes=dict(zip(model.schema.names, model.schema.regions, strict=True)),
        thresholds=tuple(model.decisions.threshold_array(model.schema.names).tolist()),
        unsure=model.decisions.unsure,
        box=model.box,
        canvas=model.canvas,
        input_size=model.input_size,
        flip_average=model.flip_average,
        pictures=model.pictures,
        opset=next(o.version for o in proto.opset_import if o.domain == ""),
        numbers="float32" if int8 is None else "int8",
        int8=int8,
        versions=found,
    )
