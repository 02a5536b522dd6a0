"""A model as an ONNX file: the same probabilities, and everything that a prediction needs."""

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.special import logit

import sspl
from shared import BOX, CANVAS, INPUT_SIZE, SCHEMA, drawn, make_model, refused
from shared import sspl as command
from sspl.cli.main import cli
from sspl.data.canvases import Canvases
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSource
from sspl.data.skipping import Skipped
from sspl.data.synthetic.render import render_face
from sspl.errors import DataError, SsplError
from sspl.inference.predict import PredictSettings, predict
from sspl.inference.scorers import load_scorer
from sspl.inference.sources import Stills
from sspl.models.bundle import AttributeModel
from sspl.models.scoring import face_probabilities

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from sspl.inference import export as exporting  # noqa: E402
from sspl.inference.portable import (  # noqa: E402
    METADATA_KEY,
    PortableMetadata,
    load_portable,
    run_session,
)
from sspl.inference.quantise import quantise, split_calibration  # noqa: E402
from sspl.onnx.files import messages, start_session  # noqa: E402

GUIDE = Path(__file__).parents[2] / "docs" / "guide-engineer.md"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty synthetic faces, not square, as JPEG."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(30):
        face = Image.fromarray(render_face(4, i, 64).image).crop((0, 0, 56, 64))
        face.save(folder / f"{i:02d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    output = command("export", run, "--out", out).output
    assert "3 attributes, float32, ONNX opset 18" in output
    return out


@pytest.fixture
def proto(exported: Path) -> Any:
    return onnx.load(exported)


@pytest.mark.parametrize("count", [1, 5])
def test_probabilities_equal_the_models_at_any_batch_size(
    model: AttributeModel, exported: Path, count: int
) -> None:
    images = np.concatenate([drawn(count - 1), noise()]) if count > 1 else drawn(1)
    wanted = exporting.torch_probabilities(model, images)
    got = load_portable(exported).probabilities(images)
    assert got.dtype == np.float32
    assert got.shape == (count, 3)
    # Were all probabilities alike, a wrong graph could pass.
    assert wanted.std() > 0.05
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (1, CANVAS, CANVAS, 3), dtype=np.uint8)


def test_mirror_images_count_alike_exactly_when_averaged(
    model: AttributeModel, exported: Path
) -> None:
    plain = make_model("splnet", flip_average=False)
    proto = exporting.export_graph(plain, 21)
    assert proto.opset_import[0].version == 21
    exporting.check_graph(proto, plain)
    session = start_session(proto.SerializeToString(), "plain")
    images = drawn(4)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    wanted = exporting.torch_probabilities(plain, images)
    np.testing.assert_allclose(run_session(session, images), wanted, rtol=0, atol=1e-4)
    assert np.abs(run_session(session, mirrored) - wanted).max() > 0.01
    averaged = load_portable(exported)
    np.testing.assert_allclose(
        averaged.probabilities(images), averaged.probabilities(mirrored), rtol=0, atol=1e-5
    )


def test_metadata_stand_in_the_file_and_beside_it(exported: Path) -> None:
    metadata = load_portable(exported).metadata
    assert list(metadata.attributes.items()) == list(zip(SCHEMA.names, SCHEMA.regions, strict=True))
    assert metadata.thresholds == (0.5, 0.5, 0.5)
    assert (metadata.box, metadata.canvas, metadata.input_size) == (BOX, CANVAS, INPUT_SIZE)
    assert (metadata.flip_average, metadata.opset, metadata.numbers) == (True, 18, "float32")
    assert metadata.versions["onnx"] == onnx.__version__
    beside = json.loads(exported.with_suffix(".json").read_text())
    assert PortableMetadata.model_validate(beside) == metadata


def test_file_names_nothing_of_the_machine_that_made_it(exported: Path) -> None:
    content = exported.read_bytes()
    for module in (sspl, torch):
        assert module.__file__ is not None
        assert str(Path(module.__file__).parent).encode() not in content


def test_prediction_files_agree(run: Path, exported: Path, faces: Path, tmp_path: Path) -> None:
    from_torch, from_onnx = tmp_path / "torch.csv", tmp_path / "onnx.csv"
    data = parse_data_spec(f"folder:{faces}").open()
    scorer = load_scorer(run, "cpu", "fp32")
    settings = PredictSettings(batch_size=8)
    predict(scorer, [Stills.of(data)], from_torch, settings, Skipped("fail"))
    command("predict", exported, faces, "--out", from_onnx, "--batch-size", 7)
    wanted, got = (list(csv.DictReader(p.open())) for p in (from_torch, from_onnx))
    assert [r["image"] for r in got] == [f"{i:02d}.jpg" for i in range(30)]
    assert list(got[0]) == list(wanted[0])
    values = []
    for a, b in zip(wanted, got, strict=True):
        assert a["image"] == b["image"]
        for name in SCHEMA.names:
            p, q = float(a[f"{name}_probability"]), float(b[f"{name}_probability"])
            assert p == pytest.approx(q, abs=1e-3)
            assert b[name] == a[name] or abs(p - 0.5) < 1e-3
            values.append(p)
    assert np.std(values) > 0.1


