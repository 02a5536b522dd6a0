"""ONNX graphs: read without trust, written without traces."""

from typing import Final

ONNX_SUFFIX: Final = ".onnx"
