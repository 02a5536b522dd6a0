"""The graph of a model that reads frozen features: the users' graphs within one of ours."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sspl.data.transforms import normalise
from sspl.errors import SsplError
from sspl.inference.graphs import split_prelus
from sspl.inference.portable import INPUT, OUTPUT
from sspl.models.bundle import AttributeModel
from sspl.models.extractors import OnnxExtractor, RunExtractor, pooled_features, shrunk
from sspl.models.frozen import JoinedNetwork, frozen_part
from sspl.onnx.files import onnx, parse_onnx
from sspl.onnx.writing import trace_onnx

HALF: Final = "tensor(float16)"
MOST: Final = 2**63 - 1
"""Beyond the end of any tensor."""


class View(nn.Module):
    """From canvases to the squares that one network sees, mirrored ones behind them.

    Args:
        side: of the square that is cut from the canvas.
        input_size: of what is cut from that, as `warp_images` with the identity does.
        mirrored: whether there are mirrored ones.
    """

    def __init__(self, side: int, input_size: int, mirrored: bool) -> None:
        super().__init__()
        self.side, self.input_size, self.mirrored = side, input_size, mirrored

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 (n, canvas, canvas, 3) to float32 (n or 2 n, 3, input_size, input_size)."""
        view = shrunk(images.permute(0, 3, 1, 2), self.side)
        if self.input_size != self.side:
            size = (self.input_size, self.input_size)
            view = F.interpolate(view, size, mode="bilinear", align_corners=False)
        return torch.cat([view, view.flip(3)]) if self.mirrored else view


