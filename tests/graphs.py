"""Tiny ONNX graphs, which stand for networks of the user's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save


def pooling_graph(
    shape: Sequence[int | str],
    layout: str = "nchw",
    features: int = 5,
    opset: int = 17,
    seed: int = 0,
) -> ModelProto:
    """A convolution of 3 x 3, Relu and the mean over all places: (n, features)."""
    rng = np.random.default_rng(seed)
    weights = {
        "weight": rng.normal(size=(features, 3, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=features).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["picture", *weights], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
    ]
    if layout == "nhwc":
        nodes[0].input[0] = "turned"
        nodes.insert(0, helper.make_node("Transpose", ["picture"], ["turned"], perm=[0, 3, 1, 2]))
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, list(shape))],
        [
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("active", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write_graph(
    path: Path, shape: Sequence[int | str], layout: str = "nchw", seed: int = 0
) -> Path:
    """Write `pooling_graph`."""
    save(pooling_graph(shape, layout, seed=seed), path)
    return path


def mean_graph(path: Path, shape: Sequence[int | str]) -> Path:
    """Write a graph whose features are the means of the channels."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, list(shape))
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, None)
    node = helper.make_node("GlobalAveragePool", ["picture"], ["feature"])
    graph = helper.make_graph([node], "means", [picture], [feature])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, path)
    return path
