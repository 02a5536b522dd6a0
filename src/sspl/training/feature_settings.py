"""Frozen extractors as settings, and as one word on the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from sspl.io import user_code
from sspl.io.user_code import is_user_code
from sspl.models.extractor_settings import Layout, PixelSettings
from sspl.onnx import ONNX_SUFFIX
from sspl.settings import Settings
from sspl.weights import absolute


class OnnxSettings(PixelSettings):
    """A network of the user's: an output of an ONNX file, flattened, is the feature.

    How many pictures it takes, their side and layout are read from the graph where it says them.
    """

    kind: Literal["onnx"] = Field(description="a network in an ONNX file")
    path: Path = Field(description="the file")
    size: int | None = Field(None, ge=8, description="side in px, where the graph leaves it open")
    layout: Layout | None = Field(
        None, description="where its channels stand, where the graph leaves it open"
    )
    output: str | None = Field(None, description="which output; the first unless given")


class TorchSettings(PixelSettings):
    """A network of the user's in torch: FUNCTION of a Python file returns it, weights and all.

    It maps float32 (n, 3, size, size) to a tensor of n rows, which is flattened. It is kept as the
    ONNX graph that torch makes of it, so that a model needs no code of the user's.
    """

    kind: Literal["torch"] = Field(description="a network in torch")
    path: str = Field(description="FILE.py:FUNCTION")
    size: int = Field(ge=8, description="side of its pictures, px")

    @field_validator("path")
    @classmethod
    def _names_a_function(cls, path: str) -> str:
        if not is_user_code(path):
            raise ValueError(f"'{path}' must be FILE.py:FUNCTION")
        return path


class RunSettings(Settings):
    """A run of stage 1, or a fine-tuned run or model: what its attribute heads (would) read."""

    kind: Literal["run"] = Field(description="a network of either stage")
    path: Path = Field(description="folder or file of the run or model")


FrozenFeatures = Annotated[OnnxSettings | TorchSettings | RunSettings, Field(discriminator="kind")]


def parse_features(text: str) -> dict[str, Any]:
    """Return the settings in `PATH[,key=value...]`, such as `net.onnx,size=224,channels=bgr`.

    PATH is an ONNX file, FILE.py:FUNCTION, the folder or file of a run, or `builtin`; numbers for
    each channel have a colon between them. Raises `ValueError` for a piece that is no `key=value`.

    Examples:
        >>> parse_features("net.onnx,mean=104:117:123")["mean"]
        '104:117:123'
    """
    pieces = text.split(",")
    # A comma is part of a path where that is there.
    length = next((n for n in range(len(pieces), 1, -1) if _is_there(",".join(pieces[:n]))), 1)
    path, options = ",".join(pieces[:length]), [p.partition("=") for p in pieces[length:]]
    given: dict[str, Any] = {}
    for key, equals, value in options:
        if not (key and equals and value) or key in ("kind", "path") or key in given:
            raise ValueError(f"'{key}{equals}{value}' in '{text}' is not key=value, each key once")
        given[key] = value
    if is_user_code(path):
        return {"kind": "torch", "path": user_code.absolute(path), **given}
    kind = "onnx" if Path(path).suffix.lower() == ONNX_SUFFIX else "run"
    return {"kind": kind, "path": absolute(path), **given}


def feature_text(settings: Mapping[str, Any]) -> str:
    """Return what `parse_features` takes, its path absolute.

    Examples:
        >>> feature_text(parse_features("/net.onnx,size=224"))
        '/net.onnx,size=224'
    """
    options = [f"{key}={value}" for key, value in settings.items() if key not in ("kind", "path")]
    return ",".join([str(settings["path"]), *options])


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _each(value: Any) -> Any:
    """Take one text, or a list of texts and mappings."""
    entries = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(entries, Sequence):
        return entries
    return tuple(parse_features(e) if isinstance(e, str) else e for e in entries)


FeatureList = Annotated[tuple[FrozenFeatures, ...], BeforeValidator(_each)]


class LinearSettings(Settings):
    """Logistic regression, one strength of L2 regularisation for all attributes."""

    strengths: tuple[float, ...] = Field(
        (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001),
        min_length=1,
        description="candidates, per labelled face: weight of half the squared norm of the weights",
    )