def test_decisions_follow_the_thresholds_of_the_file(
    exported: Path, proto: Any, faces: Path, tmp_path: Path
) -> None:
    metadata = load_portable(exported).metadata
    file, out = tmp_path / "strict.onnx", tmp_path / "out.csv"
    file.write_bytes(
        exporting.pack(proto, metadata.model_copy(update={"thresholds": (0.0, 0.5, 1.0)}))
    )
    command("predict", file, faces, "--out", out)
    rows = list(csv.DictReader(out.open()))
    assert {r["Smiling"] for r in rows} == {"1"}
    assert {r["Eyeglasses"] for r in rows} == {"0", "1"}
    assert {r["Big_Nose"] for r in rows} == {"0"}


def test_a_graph_that_differs_is_not_written(
    model: AttributeModel, proto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of one model, handed out for another with a temperature one percent off."""
    other = replace(model, temperatures=model.temperatures * [1, 1.01, 1])
    monkeypatch.setattr(exporting, "export_graph", lambda *_: proto)
    with pytest.raises(SsplError, match="differs from the model by"):
        exporting.export_onnx(other, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_int8_keeps_the_order_of_faces_and_says_how_far_it_is_off(
    run: Path,
    exported: Path,
    proto: Any,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporting, "export_graph", lambda *_: proto)
    out = tmp_path / "int8.onnx"
    output = command("export", run, "--out", out, "--int8", "--calibrate", f"folder:{faces}").output
    operators = [node.op_type for node in onnx.load(out).graph.node]
    weights = {t.data_type for t in onnx.load(out).graph.initializer}
    assert operators.count("QuantizeLinear") > operators.count("Conv") > 15
    assert "PRelu" not in operators
    assert onnx.TensorProto.INT8 in weights
    assert out.stat().st_size < 0.5 * exported.stat().st_size
    small, big = load_portable(out), load_portable(exported)
    images = drawn(40, start=100)
    one, other = (logit(m.probabilities(images).astype(float)) for m in (small, big))
    for i in range(len(SCHEMA)):
        assert np.corrcoef(one[:, i], other[:, i])[0, 1] > 0.9
    found = small.metadata.int8
    assert found is not None
    assert (found.calibration_faces, found.held_out_faces, found.decisions) == (24, 6, 18)
    assert 0 < found.mean_difference < found.largest_difference < 0.5
    assert f"{found.flipped_decisions} of 18 decisions flip" in output


def test_reported_difference_is_that_of_the_held_out_faces(
    model: AttributeModel, proto: Any, faces: Path
) -> None:
    data = parse_data_spec(f"folder:{faces}").open()
    small, found = quantise(proto, data, model, 8)
    calibration, held_out = split_calibration(data, 8)
    assert (len(calibration), len(held_out)) == (8, 6)
    assert not set(calibration.names) & set(held_out.names)
    canvases = Canvases([FaceSource(held_out, BOX)], CANVAS, None)
    before = face_probabilities(model, canvases, torch.device("cpu"), "fp32")
    images = canvases.batches(range(6), 6)
    pixels = next(iter(images)).images.permute(0, 2, 3, 1).contiguous().numpy()
    after = run_session(start_session(small.SerializeToString(), "int8"), pixels)
    assert found.largest_difference == pytest.approx(np.abs(before - after).max(), abs=1e-4)
    assert found.mean_difference == pytest.approx(np.abs(before - after).mean(), abs=1e-4)
    assert found.flipped_decisions == ((before >= 0.5) != (after >= 0.5)).sum()


def test_files_that_are_no_model_are_refused(
    exported: Path, proto: Any, faces: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"

    def sentence(content: bytes) -> str:
        file.write_bytes(content)
        found = refused("predict", file, faces, "--out", tmp_path / "out.csv")
        assert str(file) in found
        assert not (tmp_path / "out.csv").exists()
        return found

    assert "not an ONNX file" in sentence(b"this is text, and not a graph")
    assert "not an ONNX file" in sentence(exported.read_bytes()[:-1000])
    assert "not an ONNX file" in sentence(b"")
    metadata = json.loads({p.key: p.value for p in proto.metadata_props}[METADATA_KEY])

    def with_metadata(**changes: object) -> bytes:
        props = {METADATA_KEY: json.dumps(metadata | changes)}
        del proto.metadata_props[:]
        onnx.helper.set_model_props(proto, props)
        content: bytes = proto.SerializeToString()
        return content

    assert "surprise: unknown setting" in sentence(with_metadata(surprise=1))
    assert "format" in sentence(with_metadata(format=2))
    assert "one threshold for each" in sentence(with_metadata(thresholds=[0.5]))
    assert "box needs left < right" in sentence(with_metadata(box=[0.5, 0, 0.2, 1]))
    assert "[40, 40, 3]" in sentence(with_metadata(canvas=48))
    del proto.metadata_props[:]
    assert "not one of this software" in sentence(proto.SerializeToString())
    with pytest.raises(DataError, match="no such model file"):
        load_portable(tmp_path / "absent.onnx")


def test_a_graph_that_cannot_run_is_refused(exported: Path, proto: Any, tmp_path: Path) -> None:
    metadata = load_portable(exported).metadata
    proto.graph.node[0].op_type = "NoSuchOperator"
    (tmp_path / "model.onnx").write_bytes(exporting.pack(proto, metadata))
    with pytest.raises(DataError, match="onnxruntime cannot run this graph"):
        load_portable(tmp_path / "model.onnx")


def test_a_graph_with_strange_or_no_outputs_is_refused(
    exported: Path, proto: Any, tmp_path: Path
) -> None:
    metadata = load_portable(exported).metadata
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "abcdefgh"
    content = exporting.pack(proto, metadata)
    assert content.count(b"abcdefgh") == 2
    (tmp_path / "model.onnx").write_bytes(content.replace(b"abcdefgh", b"abcdefg\xbe"))
    with pytest.raises(DataError, match=r"cannot run this graph .*decode byte 0xbe"):
        load_portable(tmp_path / "model.onnx")
    del proto.graph.output[:]
    (tmp_path / "model.onnx").write_bytes(exporting.pack(proto, metadata))
    with pytest.raises(DataError, match="onnxruntime cannot run this graph"):
        load_portable(tmp_path / "model.onnx")


def test_weights_outside_the_file_are_refused(exported: Path, proto: Any, tmp_path: Path) -> None:
    metadata = load_portable(exported).metadata
    (secret := tmp_path / "secret").write_bytes(bytes(10_000_000))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(secret))
    (tmp_path / "model.onnx").write_bytes(exporting.pack(proto, metadata))
    with pytest.raises(DataError, match="keeps weights in another file"):
        load_portable(tmp_path / "model.onnx")


def test_tensors_of_subgraphs_and_attributes_are_seen() -> None:
    tensor = onnx.helper.make_tensor("inner", onnx.TensorProto.FLOAT, [1], [1.0])
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], []
    )
    outer = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner)
    graph = onnx.helper.make_graph([outer], "outer", [], [])
    found = [m for m in messages(graph) if isinstance(m, onnx.TensorProto)]
    assert [t.name for t in found] == ["inner"]


def test_options_that_do_not_fit_are_refused(
    run: Path,
    exported: Path,
    proto: Any,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporting, "export_graph", lambda *_: proto)
    out = tmp_path / "model.onnx"
    assert "go together" in refused("export", run, "--out", out, "--int8")
    assert "go together" in refused("export", run, "--out", out, "--calibrate", faces)
    int8 = ("export", run, "--out", out, "--int8", "--calibrate")
    said = refused(*int8, f"folder:{faces},crop=celeba")
    assert "has crop=0.05:0.1:0.95:1.0, not celeba; leave crop out" in said
    few = tmp_path / "few"
    few.mkdir()
    for i in range(9):
        (few / f"{i}.jpg").write_bytes((faces / f"{i:02d}.jpg").read_bytes())
    assert "9 faces are too few" in refused(*int8, f"folder:{few}")
    odd = CliRunner().invoke(cli, ["export", str(run), "--out", str(tmp_path / "model")])
    assert odd.exit_code == 2
    assert "ends in .onnx" in odd.output
    (tmp_path / "run.json").write_text("{}")
    assert "run.json is already there" in refused("export", run, "--out", tmp_path / "run.onnx")
    assert (tmp_path / "run.json").read_text() == "{}"
    assert not list(tmp_path.glob("*.onnx"))
    sentence = refused("predict", exported, faces, "--out", tmp_path / "p.csv", "--device", "cuda")
    assert "ONNX file runs on the CPU" in sentence


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_missing_packages_are_named_with_their_extra(
    run: Path,
    exported: Path,
    faces: Path,
    tmp_path: Path,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = [m for m in sys.modules if m.startswith(("sspl.inference.", "sspl.onnx.files"))]
    for name in ours:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    for arguments in (("export", run), ("predict", exported, faces)):
        suffix = "onnx" if arguments[0] == "export" else "csv"
        sentence = refused(*arguments, "--out", tmp_path / f"out.{suffix}")
        assert f"({missing})" in sentence
        assert "pip install '.[export]'" in sentence


def test_the_guides_snippet_gives_the_probabilities_of_predict(
    exported: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (snippet,) = (text for text in snippets if "onnxruntime" in text)
    (tmp_path / "model.onnx").write_bytes(exported.read_bytes())
    (tmp_path / "face.jpg").write_bytes((faces / "03.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippet, names)
    command("predict", exported, faces, "--out", tmp_path / "out.csv")
    lines = Path("out.csv").read_text().splitlines()
    row = next(r for r in csv.DictReader(lines) if r["image"] == "03.jpg")
    assert list(names["found"]) == list(SCHEMA.names)
    for name, probability in names["found"].items():
        # Only the decoder's rougher first reduction of big pictures is left out of the snippet.
        assert probability == pytest.approx(float(row[f"{name}_probability"]), abs=2e-3)
