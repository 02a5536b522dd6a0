"""Graphs rewritten for runtimes: the same numbers, without a PRelu."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from sspl.inference.graphs import split_prelus  # noqa: E402
from sspl.inference.quantise import sums_of_others  # noqa: E402
from sspl.onnx.files import start_session  # noqa: E402

CHANNELS = 6
SLOPES = np.array([-0.4, 0.0, 0.25, 1.0, 1.3, 2.0], np.float32)
"""A line that bends down, one that ends, and some that bend up, each in its channel."""


def draw(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph(nodes: list[Any], outputs: tuple[str, ...] = ("y",), **weights: Any) -> Any:
    """A graph from x, float (n, 6, h, w), with a BatchNorm's tensors under its usual names."""
    weights |= {
        "gain": draw(1, CHANNELS),
        "bias": draw(2, CHANNELS),
        "mean": draw(3, CHANNELS),
        "variance": draw(4, CHANNELS) ** 2 + 0.1,
    }
    value = onnx.helper.make_tensor_value_info
    shape = ["n", CHANNELS, "h", "w"]
    made = onnx.helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, shape)],
        [value(name, onnx.TensorProto.FLOAT, shape) for name in outputs],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 18)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=9)


def node(kind: str, given: str, output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, given.split(), [output], name=f"n_{output}", **attributes)


NORM = node("BatchNormalization", "x gain bias mean variance", "normed", epsilon=0.02)


def run(proto: Any, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    onnx.checker.check_model(proto)
    found: list[NDArray[np.float32]] = start_session(proto.SerializeToString(), "g").run(
        None, {"x": x}
    )
    return found


def kinds(proto: Any) -> list[str]:
    return [n.op_type for n in proto.graph.node]


@pytest.mark.parametrize("slopes", [SLOPES, SLOPES.clip(max=1)])
def test_the_norm_before_goes_into_the_sum(slopes: NDArray[np.float32]) -> None:
    proto = graph([NORM, node("PRelu", "normed a", "y")], a=slopes.reshape(CHANNELS, 1, 1))
    x = draw(0, 2, CHANNELS, 5, 4) * 3
    (wanted,) = run(proto, x)
    by_hand = (x - draw(3, CHANNELS)[:, None, None]) / np.sqrt(
        draw(4, CHANNELS)[:, None, None] ** 2 + 0.1 + 0.02
    )
    by_hand = by_hand * draw(1, CHANNELS)[:, None, None] + draw(2, CHANNELS)[:, None, None]
    by_hand = np.where(by_hand > 0, by_hand, by_hand * slopes[:, None, None])
    split_prelus(proto)
    signed = ["Conv"] if (slopes > 1).any() else []
    assert kinds(proto) == ["Conv", "Conv", "Relu", *signed, "Add"]
    (got,) = run(proto, x)
    np.testing.assert_allclose(wanted, by_hand, atol=2e-5)
    np.testing.assert_allclose(got, by_hand, atol=2e-5)
    # Nothing is left of the tensors that no node reads any more.
    assert not {"gain", "bias", "mean", "variance", "a"} & {t.name for t in proto.graph.initializer}


def test_a_norm_that_others_read_too_stays() -> None:
    nodes = [NORM, node("PRelu", "normed a", "y"), node("Neg", "normed", "z")]
    proto = graph(nodes, ("y", "z"), a=SLOPES.reshape(1, CHANNELS, 1, 1))
    x = draw(0, 2, CHANNELS, 3, 3)
    wanted = run(proto, x)
    split_prelus(proto)
    assert kinds(proto) == ["BatchNormalization", "Conv", "Conv", "Relu", "Conv", "Add", "Neg"]
    for a, b in zip(run(proto, x), wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_slopes_for_anything_but_channels_stay() -> None:
    nodes = [node("PRelu", "x one", "t"), node("PRelu", "t each", "y")]
    proto = graph(nodes, one=np.array([0.3]), each=draw(5, CHANNELS, 3, 3))
    x = draw(0, 2, CHANNELS, 3, 3)
    (wanted,) = run(proto, x)
    split_prelus(proto)
    assert kinds(proto) == ["PRelu", "PRelu"]
    np.testing.assert_array_equal(run(proto, x)[0], wanted)


def test_sums_of_feature_maps_alone_are_added_in_eight_bits() -> None:
    nodes = [
        node("Conv", "x w", "p", kernel_shape=[1, 1]),
        node("MaxPool", "p", "q", kernel_shape=[1, 1]),
        node("Add", "p q", "s"),
        node("Add", "s p", "t"),
        node("Add", "t half", "u"),
        node("Sigmoid", "u", "v"),
        node("Add", "v p", "y"),
    ]
    weights = {"w": draw(6, CHANNELS, CHANNELS, 1, 1), "half": np.array(0.5)}
    assert sums_of_others(graph(nodes, **weights)) == ["n_u", "n_y"]
