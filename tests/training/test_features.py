"""Frozen extractors: what they give, how they are written in settings, what is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from graphs import mean_graph, pooling_graph, write_graph
from shared import BOX, CANVAS, INPUT_SIZE, make_model, open_faces
from sspl.data.images import image_canvas
from sspl.data.records import FaceSet
from sspl.errors import DataError, SettingsError
from sspl.models import feature_cache
from sspl.models.backbones.base import pooled
from sspl.models.bundle import save_model
from sspl.models.extractor_settings import PixelSettings
from sspl.models.extractors import OnnxExtractor, RunExtractor, canvas_for, shrunk
from sspl.models.feature_cache import face_features
from sspl.models.splnet import AnyAttributeNetwork
from sspl.settings import Settings, build
from sspl.training.feature_settings import FeatureList, parse_features
from sspl.training.feature_source import open_extractor

CPU = torch.device("cpu")


class Named(Settings):
    features: FeatureList = ()


def pixels(n: int, side: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, side, side)).astype(np.uint8))


def opened(text: str) -> Any:
    """The extractor that a word on the command line names."""
    return open_extractor(build(Named, {"features": [text]}).features[0])


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_pixels_reach_the_graph_as_the_settings_say(batch: int | str, tmp_path: Path) -> None:
    path = mean_graph(tmp_path / "net.onnx", [batch, 3, 16, 16])
    found = opened(f"{path},channels=bgr,scale=0.5,mean=1:2:3,std=1:2:4")(pixels(5, 16).float())
    blue_first = pixels(5, 16).numpy().mean((2, 3))[:, ::-1]
    wanted = (blue_first * 0.5 - [1, 2, 3]) / [1, 2, 4]
    assert found.numpy() == pytest.approx(wanted, abs=1e-3)


def test_without_settings_pixels_are_rgb_from_0_to_1(tmp_path: Path) -> None:
    found = opened(str(mean_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])))
    means = pixels(2, 16).numpy().mean((2, 3)) / 255
    assert found(pixels(2, 16).float()).numpy() == pytest.approx(means, abs=1e-5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_side_and_layout_are_read_from_the_graph(layout: str, tmp_path: Path) -> None:
    shape = ["n", 3, 20, 20] if layout == "nchw" else ["n", 20, 20, 3]
    extractor = opened(str(write_graph(tmp_path / "net.onnx", shape, layout)))
    assert (extractor.about.side, extractor.about.layout) == (20, layout)
    tensors = {
        t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy())
        for t in pooling_graph(shape, layout).graph.initializer
    }
    view = pixels(2, 20).float() / 255
    maps = nn.functional.conv2d(view, tensors["weight"], tensors["bias"], padding=1).relu()
    assert torch.allclose(extractor(pixels(2, 20).float()), maps.mean((2, 3)), atol=1e-5)


def test_another_output_can_be_read(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "net.onnx", ["n", 3, 8, 8])
    assert opened(str(path)).about.features == 5
    assert opened(f"{path},output=active").about.features == 5 * 8 * 8
    with pytest.raises(SettingsError, match=r"net\.onnx has no output 'x'; it has mean, active"):
        opened(f"{path},output=x")


def test_weights_in_a_file_beside_the_graph_come_along(tmp_path: Path) -> None:
    proto = pooling_graph(["n", 3, 16, 16])
    whole = write_graph(tmp_path / "whole.onnx", ["n", 3, 16, 16])
    onnx.save(
        proto,
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.bin",
        size_threshold=0,
    )
    extractor = opened(str(tmp_path / "net.onnx"))
    (tmp_path / "net.bin").unlink()
    there = OnnxExtractor(extractor.about)
    there.load_state_dict(extractor.state_dict())
    faces = pixels(2, 16).float()
    assert torch.equal(there(faces), opened(str(whole))(faces))


def test_a_graph_that_hides_the_number_it_was_made_for(tmp_path: Path) -> None:
    picture = helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 3, 16, 16])
    feature = helper.make_tensor_value_info("f", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("GlobalAveragePool", ["p"], ["mean"]),
        helper.make_node("Reshape", ["mean", "pair"], ["f"]),
    ]
    pair = [onnx.numpy_helper.from_array(np.array([2, -1]), "pair")]
    graph = helper.make_graph(nodes, "pairs", [picture], [feature], pair)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "n.onnx")
    extractor = opened(str(tmp_path / "n.onnx"))
    assert (extractor.about.batch, extractor.about.features) == (2, 3)
    means = pixels(5, 16).numpy().mean((2, 3)) / 255
    assert extractor(pixels(5, 16).float()).numpy() == pytest.approx(means, abs=1e-5)


def broken(path: Path, kind: str) -> str:
    if kind == "absent":
        return str(path)
    if kind == "open":
        return str(mean_graph(path, ["n", 3, "h", "w"]))
    if kind == "flat":
        return str(mean_graph(path, ["n", 3]))
    if kind == "both":
        return f"{mean_graph(path, ['n', 3, 16, 16])},size=24"
    if kind in ("tiny", "huge"):
        side = {"tiny": 7, "huge": 4097}[kind]
        return str(mean_graph(path, ["n", 3, side, side]))
    if kind == "grey":
        return str(mean_graph(path, ["n", 1, 16, 16]))
    if kind == "damaged":
        path.write_bytes(b"no graph")
        return str(path)
    picture = helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 3, 16, 16])
    whole = helper.make_tensor_value_info("f", TensorProto.FLOAT, None)
    node = helper.make_node("ReduceMean", ["p"], ["f"], axes=[0, 2, 3], keepdims=0)
    graph = helper.make_graph([node], "whole", [picture], [whole])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("absent", r"net\.onnx: no such file"),
        ("open", r"features\.size: net\.onnx takes pictures of h x w px in layout nchw; give"),
        ("both", r"features\.size: net\.onnx takes pictures of 16 x 16 px"),
        ("grey", r"features\.size: net\.onnx takes pictures of 16 x 16 px"),
        ("tiny", r"net\.onnx takes pictures of 7 px; networks of 8 to 4096 px can be joined"),
        ("huge", r"net\.onnx takes pictures of 4097 px"),
        ("flat", "not one batch of pictures"),
        ("damaged", "not an ONNX file, or a damaged one"),
        ("whole", r"net\.onnx: made \[3\] of 7 pictures; it must give a row for each"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(kind: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((DataError, SettingsError), match=sentence):
        opened(broken(tmp_path / "net.onnx", kind))


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    extractor = opened(str(mean_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])))
    with pytest.raises(DataError, match=r"net\.onnx: gave features that are no finite numbers"):
        extractor(torch.full((1, 3, 16, 16), torch.nan))


def test_a_graph_that_was_changed_after_it_was_described_is_refused(tmp_path: Path) -> None:
    extractor = opened(str(mean_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])))
    other = OnnxExtractor(extractor.about)
    with pytest.raises(DataError, match="the graph of features is damaged"):
        other(pixels(1, 16))


TORCH_NETWORK = """
import torch

