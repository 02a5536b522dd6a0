"""Parsers of the user's own: ONNX graphs with a YAML beside them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from shared import refused, sspl
from sspl.data.palette import write_mask
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.errors import DataError, SettingsError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from sspl.parsing.onnx_parser import OnnxParser, class_table, place_in  # noqa: E402

SIDE = 32
TARGET = built_in_taxonomy("celebamask19")
SKIN, HAIR, NOSE = (TARGET.index(name) for name in ("skin", "hair", "nose"))
PLAIN: dict[str, Any] = {
    "classes": ["background", "face", "hair", "nose"],
    "names": {"face": "skin"},
    "input_size": [SIDE, SIDE],
    "layout": "nchw",
    "channels": "rgb",
    "scale": 1,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "output": "logits",
}
# Black is background, red the face, green hair, blue the nose.
COLOURS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)


def write_parser(
    path: Path,
    nodes: Sequence[Any],
    tensors: Mapping[str, np.ndarray],
    outputs: Sequence[Any],
    described: Mapping[str, Any],
    shape: Sequence[Any] = ("n", 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "parser",
        [helper.make_tensor_value_info("image", kind, shape)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".yaml").write_text(yaml.safe_dump(dict(described)))
    return path


def by_colour(
    path: Path,
    shape: Sequence[Any] = ("n", 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
    **changes: Any,
) -> Path:
    """A parser of one 1 x 1 convolution that knows classes by their colour."""
    described = {**PLAIN, "scale": 1 / 255, **changes}
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    tensors = {
        "weights": (2 * COLOURS).reshape(4, 3, 1, 1).astype(dtype),
        "bias": np.array([0.5, 0, 0, 0], dtype),
    }
    nodes = [helper.make_node("Conv", ["image", "weights", "bias"], ["scores"])]
    scores = helper.make_tensor_value_info("scores", kind, [shape[0], 4, *shape[2:]])
    if described["output"] == "argmax":
        nodes.append(helper.make_node("ArgMax", ["scores"], ["ids"], axis=1, keepdims=0))
        scores = helper.make_tensor_value_info("ids", TensorProto.INT64, [shape[0], *shape[2:]])
    return write_parser(path, nodes, tensors, [scores], described, shape, kind)


def as_it_is(
    path: Path,
    shape: Sequence[Any] = ("n", 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
    **changes: Any,
) -> Path:
    """A parser whose logits are the numbers it is given: three channels, three classes."""
    described = {**PLAIN, "classes": ["background", "hair", "nose"], "names": {}, **changes}
    node = helper.make_node("Identity", ["image"], ["scores"])
    scores = helper.make_tensor_value_info("scores", kind, shape)
    return write_parser(path, [node], {}, [scores], described, shape, kind)


def flat(colour: Sequence[int], height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.tile(np.uint8(colour), (height, width, 1))


@pytest.mark.parametrize(
    ("shape", "kind", "output"),
    [
        (("n", 3, SIDE, SIDE), TensorProto.FLOAT, "logits"),
        (("n", 3, "h", "w"), TensorProto.FLOAT, "argmax"),
        ((1, 3, SIDE, SIDE), TensorProto.FLOAT, "argmax"),
        ((2, 3, SIDE, SIDE), TensorProto.FLOAT16, "logits"),
    ],
)
def test_classes_are_told_by_name_for_every_kind_of_graph(
    tmp_path: Path, shape: tuple[Any, ...], kind: int, output: str
) -> None:
    parser = OnnxParser(by_colour(tmp_path / "p.onnx", shape, kind, output=output))
    big = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    big[:SIDE, SIDE:, 0] = big[SIDE:, :SIDE, 1] = big[SIDE:, SIDE:, 2] = 255
    pictures = [big, flat([255, 0, 0]), flat([0, 0, 255], 40, 40)]
    whole, red, blue = parser.parse(pictures)
    expected = np.zeros((2 * SIDE, 2 * SIDE), np.uint8)
    expected[:SIDE, SIDE:], expected[SIDE:, :SIDE], expected[SIDE:, SIDE:] = SKIN, HAIR, NOSE
    away = np.abs(np.arange(2 * SIDE) - SIDE + 0.5) > 3  # scaling blurs the borders between them
    assert np.array_equal(whole[np.ix_(away, away)], expected[np.ix_(away, away)])
    assert (red == SKIN).all()
    assert blue.shape == (40, 40)
    assert (blue == NOSE).all()


@pytest.mark.parametrize(
    ("changes", "winner"),
    [
        ({}, 0),  # 200, 150, 100
        ({"channels": "bgr"}, 2),  # 100, 150, 200
        ({"mean": [100, 0, 0]}, 1),  # 100, 150, 100
        ({"mean": [100, 0, 0], "channels": "bgr"}, 2),  # 0, 150, 200
        ({"std": [4, 2, 1]}, 2),  # 50, 75, 100
        ({"scale": 0.01, "mean": [1, 0, 0]}, 1),  # 1, 1.5, 1
        ({"scale": 0.01, "mean": [1, 1, 0.95], "std": [1, 1, 0.1]}, 0),  # 1, 0.5, 0.5
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pictures_are_normalised_as_the_yaml_says(
    tmp_path: Path, changes: dict[str, Any], winner: int, layout: str
) -> None:
    shape = ("n", 3, SIDE, SIDE) if layout == "nchw" else ("n", SIDE, SIDE, 3)
    parser = OnnxParser(as_it_is(tmp_path / "p.onnx", shape, layout=layout, **changes))
    (found,) = parser.parse([flat([200, 150, 100])])
    assert (found == [0, HAIR, NOSE][winner]).all()


@pytest.mark.parametrize("output", ["logits", "argmax"])
def test_a_picture_keeps_its_aspect_inside_the_input(tmp_path: Path, output: str) -> None:
    """The graph answers by place alone: thirds of 8, 8 and 16 rows, at half the resolution."""
    rows = np.repeat([0, 1, 2], [4, 4, 8])
    answer = np.broadcast_to(rows[:, None], (16, 16))[None]
    if output == "logits":
        answer = np.eye(3, dtype=np.float32)[answer].transpose(0, 3, 1, 2) * 9
    kind = TensorProto.FLOAT if output == "logits" else TensorProto.INT64
    nodes = [helper.make_node("Identity", ["answer"], ["scores"])]
    scores = helper.make_tensor_value_info("scores", kind, answer.shape)
    path = write_parser(
        tmp_path / "p.onnx", nodes, {"answer": np.ascontiguousarray(answer)}, [scores],
        {**PLAIN, "classes": ["background", "hair", "nose"], "names": {}, "output": output},
        (1, 3, SIDE, SIDE),
    )  # fmt: skip
    # 64 x 32 stands in rows 8 to 24 of the input, which are half hair, half nose.
    wide, tall = OnnxParser(path).parse([flat([9, 9, 9], 32, 64), flat([9, 9, 9], 64, 32)])
    assert wide.shape == (32, 64)
    assert (wide[:14] == HAIR).all()
    assert (wide[18:] == NOSE).all()
    # 32 x 64 takes all rows: a quarter each, then half.
    assert tall.shape == (64, 32)
    for rows_of, expected in ((tall[:14], 0), (tall[18:30], HAIR), (tall[34:], NOSE)):
        assert (rows_of == expected).all()


def test_place_in_by_hand() -> None:
    assert place_in((178, 218), (512, 512)) == (47, 0, 418, 512)
    assert place_in((100, 50), (64, 32)) == (0, 0, 64, 32)
    assert place_in((1000, 1), (64, 64)) == (0, 31, 64, 1)


def test_classes_of_a_taxonomy_follow_its_rules_and_the_names_go_before() -> None:
    lapa, celeba = built_in_taxonomy("lapa11"), TARGET
    table = class_table(celeba.classes, {**lapa.sources["celebamask19"], "hat": "hair"}, lapa, "x")
    assert table[celeba.index("hat")] == lapa.index("hair")
    assert table[celeba.index("neck")] == lapa.background
    assert set(table[19:].tolist()) == {255}


def test_case_does_not_count_in_names_of_classes() -> None:
    classes = ("BACKGROUND", "Face", "Hair")
    assert class_table(classes, {"face": "Skin"}, TARGET, "x")[:3].tolist() == [
        TARGET.background, TARGET.index("skin"), TARGET.index("hair"),
    ]  # fmt: skip


def test_masks_without_skin_are_suspicious_however_it_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "three.yaml").write_text("name: three\nclasses: [Background, Skin, Nose]\n")
    path = as_it_is(tmp_path / "p.onnx", classes="three.yaml", taxonomy="three.yaml")
    (tmp_path / "faces").mkdir()
    Image.fromarray(flat([0, 0, 255])).save(tmp_path / "faces" / "a.png")
    sspl("parser", "run", path, tmp_path / "faces", "--out", tmp_path / "masks")
    assert "one class only" in (tmp_path / "masks" / "suspicious.csv").read_text()


def test_a_taxonomy_by_name_or_by_a_file_beside_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "three.yaml").write_text("name: three\nclasses: [background, hair, nose]\n")
    path = as_it_is(tmp_path / "p.onnx", classes="three.yaml", taxonomy="three.yaml")
    parser = OnnxParser(path)
    assert parser.taxonomy.classes == ("background", "hair", "nose")
    assert (parser.parse([flat([1, 2, 3])])[0] == 2).all()


REFUSALS = [
    ({"clases": 1}, r"p.yaml: clases: unknown setting; did you mean classes"),
    ({"std": [1, 0, 1]}, r"std must be above 0"),
    ({"mean": [1, 2]}, r"p.yaml: mean.2: is missing"),
    ({"layout": "chw"}, r"layout: input should be 'nchw' or 'nhwc'"),
    ({"classes": ["background", "hair", "hair", "nose"]}, "listed twice"),
    ({"names": {}}, r"p.yaml: class 'face' is none of celebamask19; say under 'names'"),
    ({"names": {"face": "skin", "ear": "l_ear"}}, r"names: the parser has no class 'ear'"),
    ({"classes": ["background", "skin", "hair"], "names": {}}, r"YAML lists 3 classes"),
    ({"classes": "celebamask19", "names": {}}, r"'n', 4, 32, 32\], but its YAML lists 19 classes"),
    ({"classes": "none.yaml"}, r"none.yaml' is neither built in"),
    ({"input_size": [64, 32]}, r"input_size and layout say \['n', 3, 64, 32\]"),
    ({"layout": "nhwc"}, r"say \['n', 32, 32, 3\]"),
    ({"output_name": "out16"}, r"has no output 'out16'; it has scores"),
    ({"taxonomy": "twenty"}, "is neither built in"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSALS)
def test_a_yaml_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises((DataError, SettingsError), match=reason) as caught:
        OnnxParser(by_colour(tmp_path / "p.onnx", **changes))
    assert str(tmp_path / "p.") in str(caught.value)


def test_what_the_yaml_must_say_is_never_guessed(tmp_path: Path) -> None:
    path = by_colour(tmp_path / "p.onnx")
    for key in PLAIN.keys() - {"names"}:
        left = {k: v for k, v in PLAIN.items() if k != key}
        path.with_suffix(".yaml").write_text(yaml.safe_dump(left))
        with pytest.raises(SettingsError, match=f"p.yaml: {key}: is missing"):
            OnnxParser(path)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(DataError, match=r"p\.yaml: no such file; it must name the classes"):
        OnnxParser(path)


def test_files_that_are_no_parser_are_refused(tmp_path: Path) -> None:
    path = by_colour(tmp_path / "p.onnx")
    path.write_bytes(b"no graph")
    with pytest.raises(DataError, match="not an ONNX file"):
        OnnxParser(path)
    path.unlink()
    with pytest.raises(DataError, match=r"p\.onnx: no such parser"):
        OnnxParser(path)
    with pytest.raises(DataError, match=r"takes tensor\(double\)"):
        OnnxParser(as_it_is(path, kind=TensorProto.DOUBLE))
    with pytest.raises(DataError, match=r"YAML says argmax, which is \(n, height, width\)"):
        OnnxParser(as_it_is(path, output="argmax"))


def test_sizes_that_only_show_in_the_answer_are_checked_there(tmp_path: Path) -> None:
    path = as_it_is(tmp_path / "p.onnx", ("n", "c", "h", "w"), classes=["background", "hair"])
    with pytest.raises(DataError, match=r"output has shape \[1, 3, 32, 32\].*lists 2 classes"):
        OnnxParser(path).parse([flat([1, 2, 3])])
    path = by_colour(path, output="argmax", classes=["background", "hair"], names={})
    with pytest.raises(DataError, match="none of the 2 classes"):
        OnnxParser(path).parse([flat([0, 0, 255])])


def keep_outside(path: Path, location: str) -> None:
    """Say in the file that its weights lie at `location`, and put them in `weights.bin`."""
    model = onnx.load(path)
    (weights,) = [t for t in model.graph.initializer if t.name == "weights"]
    (path.parent / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())


def test_weights_may_lie_beside_the_file(tmp_path: Path) -> None:
    path = by_colour(tmp_path / "p.onnx")
    plain = OnnxParser(path).parse([flat([255, 0, 0])])[0]
    keep_outside(path, "weights.bin")
    parser = OnnxParser(path)
    assert np.array_equal(parser.parse([flat([255, 0, 0])])[0], plain)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(reversed(weights.read_bytes())))
    assert OnnxParser(path).fingerprint() != parser.fingerprint()
    weights.unlink()
    with pytest.raises(DataError, match=r"keeps weights in 'weights.bin', which is not in"):
        OnnxParser(path)


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "empty"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "parser"
    folder.mkdir()
    path = by_colour(folder / "p.onnx")
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(outside)
    location = {"parent": "../outside.bin", "absolute": str(outside), "link": "link.bin"}
    keep_outside(path, location.get(kind, ""))
    with pytest.raises(DataError, match="which is outside its folder"):
        OnnxParser(path)


def test_run_and_test_on_the_command_line(tmp_path: Path) -> None:
    path = by_colour(tmp_path / "mine.onnx")
    images, masks = tmp_path / "images", tmp_path / "truth"
    images.mkdir()
    for i, name in enumerate(("a", "b", "c", "d")):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        ids = np.zeros((SIDE, SIDE), np.uint8)
        pixels[4 * i :, :16], ids[4 * i :, :16] = (255, 0, 0), SKIN
        pixels[4 * i :, 16:], ids[4 * i :, 16:] = (0, 255, 0), HAIR
        Image.fromarray(pixels).save(images / f"{name}.png")
        write_mask(masks / f"{name}.png", ids, 19)
    out = tmp_path / "masks"
    sspl("parser", "run", path, images, "--out", out, "--batch-size", 3)
    for name in ("a", "b", "c", "d"):
        found, truth = (np.asarray(Image.open(f / f"{name}.png")) for f in (out, masks))
        assert np.array_equal(found, truth)
    split = tmp_path / "split.csv"
    split.write_text("name,split\na,test\nb,test\nc,test\nd,test\n")
    figures = tmp_path / "figures.json"
    sspl("parser", "test", path, images, masks, "--split-file", split, "--out", figures)
    assert json.loads(figures.read_text())["mean_iou"] == 1
    sspl(
        "parser",
        "test",
        path,
        images,
        masks,
        "--split-file",
        split,
        "--judge-by",
        "lapa11",
        "--classes",
        "celebamask19",
    )
    assert "--short-side, --average and --device are for a trained parser" in refused(
        "parser", "run", path, images, "--out", out, "--short-side", 64
    )
    described = path.with_suffix(".yaml")
    described.write_text(described.read_text().replace("face: skin", "face: neck"))
    assert "masks of another parser" in refused("parser", "run", path, images, "--out", out)
