"""Frozen extractors: networks that stay as they are and give the features that heads read.

Each is a module whose tensors are all that it needs, so that it travels within a model's file: a
backbone with its pooling, or a user's ONNX graph as its bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sspl.data.transforms import plain_view
from sspl.domain.attributes import schema_for
from sspl.errors import DataError, SettingsError
from sspl.models.backbones.base import Backbone
from sspl.models.extractor_settings import (
    LEAST_SIDE,
    MOST_SIDE,
    ExtractorAbout,
    Layout,
    OnnxAbout,
    PixelSettings,
    RunAbout,
)
from sspl.models.splnet import AnyAttributeNetwork, build_attribute_network
from sspl.settings import build

if TYPE_CHECKING:
    from sspl.onnx.files import onnxruntime

Features = NDArray[np.float32]

TRIAL: Final = 7
"""Pictures that a graph is tried with: a number that no graph was made for."""

NUMBERS: Final[dict[str, Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def prepared(settings: PixelSettings, pixels: Tensor) -> NDArray[np.float32]:
    """Return what a network takes of pictures float (n, 3, h, w), RGB from 0 to 255."""
    values = pixels.float().cpu().numpy()
    if settings.channels == "bgr":
        values = values[:, ::-1]
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (settings.mean, settings.std))
    found: NDArray[np.float32] = (values * np.float32(settings.scale) - mean) / std
    return found


class OnnxExtractor(nn.Module):
    """A user's ONNX graph: the pictures' values of one output, flattened, are the features."""

    graph: Tensor

    def __init__(self, about: OnnxAbout, content: bytes | None = None) -> None:
        """Build it; without its `content` the bytes of the graph are still to be loaded."""
        super().__init__()
        self.about = about
        graph = torch.zeros(about.bytes, dtype=torch.uint8)
        if content is not None:
            graph = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self.register_buffer("graph", graph)
        self._session: onnxruntime.InferenceSession | None = None

    def content(self) -> bytes:
        """Return the bytes of the graph."""
        return self.graph.cpu().numpy().tobytes()

    @property
    def size(self) -> int:
        """Bytes that it takes up."""
        return self.about.bytes

    def digest(self) -> str:
        """Return what tells its features from those of any other extractor."""
        return _digest(self.about.model_dump(mode="json", exclude={"name"}))

    def session(self) -> "onnxruntime.InferenceSession":
        """Return the graph, ready to run; raise `DataError` when it is damaged or cannot run."""
        if self._session is None:
            from sspl.onnx.files import external_tensors, parse_onnx, start_session

            content = self.content()
            if hashlib.sha256(content).hexdigest() != self.about.sha256:
                raise DataError(f"{self.about.name}: the graph of features is damaged.")
            if external_tensors(parse_onnx(content, self.about.name)):
                raise DataError(f"{self.about.name}: keeps weights in another file.")
            self._session = start_session(content, self.about.name)
        return self._session

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Map RGB pictures float (n, 3, side, side) of 0 to 255 to float32 (n, features).

        Raises `DataError` when the graph gives something else.
        """
        from sspl.onnx.files import run_in_batches

        session, about = self.session(), self.about
        pictures = prepared(about, pixels)
        if about.layout == "nhwc":
            pictures = pictures.transpose(0, 2, 3, 1)
        pictures = pictures.astype(NUMBERS[session.get_inputs()[0].type])
        rows = run_in_batches(session, about.output, pictures, about.batch, about.name)
        rows = np.ascontiguousarray(rows.reshape(len(rows), -1), np.float32)
        if rows.shape[1] != about.features:
            raise DataError(
                f"{about.name}: gave {rows.shape[1]} features, and {about.features} before; it "
                "must give equally many for every picture."
            )
        if not np.isfinite(rows).all():
            raise DataError(f"{about.name}: gave features that are no finite numbers.")
        return torch.from_numpy(rows).to(pixels.device)


class RunExtractor(nn.Module):
    """A backbone with its pooling, from either stage: what its attribute heads would read."""

    def __init__(self, about: RunAbout) -> None:
        super().__init__()
        self.about = about
        network = build_attribute_network(
            about.architecture,
            about.backbone,
            about.head,
            schema_for(("none",)),
            about.segmentation,
            about.classes,
        )
        self.backbone: Backbone = network.backbone
        self.pooling: nn.Module = network.pooling

    @classmethod
    def of(
        cls, network: AnyAttributeNetwork, name: str, canvas: int, input_size: int
    ) -> "RunExtractor":
        """Return the extractor of a network that has its weights."""
        with torch.no_grad():
            view = torch.zeros(2, 3, input_size, input_size, device=network_device(network))
            features = pooled_features(network.eval(), view).shape[1]
        given = {"name": name, "architecture": network.architecture, **network.metadata()}
        given |= {"side": canvas, "input_size": input_size, "features": features}
        extractor = cls(build(RunAbout, given))
        extractor.backbone.load_state_dict(network.backbone.state_dict())
        extractor.pooling.load_state_dict(network.pooling.state_dict())
        return extractor.eval()

    @property
    def size(self) -> int:
        """Bytes that it takes up."""
        return sum(t.numel() * t.element_size() for t in self.state_dict().values())

    def digest(self) -> str:
        """Return what tells its features from those of any other extractor."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        about = self.about.model_dump(mode="json", exclude={"name"})
        return _digest({"weights": digest.hexdigest(), **about})

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Map RGB pictures float (n, 3, side, side) of 0 to 255 to float32 (n, features)."""
        view = plain_view(pixels, self.about.input_size)
        with torch.autocast(pixels.device.type, enabled=False):
            return pooled_features(self, view)


