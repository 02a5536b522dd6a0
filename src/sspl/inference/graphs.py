"""Graphs in terms of what runtimes are quick at; the numbers stay the same up to rounding.

onnxruntime has no quick PRelu: it works value by value, and no other layout or precision goes
through it. Depthwise convolutions, Relu and Add are quick in its blocked layout and in eight bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sspl.onnx.files import onnx

Values = NDArray[np.float64]


def split_prelus(proto: onnx.ModelProto) -> None:
    """Write every PRelu with a slope for each channel, and the BatchNorm before it, as sums.

    For slope a and y = scale x + shift, PReLU(y) = a y + (1 - a) Relu(y), two convolutions of one
    pixel and one channel: the scale is part of their weights, and so is 1 - a before Relu where it
    is not negative. Changes `proto`.
    """
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    uses = [name for node in graph.node for name in node.input] + [o.name for o in graph.output]
    nodes: list[onnx.NodeProto] = []
    folded = set()
    for node in graph.node:
        slopes = _slopes(node, weights)
        if slopes is None:
            nodes.append(node)
            continue
        source, scale, shift = node.input[0], np.ones_like(slopes), np.zeros_like(slopes)
        norm = makers.get(source)
        if norm is not None and norm.op_type == "BatchNormalization" and uses.count(source) == 1:
            source, (scale, shift) = norm.input[0], _scale_and_shift(norm, weights)
            folded.add(norm.output[0])
        nodes += _sum_of_two(graph, node, source, slopes, scale, shift)
    del graph.node[:]
    graph.node.extend(node for node in nodes if not folded & set(node.output))
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _slopes(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> Values | None:
    """Return a PRelu's slopes where there is one for each channel of a map; else None."""
    if node.op_type != "PRelu" or node.input[1] not in weights:
        return None
    slopes = _values(weights[node.input[1]])
    channels = slopes.shape[-3:]
    return slopes.ravel() if len(channels) == 3 and channels[1:] == (1, 1) else None


def _scale_and_shift(
    norm: onnx.NodeProto, weights: dict[str, onnx.TensorProto]
) -> tuple[Values, Values]:
    gain, bias, mean, variance = (_values(weights[name]) for name in norm.input[1:5])
    epsilon = {a.name: a.f for a in norm.attribute}.get("epsilon", 1e-5)
    scale = gain / np.sqrt(variance + epsilon)
    return scale, bias - mean * scale


def _values(tensor: onnx.TensorProto) -> Values:
    values: Values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
    return values


def _sum_of_two(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    source: str,
    slopes: Values,
    scale: Values,
    shift: Values,
) -> list[onnx.NodeProto]:
    """Return the nodes that make a PRelu's output; add their weights to the graph."""
    name = node.name or node.output[0]
    made: list[onnx.NodeProto] = []

    def add(kind: str, given: list[str], part: str, **attributes: Any) -> str:
        output = f"{name}_{part}" if part else node.output[0]
        label = f"{name}_{part or 'sum'}_node"
        made.append(onnx.helper.make_node(kind, given, [output], name=label, **attributes))
        return output

    def by_channel(given: str, part: str, factor: Values, offset: Values | None = None) -> str:
        tensors = {f"{name}_{part}_factor": factor.reshape(-1, 1, 1, 1)}
        if offset is not None:
            tensors[f"{name}_{part}_offset"] = offset
        for label, values in tensors.items():
            tensor = onnx.numpy_helper.from_array(values.astype(np.float32), label)
            graph.initializer.append(tensor)
        shape = {"group": len(slopes), "kernel_shape": [1, 1]}
        return add("Conv", [given, *tensors], part, **shape)

    bend = 1 - slopes
    line = by_channel(source, "line", slopes * scale, slopes * shift)
    above = by_channel(source, "bend", np.abs(bend) * scale, np.abs(bend) * shift)
    above = add("Relu", [above], "above")
    if (bend < 0).any():
        above = by_channel(above, "signed", np.sign(bend))
    add("Add", [line, above], "")
    return made
