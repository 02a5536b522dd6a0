"""A trained parser as an ONNX file: it sees what the network sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from shared import refused, sspl
from sspl.data.synthetic.render import render_face
from sspl.domain.taxonomy import Taxonomy, built_in_taxonomy
from sspl.errors import SsplError
from sspl.parsing import parser_export
from sspl.parsing.model import ParserModel, save_parser
from sspl.parsing.network import ParserModelSettings, ParserNetwork
from sspl.parsing.onnx_parser import OnnxParser
from sspl.parsing.parser_export import ParserGraph, export_parser
from sspl.parsing.training import mirror_ids, parse

SIZE = 64
SMALL = ParserModelSettings(width=0.125)
MINE = Taxonomy(
    "mine", ("background", "skin", "l_eye", "r_eye"), (("l_eye", "r_eye"),), {"upper": ("l_eye",)}
)


def parser(taxonomy: Taxonomy) -> ParserModel:
    """A random network that gives most classes somewhere."""
    torch.manual_seed(2)
    network = ParserNetwork(len(taxonomy), SMALL).eval()
    pixels = torch.from_numpy(np.stack([render_face(3, i, SIZE).image for i in range(4)]))
    last = network.head[2]
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        logits = network(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)[0]
        spread, mean = torch.std_mean(logits, (0, 2, 3))
        last.weight.div_(spread[:, None, None, None])
        last.bias.sub_(mean).div_(spread)  # type: ignore[union-attr]
    return ParserModel(network, taxonomy, SIZE)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return [render_face(3, i, SIZE).image for i in range(4)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parser of one's own classes, alone in its folder, for squares of another size."""
    folder = tmp_path_factory.mktemp("parser")
    save_parser(folder / "run", parser(MINE), SMALL)
    out = folder / "out" / "mine.onnx"
    out.parent.mkdir()
    sspl("parser", "export", folder / "run", "--out", out, "--short-side", 100)
    return out


def averaged(model: ParserModel, pixels: torch.Tensor) -> torch.Tensor:
    """Logits of pictures and their mirror images, at one scale."""
    mirror = mirror_ids(model.taxonomy)
    return parse(model.network, pixels, torch.device("cpu"), "fp32", mirror, scales=(1.0,))


def assert_equal(file: Path, model: ParserModel, faces: list[np.ndarray]) -> None:
    found = OnnxParser(file)
    assert found.taxonomy.classes == model.taxonomy.classes
    assert found.taxonomy.mirror == model.taxonomy.mirror
    pixels = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float()
    logits = averaged(model, pixels)
    wanted = logits.argmax(1).numpy()
    assert len(np.unique(wanted)) > 2
    assert np.mean(np.stack(found.parse(faces)) == wanted) > 0.9999


def test_the_file_parses_as_the_network_does_in_the_square_that_is_asked_for(
    exported: Path, faces: list[np.ndarray]
) -> None:
    shape = onnx.load(exported).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in shape][1:] == [3, 96, 96]
    assert shape[0].dim_param
    squares = [np.asarray(Image.fromarray(face).resize((96, 96))) for face in faces]
    assert_equal(exported, replace(parser(MINE), size=96), squares)
    names = {path.name for path in exported.parent.iterdir()}
    assert names == {"mine.onnx", "mine.yaml", "mine.classes.yaml"}


def test_classes_that_come_with_the_package_need_no_file(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser_export, "trace_onnx", lambda *_: onnx.load(exported))
    monkeypatch.setattr(parser_export, "_check", lambda *_: None)
    export_parser(parser(built_in_taxonomy("celebamask19")), tmp_path / "p.onnx", average=False)
    assert {path.name for path in tmp_path.iterdir()} == {"p.onnx", "p.yaml"}


def test_the_mirrored_picture_is_averaged_with_sides_exchanged(faces: list[np.ndarray]) -> None:
    model = parser(MINE)
    pixels = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float()
    wanted = averaged(model, pixels)
    with torch.inference_mode():
        found = ParserGraph(model, average=True)(pixels / 127.5 - 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_refusals(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_parser(tmp_path / "run", parser(MINE), SMALL)
    save = ("parser", "export", tmp_path / "run", "--out")
    (tmp_path / "p.yaml").write_text("mine")
    assert "p.yaml is already there" in refused(*save, tmp_path / "p.onnx")
    assert (tmp_path / "p.yaml").read_text() == "mine"

    wrong = parser(MINE)
    with torch.no_grad():
        wrong.network.head[2].bias.add_(0.01)  # type: ignore[operator, union-attr]
    monkeypatch.setattr(parser_export, "trace_onnx", lambda *_: onnx.load(exported))
    with pytest.raises(SsplError, match=r"differs from the network by 0\.01"):
        export_parser(wrong, tmp_path / "q.onnx", short_side=100)
    assert not (tmp_path / "q.onnx").exists()
    assert not (tmp_path / "q.yaml").exists()