class Means(torch.nn.Module):
    def forward(self, pictures):
        # Dropout tells training from evaluation.
        return torch.nn.functional.dropout(pictures.mean((2, 3), keepdim=True), 0.9, self.training)

class Whole(torch.nn.Module):
    def forward(self, pictures):
        return pictures.sum((0, 2, 3))

number = 3
"""


def test_features_of_a_torch_network(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(TORCH_NETWORK, encoding="utf-8")
    extractor = opened(f"{tmp_path}/net.py:Means,size=16,mean=0.5:0.25:0,std=1:2:4")
    assert extractor.about.name == "Means"
    wanted = (pixels(5, 16).numpy().mean((2, 3)) / 255 - [0.5, 0.25, 0]) / [1, 2, 4]
    assert extractor(pixels(5, 16).float()).numpy() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("named", "error", "sentence"),
    [
        ("net.py:Absent", SettingsError, r"net\.py has no function 'Absent' that returns a torch"),
        ("net.py:number", SettingsError, r"net\.py has no function 'number' that returns a torch"),
        ("other.py:Means", SettingsError, r"features\.path: .*other\.py is not there"),
        ("net.py:Whole", DataError, r"made \[3\] of 2 pictures; it must return a"),
    ],
)
def test_a_torch_network_that_does_not_fit_is_refused(
    named: str, error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(TORCH_NETWORK, encoding="utf-8")
    with pytest.raises(error, match=sentence):
        opened(f"{tmp_path}/{named},size=16")


@pytest.mark.parametrize("architecture", ["sspl", "splnet"])
def test_features_of_a_run_are_what_its_heads_read(architecture: Any, tmp_path: Path) -> None:
    model = make_model(architecture, flip_average=False)
    save_model(tmp_path, model)
    extractor = opened(str(tmp_path))
    assert isinstance(extractor, RunExtractor)
    assert extractor.about.side == CANVAS
    faces = pixels(3, CANVAS).float()
    grid = nn.functional.affine_grid(
        torch.eye(2, 3).repeat(3, 1, 1), [3, 3, INPUT_SIZE, INPUT_SIZE], False
    )
    view = nn.functional.grid_sample(faces, grid, "bilinear", "border", False) / 127.5 - 1
    network: AnyAttributeNetwork = model.network  # type: ignore[assignment]
    with torch.no_grad():
        found = network.pooling(network.backbone(view))
    wanted = found if isinstance(found, torch.Tensor) else torch.cat(list(found.values()), dim=1)
    assert torch.allclose(extractor(faces), wanted, atol=1e-4)
    if architecture == "sspl" and network.head_settings.pooling == "average":
        with torch.no_grad():
            assert torch.allclose(wanted, pooled(network.backbone(view)), atol=1e-4)


def test_the_weights_in_the_package_give_features() -> None:
    extractor = opened("builtin")
    assert extractor.about.name == "builtin"
    assert extractor(pixels(1, extractor.about.side)).shape == (1, extractor.about.features)


def test_a_word_on_the_command_line() -> None:
    assert parse_features("a/net.onnx,size=224,mean=1:2:3") == {
        "kind": "onnx",
        "path": str(Path("a/net.onnx").absolute()),
        "size": "224",
        "mean": "1:2:3",
    }
    assert parse_features("net.py:build,size=16")["kind"] == "torch"
    assert parse_features("runs/pre")["kind"] == "run"
    assert parse_features("builtin") == {"kind": "run", "path": "builtin"}


def test_a_comma_is_part_of_a_path_that_is_there(tmp_path: Path) -> None:
    path = mean_graph(tmp_path / "a,size=3.onnx", ["n", 3, "h", "w"])
    assert parse_features(f"{path},size=16") == {"kind": "onnx", "path": str(path), "size": "16"}


def test_numbers_of_the_pixels() -> None:
    settings = build(PixelSettings, {"scale": "1/127.5", "mean": 1, "std": "2"})
    assert settings == PixelSettings(scale=1 / 127.5, mean=(1, 1, 1), std=(2, 2, 2))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("net.onnx,size", "'size' in 'net.onnx,size' is not key=value, each key once"),
        ("net.onnx,size=8,size=9", "'size=9' in 'net.onnx,size=8,size=9' is not key=value"),
        ("net.onnx,kind=run", "'kind=run' in"),
        ("net.onnx,width=8", r"features\.0\.onnx\.width: unknown setting"),
        ("net.onnx,mean=1:2", r"features\.0\.onnx\.mean"),
        ("net.onnx,std=0", r"features\.0\.onnx\.std.*greater than 0"),
        ("net.onnx,scale=1/0", r"features\.0\.onnx\.scale"),
        ("net.onnx,channels=grb", r"features\.0\.onnx\.channels: input should be 'rgb' or 'bgr'"),
        ("run,size=8", r"features\.0\.run\.size: unknown setting"),
    ],
)
def test_odd_words_are_refused_by_name(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        build(Named, {"features": [text]})


def test_settings_can_be_written_and_read_again() -> None:
    settings = build(Named, {}, ["features=['net.onnx,scale=1/255,mean=0.5', pre]"])
    assert [type(f).__name__ for f in settings.features] == ["OnnxSettings", "RunSettings"]
    assert build(Named, settings.model_dump(mode="json")) == settings


def drawn(folder: Path, count: int) -> FaceSet:
    """Pictures of noise of several sizes, larger than any canvas here."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng(i)
        noise = rng.integers(0, 256, (80 + i, 64 + i, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return open_faces("folder", folder)


def features_of(faces: FaceSet, extractor: Any, folder: Path | None, mirrored: bool) -> np.ndarray:
    return face_features(extractor, faces, BOX, canvas_for([extractor]), mirrored, CPU, folder)


def test_features_are_of_the_picture_itself_and_its_mirror_image(tmp_path: Path) -> None:
    faces = drawn(tmp_path / "faces", 3)
    extractor = opened(str(write_graph(tmp_path / "net.onnx", ["n", 3, 48, 48])))
    canvases = [
        image_canvas(Image.open(tmp_path / "faces" / f"{i}.png"), BOX, 48) for i in range(3)
    ]
    straight = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).float()
    wanted = extractor(straight)
    assert features_of(faces, extractor, None, False) == pytest.approx(wanted.numpy(), abs=1e-5)
    both = (wanted + extractor(straight.flip(3))) / 2
    assert not torch.allclose(both, wanted, atol=1e-4)
    assert features_of(faces, extractor, None, True) == pytest.approx(both.numpy(), abs=1e-5)


def test_a_larger_canvas_is_shrunk_without_aliasing() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    large = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    small = np.array(image.resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert shrunk(large, 20)[0].numpy() == pytest.approx(small, abs=1)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many faces each call of an extractor was for."""
    calls: list[int] = []
    before = feature_cache.extractor_features

    def counting(extractor: Any, canvases: Any, *more: Any) -> Any:
        calls.append(len(canvases))
        return before(extractor, canvases, *more)

    monkeypatch.setattr(feature_cache, "extractor_features", counting)
    return calls


def test_features_are_computed_once(tmp_path: Path, counted: list[int]) -> None:
    faces = drawn(tmp_path / "faces", 6)
    extractor = opened(str(write_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])))
    first = features_of(faces.select([0, 1, 2]), extractor, tmp_path / "kept", True)
    # The same pictures in another folder, one of them twice, in another order.
    moved = drawn(tmp_path / "moved", 6).select([2, 5, 0, 5])
    again = features_of(moved, extractor, tmp_path / "kept", True)
    assert counted == [3, 1]
    assert again[[2, 0]].tolist() == first[[0, 2]].tolist()
    assert again[1].tolist() == again[3].tolist()
    assert features_of(moved, extractor, None, True) == pytest.approx(again, abs=1e-6)


def test_other_networks_ways_and_pictures_are_told_apart(
    tmp_path: Path, counted: list[int]
) -> None:
    faces, kept = drawn(tmp_path / "faces", 2), tmp_path / "kept"
    path = write_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])
    other = write_graph(tmp_path / "other.onnx", ["n", 3, 16, 16], seed=1)
    found = [
        features_of(faces, opened(str(path)), kept, True),
        features_of(faces, opened(str(path)), kept, False),
        features_of(faces, opened(f"{path},mean=0.5"), kept, True),
        features_of(faces, opened(str(other)), kept, True),
        face_features(opened(str(path)), faces, (0, 0, 1, 1), 16, True, CPU, kept),
        face_features(opened(str(path)), faces, BOX, 32, True, CPU, kept),
    ]
    assert counted == [2] * 6
    assert all(not np.allclose(a, b) for i, a in enumerate(found) for b in found[:i])
    Image.new("RGB", (70, 70)).save(tmp_path / "faces" / "0.png")
    features_of(faces, opened(str(path)), kept, True)
    assert counted[6:] == [1]


def test_what_was_computed_before_a_kill_is_kept(
    tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "BLOCK", 2)
    faces, kept = drawn(tmp_path / "faces", 5), tmp_path / "kept"
    extractor = opened(str(write_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])))
    (tmp_path / "faces" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        features_of(faces, extractor, kept, True)
    assert counted == [2]
    whole = drawn(tmp_path / "faces", 5)
    found = features_of(whole, extractor, kept, True)
    assert counted == [2, 2, 1]
    assert found == pytest.approx(features_of(whole, extractor, None, True), abs=1e-6)


def test_a_damaged_file_of_features_is_made_anew(tmp_path: Path, counted: list[int]) -> None:
    faces, kept = drawn(tmp_path / "faces", 2), tmp_path / "kept"
    extractor = opened(str(write_graph(tmp_path / "net.onnx", ["n", 3, 16, 16])))
    before = features_of(faces, extractor, kept, True)
    (file,) = kept.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert features_of(faces, extractor, kept, True).tolist() == before.tolist()
    assert counted == [2, 2]
