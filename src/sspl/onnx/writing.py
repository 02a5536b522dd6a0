"""From a torch module to an ONNX graph that says nothing of where it was made."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from sspl.errors import SsplError
from sspl.onnx.files import messages, not_installed, onnx

OPSET: Final = 18
"""Old enough for most runtimes, new enough for anti-aliased resizing."""

_REMARKS: Final = ("metadata_props", "doc_string")


def trace_onnx(
    module: nn.Module, example: Tensor, takes: str, gives: str, opset: int
) -> onnx.ModelProto:
    """Return the graph of a module of one input and one output, with any batch size.

    Args:
        module: moved to the CPU and to evaluation mode.
        example: an input of the right shape and kind.
        takes, gives: names of input and output.
        opset: version of ONNX's operators.

    Raises `SsplError` when torch cannot write it at this opset.
    """
    module = module.eval().cpu()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=opset,
                verbose=False,
                input_names=[takes],
                output_names=[gives],
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
    except ImportError as absent:
        raise not_installed(absent) from None
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise SsplError(f"this model cannot be written as ONNX opset {opset} ({reason}).") from None
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _forget_origin(proto)
    written = {o.domain: o.version for o in proto.opset_import}.get("")
    if written != opset:
        raise SsplError(f"--opset {opset}: torch wrote opset {written} instead; try {written}.")
    return proto


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop stack traces, which name files and folders of the machine that exported."""
    for part in messages(proto):
        for name in _REMARKS:
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's remarks about packages and functions that do not concern us."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
