"""A trained parser as an ONNX file: it sees what the network sees."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shared import refused, sspl
from sspl.data.synthetic.render import render_face
from sspl.domain.taxonomy import Taxonomy, built_in_taxonomy
from sspl.errors import SsplError
from sspl.parsing import parser_export
from sspl.parsing.model import ParserModel, save_parser
from sspl.parsing.network import ParserNetwork
from sspl.parsing.network_parser import NetworkParser
from sspl.parsing.onnx_parser import OnnxParser
from sspl.parsing.parser_export import ParserGraph, export_parser
from sspl.parsing.parser_settings import ParserModelSettings
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


@pytest.mark.parametrize("taxonomy", [built_in_taxonomy("celebamask19"), MINE])
def test_the_file_parses_as_the_network_does(
    taxonomy: Taxonomy, faces: list[np.ndarray], tmp_path: Path
) -> None:
    model = parser(taxonomy)
    save_parser(tmp_path / "run", model, SMALL)
    out = tmp_path / "p.onnx"
    sspl("parser", "export", tmp_path / "run", "--out", out, "--no-average")
    found = OnnxParser(out)
    assert found.taxonomy.classes == taxonomy.classes
    assert found.taxonomy.mirror == taxonomy.mirror
    wanted = NetworkParser(model, average=False, device="cpu", precision="fp32").parse(faces)
    assert len(np.unique(wanted)) > 2
    assert np.mean(np.stack(found.parse(faces)) == np.stack(wanted)) > 0.9999
    names = {path.name for path in tmp_path.iterdir()} - {"run"}
    assert names == {"p.onnx", "p.yaml"} | ({"p.classes.yaml"} if taxonomy is MINE else set())


def test_the_mirrored_picture_is_averaged_with_sides_exchanged(faces: list[np.ndarray]) -> None:
    model = parser(MINE)
    pixels = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float()
    wanted = parse(
        model.network, pixels, torch.device("cpu"), "fp32", mirror_ids(MINE), scales=(1.0,)
    )
    with torch.inference_mode():
        found = ParserGraph(model, average=True)(pixels / 127.5 - 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_the_square_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    metadata = export_parser(parser(MINE), tmp_path / "p.onnx", short_side=100)
    assert metadata.input_size == (96, 96)
    shape = onnx.load(tmp_path / "p.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in shape][1:] == [3, 96, 96]
    assert shape[0].dim_param


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_parser(tmp_path / "run", parser(MINE), SMALL)
    save = ("parser", "export", tmp_path / "run", "--out")
    assert "ends in .onnx" in refused(*save, tmp_path / "p.pt")
    (tmp_path / "p.yaml").write_text("mine")
    assert "p.yaml is already there" in refused(*save, tmp_path / "p.onnx")
    assert (tmp_path / "p.yaml").read_text() == "mine"

    class Other(ParserGraph):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return super().forward(picture) + 0.01

    wrong = parser_export.trace_onnx(
        Other(parser(MINE), True), torch.zeros(2, 3, SIZE, SIZE), "picture", "logits", 18
    )
    monkeypatch.setattr(parser_export, "trace_onnx", lambda *_: wrong)
    with pytest.raises(SsplError, match=r"differs from the network by 0\.01"):
        export_parser(parser(MINE), tmp_path / "q.onnx")
    assert not (tmp_path / "q.onnx").exists()
    assert not (tmp_path / "q.yaml").exists()