class Seen(nn.Module):
    """From canvases to what a network of ours makes of them, for `network` given views."""

    def __init__(self, view: View, network: nn.Module, read: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.view, self.network, self.read = view, network, read

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 (n, canvas, canvas, 3) to float32 (n or 2 n, features)."""
        return self.read(self.network, normalise(self.view(images)))


def frozen_graph(model: AttributeModel, opset: int) -> onnx.ModelProto:
    """Return the graph of a model with frozen features, with any batch size.

    Raises `SsplError` for a user's graph that cannot be brought to this version of the operators.
    """
    network, builder = model.network, _Builder(model, opset)
    frozen = frozen_part(network)
    assert frozen is not None
    features = [builder.features(extractor) for extractor in frozen.parts()]
    joined = builder.node("Concat", features, axis=1)
    weight, bias = frozen.head.weight.detach(), frozen.head.bias.detach()
    logits = builder.node("MatMul", [joined, builder.constant(weight.T.cpu().numpy())])
    logits = builder.node("Add", [logits, builder.constant(bias.cpu().numpy())])
    if isinstance(network, JoinedNetwork):
        own = builder.own_logits(network)
        own = builder.node("Mul", [own, builder.constant(1 - network.share)])
        logits = builder.node("Mul", [logits, builder.constant(network.share)])
        logits = builder.node("Add", [own, logits])
    logits = builder.node("Div", [logits, builder.constant(model.temperatures)])
    return builder.finished(logits)


class _Builder:
    """A graph as it grows: nodes and weights of its parts, each under names of its own."""

    def __init__(self, model: AttributeModel, opset: int) -> None:
        self.model, self.opset = model, opset
        self.proto = onnx.ModelProto(ir_version=onnx.IR_VERSION_2023_5_5)
        self.proto.opset_import.append(onnx.helper.make_opsetid("", opset))
        self.parts = 0

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; return its output."""
        self.parts += 1
        output = f"joined_{self.parts}"
        made = onnx.helper.make_node(kind, inputs, [output], name=f"{output}_node", **attributes)
        self.proto.graph.node.append(made)
        return output

    def constant(self, values: Any) -> str:
        """Add float32 values, or int64 ones; return their name."""
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self.parts += 1
        name = f"constant_{self.parts}"
        self.proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return name

    def placed(self, proto: onnx.ModelProto, given: str, output: str) -> str:
        """Add a graph of one input behind `given`; return the name of its `output` here."""
        part, takes, prefix = self._prefixed(proto)
        link = onnx.helper.make_node("Identity", [given], [takes], name=f"{prefix}link")
        self.proto.graph.node.extend([link, *part.graph.node])
        return f"{prefix}{output}"

    def placed_in_turns(
        self, proto: onnx.ModelProto, given: str, output: str, batch: int, width: int
    ) -> str:
        """Add a graph that takes `batch` pictures alone behind any number of them.

        Return the name of its `output` here, (n, width); the last turn is filled up.
        """
        part, takes, prefix = self._prefixed(proto)
        step, one = self.constant([batch]), self.constant([1])
        last = self.node("Slice", [given, *(self.constant([k]) for k in (-1, MOST, 0))])
        filled = self.node("Concat", [given, *[last] * (batch - 1)], axis=0)
        count = self._count(given)
        turns = self.node("Div", [self.node("Sub", [self.node("Add", [count, step]), one]), step])
        make, known = onnx.helper.make_node, onnx.helper.make_tensor_value_info
        turn, start, end, on = (f"{prefix}{name}" for name in ("turn", "start", "end", "on"))
        found, more = f"{prefix}{output}", f"{prefix}more"
        kind = next(v for v in part.graph.output if v.name == found).type.tensor_type.elem_type
        body = onnx.helper.make_graph(
            [
                make("Mul", [turn, step], [start]),
                make("Add", [start, step], [end]),
                make("Slice", [filled, start, end, self.constant([0])], [takes]),
                *part.graph.node,
                make("Identity", [on], [more]),
            ],
            f"{prefix}body",
            [known(turn, onnx.TensorProto.INT64, []), known(on, onnx.TensorProto.BOOL, [])],
            [known(more, onnx.TensorProto.BOOL, []), known(found, kind, None)],
        )
        rows = self.node("Loop", [turns, ""], body=body)
        rows = self.node("Reshape", [rows, self.constant([-1, width])])
        return self.node("Slice", [rows, self.constant([0]), count, self.constant([0])])

    def _prefixed(self, proto: onnx.ModelProto) -> tuple[onnx.ModelProto, str, str]:
        """Take over all of a graph but its nodes; return it, its input's name, and its prefix."""
        self.parts += 1
        prefix = f"part_{self.parts}_"
        part = onnx.compose.add_prefix(proto, prefix)
        known = {tensor.name for tensor in part.graph.initializer}
        (takes,) = (value.name for value in part.graph.input if value.name not in known)
        self.proto.graph.initializer.extend(part.graph.initializer)
        self.proto.graph.sparse_initializer.extend(part.graph.sparse_initializer)
        self.proto.functions.extend(part.functions)
        self.proto.ir_version = max(self.proto.ir_version, part.ir_version)
        for entry in part.opset_import:
            if entry.domain not in {o.domain for o in self.proto.opset_import}:
                self.proto.opset_import.append(entry)
        return part, takes, prefix

    def traced(self, module: nn.Module) -> str:
        """Add what torch makes of a module from canvases; return the name of its output."""
        example = torch.zeros(2, self.model.canvas, self.model.canvas, 3, dtype=torch.uint8)
        proto = trace_onnx(module, example, INPUT, "traced", self.opset)
        split_prelus(proto)
        return self.placed(proto, INPUT, "traced")

    def features(self, extractor: OnnxExtractor | RunExtractor) -> str:
        """Add an extractor; return the name of its features (n, features)."""
        mirrored = self.model.flip_average
        if isinstance(extractor, RunExtractor):
            about = extractor.about
            view = View(about.side, about.input_size, mirrored)
            found = self.traced(Seen(view, extractor, pooled_features))
        else:
            pictures, graph = self._prepared(extractor), self._at_opset(extractor)
            batch, output = extractor.about.batch, extractor.about.output
            if batch is None:
                found = self.placed(graph, pictures, output)
            else:
                width = extractor.about.features
                found = self.placed_in_turns(graph, pictures, output, batch, width)
            found = self.node("Cast", [found], to=onnx.TensorProto.FLOAT)
        return self._averaged(found, extractor.about.features)

    def _prepared(self, extractor: OnnxExtractor) -> str:
        """Add what brings canvases to a user's graph, mirrored ones behind them; see `prepared`."""
        about = extractor.about
        pixels = self.node("Cast", [INPUT], to=onnx.TensorProto.FLOAT)
        pixels = self.node("Transpose", [pixels], perm=[0, 3, 1, 2])
        if about.side != self.model.canvas:
            # Of all four axes: onnxruntime moves Resize across Transpose, and errs with fewer.
            square = self.constant([3, about.side, about.side])
            sizes = self.node("Concat", [self._count(pixels), square], axis=0)
            how = {"mode": "linear", "antialias": 1, "exclude_outside": 1}
            pixels = self.node("Resize", [pixels, "", "", sizes], **how)
        if self.model.flip_average:
            pixels = self.node("Concat", [pixels, self._reversed(pixels, 3)], axis=0)
        if about.channels == "bgr":
            pixels = self._reversed(pixels, 1)
        mean, std = (np.reshape(values, (1, 3, 1, 1)) for values in (about.mean, about.std))
        pixels = self.node("Mul", [pixels, self.constant(about.scale)])
        pixels = self.node("Sub", [pixels, self.constant(mean.astype(float))])
        pixels = self.node("Div", [pixels, self.constant(std.astype(float))])
        if about.layout == "nhwc":
            pixels = self.node("Transpose", [pixels], perm=[0, 2, 3, 1])
        if extractor.session().get_inputs()[0].type == HALF:
            pixels = self.node("Cast", [pixels], to=onnx.TensorProto.FLOAT16)
        return pixels

    def _count(self, values: str) -> str:
        """Return the name of how many rows there are, int64 (1,)."""
        return self.node("Slice", [self.node("Shape", [values]), *map(self.constant, ([0], [1]))])

    def _reversed(self, values: str, axis: int) -> str:
        ends = [self.constant([n]) for n in (-1, -MOST, axis, -1)]
        return self.node("Slice", [values, *ends])

    def own_logits(self, network: JoinedNetwork) -> str:
        """Add the fine-tuned network; return the name of its logits (n, attributes)."""
        model = self.model
        view = View(network.own_canvas, model.input_size, model.flip_average)
        found = self.traced(Seen(view, network.own, lambda own, picture: own(picture)))
        return self._averaged(found, len(model.schema))

    def _averaged(self, found: str, width: int) -> str:
        """Average rows over the mirror images that stand behind them."""
        if not self.model.flip_average:
            return self.node("Reshape", [found, self.constant([-1, width])])
        pairs = self.node("Reshape", [found, self.constant([2, -1, width])])
        halves = [self.node("Gather", [pairs, self.constant(i)], axis=0) for i in (0, 1)]
        return self.node("Mul", [self.node("Add", halves), self.constant(0.5)])

    def _at_opset(self, extractor: OnnxExtractor) -> onnx.ModelProto:
        name = extractor.about.name
        proto = parse_onnx(extractor.content(), name)
        there = {o.domain: o.version for o in proto.opset_import}.get("", 0)
        if there == self.opset:
            return proto
        if there > self.opset:
            raise SsplError(f"{name} is of ONNX opset {there}; give --opset {there}.")
        try:
            return onnx.version_converter.convert_version(proto, self.opset)
        except Exception as error:  # the converter's errors have no base class of their own
            reason = " ".join(str(error).split())
            raise SsplError(
                f"{name} cannot be brought from ONNX opset {there} to {self.opset} ({reason}); "
                f"export it again with opset {self.opset}."
            ) from None

    def finished(self, logits: str) -> onnx.ModelProto:
        """Return the graph from canvases to probabilities."""
        graph, canvas = self.proto.graph, self.model.canvas
        graph.name = "sspl"
        sigmoid = onnx.helper.make_node("Sigmoid", [logits], [OUTPUT], name="probabilities_node")
        graph.node.append(sigmoid)
        takes = onnx.helper.make_tensor_value_info(
            INPUT, onnx.TensorProto.UINT8, ["n", canvas, canvas, 3]
        )
        shape: list[str | int] = ["n", len(self.model.schema)]
        gives = onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, shape)
        graph.input.append(takes)
        graph.output.append(gives)
        return self.proto