Extractor = OnnxExtractor | RunExtractor


def build_extractor(about: ExtractorAbout) -> Extractor:
    """Build an extractor whose tensors are still to be loaded."""
    return OnnxExtractor(about) if isinstance(about, OnnxAbout) else RunExtractor(about)


def pooled_features(network: "AnyAttributeNetwork | RunExtractor", view: Tensor) -> Tensor:
    """Map float (n, 3, h, w) in [-1, 1] to what attribute heads read, float (n, features).

    Those of the branches of `splnet` stand one after the other.
    """
    found = network.pooling(network.backbone(view))
    return found if isinstance(found, Tensor) else torch.cat(list(found.values()), dim=1)


def network_device(network: nn.Module) -> torch.device:
    """Return where a network's tensors are."""
    return next(network.parameters()).device


def shrunk(pixels: Tensor, side: int) -> Tensor:
    """Return pictures uint8 or float (n, 3, c, c) as float32 (n, 3, side, side), anti-aliased.

    Examples:
        >>> shrunk(torch.tensor([[[[0, 100], [0, 100]]]], dtype=torch.uint8), 1).tolist()
        [[[[50.0]]]]
    """
    if pixels.shape[-1] == side:
        return pixels.float()
    size = (side, side)
    return F.interpolate(pixels.float(), size, mode="bilinear", align_corners=False, antialias=True)


def canvas_for(extractors: Sequence[Extractor], least: int = 1) -> int:
    """Return the side of a canvas that is small for none of the extractors."""
    return max(least, *(extractor.about.side for extractor in extractors))


def read_graph(
    content: bytes,
    name: str,
    pixels: PixelSettings,
    size: int | None,
    layout: Layout | None,
    output: str | None,
) -> OnnxExtractor:
    """Return the extractor in the bytes of an ONNX graph that keeps nothing in other files.

    Args:
        content: the graph.
        name: what messages and cards call it.
        pixels: how it wants its pixels.
        size: side of its pictures in px, where the graph leaves it open.
        layout: where its channels stand, where the graph leaves it open; nchw unless given.
        output: which output; the first unless given.

    Raises `DataError` when it cannot run or does not map pictures to features, `SettingsError`
    when its side is given nowhere or other than in the graph.
    """
    from sspl.onnx.files import start_session

    session = start_session(content, name)
    shape = _picture_shape(session, name)
    layout = layout or ("nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw")
    outputs = [o.name for o in session.get_outputs()]
    if output is not None and output not in outputs:
        raise SettingsError(f"{name} has no output '{output}'; it has {', '.join(outputs)}.")
    about = OnnxAbout(
        **pixels.model_dump(),
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        side=_side(shape, layout, size, name),
        layout=layout,
        batch=shape[0] if isinstance(shape[0], int) else None,
        output=output or outputs[0],
        features=1,
    )
    return OnnxExtractor(_tried(session, about), content)


def _picture_shape(session: "onnxruntime.InferenceSession", name: str) -> list[Any]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = [i.shape for i in inputs]
        raise DataError(f"{name}: takes inputs of shape {shapes}, not one batch of pictures.")
    if inputs[0].type not in NUMBERS:
        raise DataError(f"{name}: takes {inputs[0].type}; export it for float or float16 pictures.")
    return list(inputs[0].shape)


def _side(shape: Sequence[Any], layout: Layout, size: int | None, name: str) -> int:
    sides = shape[2:] if layout == "nchw" else shape[1:3]
    channels = shape[1] if layout == "nchw" else shape[3]
    known = {s for s in (*sides, size) if isinstance(s, int)}
    if len(known) != 1 or (isinstance(channels, int) and channels != 3):
        raise SettingsError(
            f"features.size: {name} takes pictures of {sides[0]} x {sides[1]} px in layout "
            f"{layout}; give the size, and the layout that fits."
        )
    side = int(known.pop())
    if not LEAST_SIDE <= side <= MOST_SIDE:
        raise SettingsError(
            f"{name} takes pictures of {side} px; networks of {LEAST_SIDE} to {MOST_SIDE} px can "
            "be joined."
        )
    return side


def _tried(session: "onnxruntime.InferenceSession", about: OnnxAbout) -> OnnxAbout:
    """Return how many features a graph gives for a picture, and how many pictures it really takes.

    Some graphs say that they take any number, and have that of their making within.
    """
    from sspl.onnx.files import run_in_batches

    shape = (3, about.side, about.side) if about.layout == "nchw" else (about.side, about.side, 3)
    grey = np.zeros((TRIAL, *shape), NUMBERS[session.get_inputs()[0].type])
    errors = []
    for batch in (about.batch,) if about.batch else (None, 1, 2):
        try:
            rows = run_in_batches(session, about.output, grey, batch, about.name)
        except DataError as error:
            errors.append(error)
            continue
        return about.model_copy(update={"batch": batch, "features": int(np.prod(rows.shape[1:]))})
    raise errors[0]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
