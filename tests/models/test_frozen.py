"""Models that read frozen features: what they say, how they are kept, how they are exported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import save
from scipy.special import expit

from graphs import pooling_graph, write_graph
from shared import CANVAS, INPUT_SIZE, drawn, make_model
from sspl.errors import DataError, SsplError
from sspl.inference.api import load
from sspl.inference.export import export_onnx
from sspl.inference.scorers import TorchScorer, load_scorer
from sspl.io.files import read_json, write_json
from sspl.io.weights import load_tensors, save_tensors
from sspl.models.bundle import MODEL_FILE, AttributeModel, load_model, save_model
from sspl.models.decisions import Decisions
from sspl.models.extractor_settings import PixelSettings
from sspl.models.extractors import RunExtractor, read_graph, shrunk
from sspl.models.frozen import FrozenNetwork, JoinedNetwork
from sspl.models.scoring import logits_of

CPU = torch.device("cpu")
BIG = 48


def graph_extractor(path: Path, side: int, **options: Any) -> Any:
    content = path.read_bytes()
    return read_graph(content, path.name, PixelSettings(**options), None, None, None)


def frozen_model(
    folder: Path, joined: bool, flip_average: bool = True, runs: bool = True
) -> AttributeModel:
    """Heads on two graphs of unlike size and layout, and on a run, beside a network or not."""
    own = make_model("sspl", flip_average)
    one = write_graph(folder / "one.onnx", ["n", 3, BIG, BIG])
    # One that takes any number of pictures, and one that takes three.
    other = write_graph(folder / "other.onnx", [3, 20, 20, 3], "nhwc", seed=2)
    extractors = [
        graph_extractor(one, BIG),
        graph_extractor(other, 20, channels="bgr", mean=0.5, std=0.25),
    ]
    if runs:
        extractors.append(RunExtractor.of(own.network, "run", CANVAS, INPUT_SIZE))  # type: ignore[arg-type]
    torch.manual_seed(3)
    network: Any = FrozenNetwork(extractors, 3).eval()
    if joined:
        network = JoinedNetwork(own.network, network, 0.3, CANVAS).eval()  # type: ignore[arg-type]
    size = INPUT_SIZE if joined else BIG
    decisions = Decisions(thresholds={"Smiling": 0.4})
    return replace(own, network=network, canvas=BIG, input_size=size, decisions=decisions)


def faces(count: int = 4) -> torch.Tensor:
    large = torch.from_numpy(drawn(count)).permute(0, 3, 1, 2)
    return shrunk(large, BIG).round().to(torch.uint8)


def scores(model: AttributeModel, images: torch.Tensor) -> np.ndarray:
    return TorchScorer(model, CPU, "fp32").probabilities(images.permute(0, 2, 3, 1).numpy())


def test_logits_are_of_features_averaged_with_the_mirror_image(tmp_path: Path) -> None:
    model = frozen_model(tmp_path, joined=False)
    network: Any = model.network
    views = [shrunk(faces(), e.about.side) for e in network.parts()]
    features = [(e(v) + e(v.flip(3))) / 2 for e, v in zip(network.parts(), views, strict=True)]
    wanted = torch.cat(features, 1) @ network.head.weight.T + network.head.bias
    found = logits_of(network, faces(), BIG, True, "fp32")
    assert torch.allclose(found, wanted, atol=1e-5)
    straight = logits_of(network, faces(), BIG, False, "fp32")
    assert not torch.allclose(found, straight, atol=1e-4)
    assert scores(model, faces()) == pytest.approx(
        expit(wanted.detach().numpy() / model.temperatures), abs=1e-6
    )


def test_joined_logits_are_the_mean_of_both(tmp_path: Path) -> None:
    network: Any = frozen_model(tmp_path, joined=True).network
    own = logits_of(network.own, shrunk(faces(), CANVAS), INPUT_SIZE, True, "fp32")
    frozen = logits_of(network.frozen, faces(), INPUT_SIZE, True, "fp32")
    found = logits_of(network, faces(), INPUT_SIZE, True, "fp32")
    assert torch.allclose(found, 0.7 * own + 0.3 * frozen, atol=1e-5)


@pytest.mark.parametrize("joined", [False, True])
def test_a_model_file_holds_all_of_it(joined: bool, tmp_path: Path) -> None:
    model = frozen_model(tmp_path, joined)
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run", model)
    for file in tmp_path.glob("*.onnx"):
        file.unlink()
    again = load_model(tmp_path / "run")
    assert type(again.network) is type(model.network)
    assert scores(again, faces()).tolist() == scores(model, faces()).tolist()
    assert (again.canvas, again.decisions) == (BIG, model.decisions)
    said = load(tmp_path / "run").predict(np.zeros((64, 64, 3), np.uint8))
    assert said.probabilities.shape == (1, 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.pop("frozen"), "frozen: is missing"),
        (lambda m: m["frozen"].update(own_canvas=40), "own_canvas is for a model with a backbone"),
        (lambda m: m["frozen"]["extractors"][0].update(bytes=5), "has shape"),
        (lambda m: m["frozen"]["extractors"][0].update(sha256="0" * 64), "graph .* is damaged"),
        (lambda m: m["frozen"].update(extractors=[]), "frozen.extractors"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(change: Any, sentence: str, tmp_path: Path) -> None:
    save_model(tmp_path, frozen_model(tmp_path, joined=False))
    tensors, metadata = load_tensors(tmp_path / MODEL_FILE)
    change(metadata)
    save_tensors(tmp_path / MODEL_FILE, tensors, metadata)
    with pytest.raises(DataError, match=sentence):
        scores(load_model(tmp_path), faces())


@pytest.mark.parametrize(("joined", "flip_average"), [(False, False), (True, True)])
def test_an_exported_file_says_the_same(joined: bool, flip_average: bool, tmp_path: Path) -> None:
    # A run is written once: beside a network.
    model = frozen_model(tmp_path, joined, flip_average, runs=joined)
    # Writing it compares it with the model, in a batch and alone.
    export_onnx(model, tmp_path / "model.onnx")
    assert read_json(tmp_path / "model.json")["thresholds"] == [0.4, 0.5, 0.5]
    portable = load_scorer(tmp_path / "model.onnx")
    images = faces(3).permute(0, 2, 3, 1).numpy()
    assert portable.probabilities(images) == pytest.approx(scores(model, faces(3)), abs=1e-4)


def test_a_graph_of_newer_operators_names_the_opset_to_ask_for(tmp_path: Path) -> None:
    path = tmp_path / "new.onnx"
    proto = pooling_graph(["n", 3, 16, 16], opset=20)
    save(proto, path)
    network = FrozenNetwork([graph_extractor(path, 16)], 3).eval()
    model = replace(make_model("sspl", True), network=network, canvas=16, input_size=16)
    with pytest.raises(SsplError, match=r"new\.onnx is of ONNX opset 20; give --opset 20"):
        export_onnx(model, tmp_path / "model.onnx")
    export_onnx(model, tmp_path / "model.onnx", opset=20)


def test_what_is_written_of_a_graph_is_its_name_alone(tmp_path: Path) -> None:
    model = frozen_model(tmp_path, joined=False)
    save_model(tmp_path, model)
    metadata = load_tensors(tmp_path / MODEL_FILE)[1]
    write_json(tmp_path / "metadata.json", metadata)
    assert str(tmp_path) not in (tmp_path / "metadata.json").read_text()
    assert [e["name"] for e in metadata["frozen"]["extractors"]] == [
        "one.onnx",
        "other.onnx",
        "run",
    ]
