"""A trained parser as one ONNX file with its YAML, as `sspl.parsing.onnx_parser` reads it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from sspl.domain.taxonomy import BUILT_IN, Taxonomy, load_taxonomy
from sspl.errors import SsplError
from sspl.io.files import write_bytes, write_text
from sspl.io.locks import claimed
from sspl.models.model_metadata import HALF_RANGE
from sspl.onnx import ONNX_SUFFIX
from sspl.onnx.files import start_session
from sspl.onnx.writing import OPSET, trace_onnx
from sspl.parsing.model import ParserModel
from sspl.parsing.network import resize
from sspl.parsing.network_parser import network_size
from sspl.parsing.onnx_parser import OnnxParserSettings
from sspl.parsing.training import mirror_ids
from sspl.settings import dump_yaml

TOLERANCE: Final = 1e-3
"""Largest difference in logits between the graph and the torch network."""

CLASSES_SUFFIX: Final = ".classes.yaml"


class ParserGraph(nn.Module):
    """A parser's network from a normalised picture to logits of the picture's own size.

    Args:
        model: the parser.
        average: average the logits of the picture and of its mirror image.
    """

    mirror: Tensor

    def __init__(self, model: ParserModel, average: bool) -> None:
        super().__init__()
        self.network = model.network
        self.average = average
        self.register_buffer("mirror", mirror_ids(model.taxonomy))

    def forward(self, picture: Tensor) -> Tensor:
        """Map float (n, 3, h, w) in [-1, 1] to float (n, classes, h, w)."""
        views = torch.cat([picture, picture.flip(3)]) if self.average else picture
        logits: Tensor = self.network(views)[0]
        if self.average:
            plain, mirrored = logits.reshape(2, -1, *logits.shape[1:])
            logits = (plain + mirrored.flip(3)[:, self.mirror]) / 2
        return resize(logits, picture.shape[2:])


def export_parser(
    model: ParserModel,
    out: Path,
    short_side: int | None = None,
    average: bool = True,
    opset: int = OPSET,
) -> OnnxParserSettings:
    """Write a parser as ONNX with its YAML beside it; return what the YAML says.

    The graph looks at squares of one size, and is compared with the network before anything is
    written. Classes of the user's own get a file of their own, too.

    Args:
        model: the parser.
        out: `NAME.onnx`; `NAME.yaml` comes beside it.
        short_side: px of the square; that of training unless given.
        average: average over the mirrored picture.
        opset: version of ONNX's operators.

    Raises `SsplError` for another name or a graph that does not equal the network.
    """
    described = out.with_suffix(".yaml")
    if out.suffix != ONNX_SUFFIX:
        raise SsplError(f"{out}: give the file a name that ends in {ONNX_SUFFIX}.")
    if described.exists() and not out.exists():
        raise SsplError(f"{described} is already there; choose another name than {out.name}.")
    with claimed(out):
        return _export(model, out, described, short_side, average, opset)


def _export(
    model: ParserModel,
    out: Path,
    described: Path,
    short_side: int | None,
    average: bool,
    opset: int,
) -> OnnxParserSettings:
    height, width = network_size((1, 1), short_side or model.size)
    graph = ParserGraph(model, average)
    proto = trace_onnx(graph, torch.zeros(2, 3, height, width), "picture", "logits", opset)
    content: bytes = proto.SerializeToString()
    _check(content, graph, (height, width))
    taxonomy = _taxonomy_name(model.taxonomy, out)
    metadata = OnnxParserSettings(
        classes=model.taxonomy.classes,
        taxonomy=taxonomy,
        input_size=(height, width),
        layout="nchw",
        channels="rgb",
        scale=1,
        mean=(HALF_RANGE,) * 3,
        std=(HALF_RANGE,) * 3,
        output="logits",
    )
    if taxonomy not in BUILT_IN:
        text = yaml.safe_dump(_described(model.taxonomy), sort_keys=False, allow_unicode=True)
        write_text(out.with_name(taxonomy), text)
    write_text(described, dump_yaml(metadata))
    write_bytes(out, content)
    return metadata


def _taxonomy_name(taxonomy: Taxonomy, out: Path) -> str:
    if taxonomy.name in BUILT_IN and load_taxonomy(taxonomy.name).classes == taxonomy.classes:
        return taxonomy.name
    return f"{out.stem}{CLASSES_SUFFIX}"


def _described(taxonomy: Taxonomy) -> dict[str, Any]:
    return {
        "name": taxonomy.name,
        "classes": list(taxonomy.classes),
        "mirror": [list(pair) for pair in taxonomy.mirror],
        "regions": {region: list(names) for region, names in taxonomy.regions.items()},
    }


def _check(content: bytes, graph: ParserGraph, size: tuple[int, int]) -> None:
    """Compare the graph with the network, in a batch and alone; raise `SsplError` if they differ.

    On noise, where resampling shows most.
    """
    session = start_session(content, "the exported graph")
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 3, *size)).astype(np.float32)
    with torch.inference_mode():
        wanted: NDArray[np.float32] = graph(torch.from_numpy(noise)).numpy()
    for part in (slice(None), slice(0, 1)):
        found = session.run(None, {"picture": noise[part]})[0]
        apart = float(np.abs(found - wanted[part]).max())
        # Written so that a NaN fails too.
        if not apart <= TOLERANCE:
            raise SsplError(
                f"the exported graph differs from the network by {apart:.2g} in logits, more than "
                f"{TOLERANCE:g}; nothing was written; try another --opset."
            )
