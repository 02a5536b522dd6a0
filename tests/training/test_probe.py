"""`sspl probe`, and `sspl finetune` with frozen features, from the command line to the model."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, logit

import sspl
from graphs import write_graph
from shared import refused
from shared import sspl as command
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSet
from sspl.evaluation.evaluate import predict_labelled
from sspl.inference.tables import PROBABILITY
from sspl.models import feature_cache
from sspl.models.bundle import load_model, save_decisions
from sspl.models.decisions import Decisions
from sspl.models.frozen import FrozenNetwork, JoinedNetwork
from sspl.settings.yaml_files import read_yaml
from sspl.training.frozen_heads import HeadsBeside
from sspl.training.linear_heads import LinearHeads, figure
from sspl.training.stage_settings import RuntimeSettings

TINY = (
    "--preset", "demo", "--from", "none", "canvas=48", "input_size=32", "backbone.width=0.125",
    "backbone.stem_stride=2", "optim.epochs=2", "optim.batch_size=16", "head.pooling=average",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`faces`, two graphs, and the run `probe` on both, judged on its test faces."""
    root = tmp_path_factory.mktemp("probe")
    command("data", "synthetic", root / "faces", "--count", 320, "--seed", 4, "--size", 48)
    write_graph(root / "one.onnx", ["n", 3, 64, 64])
    write_graph(root / "other.onnx", ["n", 20, 20, 3], "nhwc", seed=3)
    command(
        "probe", "--features", root / "one.onnx",
        "--features", f"{root / 'other.onnx'},mean=0.5,std=0.5",
        "--data", f"celeba:{root / 'faces'}", "--labels", 60, "--out", root / "probe",
        "thresholds=balanced",
    )  # fmt: skip
    command("evaluate", root / "probe", "--resamples", 0)
    return root


def faces_of(root: Path, split: str) -> FaceSet:
    return parse_data_spec(f"celeba:{root / 'faces'}").open().split(split)


def metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


def test_the_run_is_one_like_any_other(root: Path) -> None:
    found, model = metrics(root / "probe"), load_model(root / "probe")
    assert isinstance(model.network, FrozenNetwork)
    assert (found["labelled"], found["finished"]) == (60, True)
    assert len((root / "probe" / "labelled.txt").read_text().splitlines()) == 60
    assert model.canvas == 64
    assert model.decisions.thresholds
    assert found["kept"].startswith(f"Strength {found['best']['strength']:g} of 6 kept: best")
    one, other = found["extractors"]
    assert (one["name"], one["features"], one["side"]) == ("one.onnx", 5, 64)
    assert one["bytes"] == (root / "one.onnx").stat().st_size
    assert other["milliseconds"] > 0


def test_what_validation_said_is_what_the_model_says(root: Path) -> None:
    command("evaluate", root / "probe", "--split", "val", "--resamples", 0)
    said = json.loads((root / "probe" / "evaluation-val.json").read_text())["mean"]
    for name in ("accuracy", "average_precision"):
        assert said[name] == pytest.approx(metrics(root / "probe")["best"][f"val/{name}"])


def test_programs_and_tables_say_the_same(root: Path, tmp_path: Path) -> None:
    faces = faces_of(root, "test")
    pictures = [Image.open(str(path)) for path in faces.images[:3]]
    said = sspl.load(root / "probe").predict(pictures).probabilities
    evaluated = np.load(root / "probe" / "predictions-test.npz")["probabilities"][:3]
    assert said == pytest.approx(evaluated, abs=1e-5)
    folder = tmp_path / "some"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
    command("predict", root / "probe", f"folder:{folder}", "--out", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    name = load_model(root / "probe").schema.names[0]
    assert float(rows[0][f"{name}{PROBABILITY}"]) == pytest.approx(said[0, 0], abs=1e-6)


def test_pack_card_export_and_report(root: Path, tmp_path: Path) -> None:
    command("model", "pack", root / "probe", "--out", tmp_path / "packed")
    card = (tmp_path / "packed" / "MODEL_CARD.md").read_text()
    digest = metrics(root / "probe")["extractors"][0]["sha256"]
    assert f"one.onnx (ONNX graph, SHA-256 {digest[:16]}): 5 features of a face at 64 px" in card
    assert "as linear heads on features of frozen networks" in card
    assert "Pre-train" not in card
    assert "Not pre-trained" not in card
    command("model", "pack", tmp_path / "packed", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "MODEL_CARD.md").read_text().count(digest[:16]) == 1
    command("export", tmp_path / "packed", "--out", tmp_path / "model.onnx")
    picture = Image.open(str(faces_of(root, "test").images[0]))
    said = [
        sspl.load(path).predict(picture).probabilities
        for path in (root / "probe", tmp_path / "packed", tmp_path / "model.onnx")
    ]
    assert said[1].tolist() == said[0].tolist()
    assert said[2] == pytest.approx(said[0], abs=1e-4)
    command("report", root / "probe", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "as linear heads on features of frozen networks" in page
    assert "one.onnx (ONNX graph" in page


def test_thresholds_are_chosen_again(root: Path, tmp_path: Path) -> None:
    before = load_model(root / "probe").decisions
    save_decisions(root / "probe", load_model(root / "probe"), Decisions())
    command("model", "decide", root / "probe")
    after = load_model(root / "probe").decisions.thresholds
    assert after == pytest.approx(before.thresholds, abs=1e-5)


def test_what_cannot_be_done_with_it_is_said(root: Path, tmp_path: Path) -> None:
    run, out = root / "probe", tmp_path / "out"
    data = f"celeba:{root / 'faces'}"
    picture = root / "faces" / "img_align_celeba"
    assert "cannot be explained" in refused("explain", run, f"folder:{picture}", "--out", out)
    assert "gone on from" in refused(
        "finetune", "--from", run, "--data", data, "--out", out, *TINY[:2], *TINY[4:]
    )
    assert "float32 only" in refused(
        "export", run, "--out", tmp_path / "m.onnx", "--int8", "--calibrate", data
    )
    assert "already holds a run" in refused(
        "probe", "--features", root / "one.onnx", "--data", data, "--out", run
    )
    assert "features: no network given" in refused("probe", "--data", data, "--out", out)
    assert "data: no faces given" in refused("probe", "--features", root / "one.onnx", "--out", out)
    assert "heads have no epochs" in refused(
        "probe", "--features", root / "one.onnx", "--data", data, "--out", out, "select_by=last"
    )
    assert not out.exists()


def test_an_interrupted_run_goes_on_with_what_is_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sspl.training import frozen_heads

    words = (
        "probe", "--features", root / "one.onnx", "--data", f"celeba:{root / 'faces'}",
        "--labels", 60, "--out", tmp_path / "run",
    )  # fmt: skip

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(frozen_heads, "fit_linear", killed)
        with pytest.raises(AssertionError):
            command(*words)
    monkeypatch.setattr(feature_cache, "compute_features", killed)
    command(*words)
    assert metrics(tmp_path / "run")["finished"]


@pytest.fixture(scope="module")
def joined(root: Path) -> Path:
    """A fine-tuned run with frozen features beside it."""
    command(
        "finetune", "--data", f"celeba:{root / 'faces'}", "--labels", 60, "--out",
        root / "joined", *TINY, f"features=[{root / 'one.onnx'}]", "frozen_share=validation",
    )  # fmt: skip
    return root / "joined"


def test_a_fine_tuned_network_is_joined(root: Path, joined: Path, tmp_path: Path) -> None:
    model, best = load_model(joined), metrics(joined)["best"]
    assert isinstance(model.network, JoinedNetwork)
    assert (model.canvas, model.network.own_canvas) == (64, 48)
    assert model.network.share == best["frozen_share"]
    command("evaluate", joined, "--split", "val", "--resamples", 0)
    said = json.loads((joined / "evaluation-val.json").read_text())["mean"]
    for name in ("accuracy", "average_precision"):
        assert said[name] == pytest.approx(best[f"val/{name}"], abs=1e-9)
    command("model", "pack", joined, "--out", tmp_path / "packed")
    card = (tmp_path / "packed" / "MODEL_CARD.md").read_text()
    assert "and as linear heads on features of frozen networks" in card
    picture = Image.open(str(faces_of(root, "test").images[0]))
    said = [sspl.load(p).predict(picture).probabilities for p in (joined, tmp_path / "packed")]
    assert said[0].tolist() == said[1].tolist()


@pytest.mark.parametrize("kind", ["probe", "joined"])
def test_kept_features_say_what_computed_ones_do(
    kind: str, root: Path, joined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, faces = load_model(root / kind), faces_of(root, "test")
    model = replace(model, flip_average=True)
    said = predict_labelled(model, faces, RuntimeSettings(precision="fp32"))
    for _ in range(2):
        kept = predict_labelled(model, faces, RuntimeSettings(precision="fp32"), kept=tmp_path)
        assert kept.probabilities == pytest.approx(said.probabilities, abs=1e-6)
        # The second time no network is asked.
        monkeypatch.setattr(feature_cache, "compute_features", None)


def test_a_joined_run_goes_on_to_the_same_end(root: Path, joined: Path) -> None:
    before = read_yaml(joined / "settings.yaml", sspl.errors.SettingsError)
    assert before["features"][0]["path"] == str(root / "one.onnx")
    command("finetune", "--out", joined, "--resume")
    assert metrics(joined)["finished"]


def test_the_weight_is_chosen_by_the_figure() -> None:
    labels = np.array([[1], [0], [1], [0]], np.int8)
    beside = object.__new__(HeadsBeside)
    beside.select_by, beside.share = "accuracy", "validation"
    own = logit(np.array([[0.9], [0.8], [0.9], [0.2]])).astype(np.float32)
    beside.logits = logit(np.array([[0.8], [0.1], [0.3], [0.2]])).astype(np.float32)

    class Parts:
        train = val = type("Faces", (), {"labels": labels})

    beside.parts = Parts  # type: ignore[assignment]
    share, logits = beside.joined(own)
    # Half of each: the second face is at logit -0.4, the third at 0.7; all four are right.
    assert share == 0.5
    assert expit(logits[1, 0]) == pytest.approx(expit((logit(0.8) + logit(0.1)) / 2))
    assert figure(logits, labels, np.array([0.5]), "accuracy") == 1.0
    worse = own * 4
    # Now 0.8 against 0.1 needs more weight on the heads: 0.8 * 5.55 > 0.2 * 2.2 ...
    assert beside.joined(worse)[0] == 0.8
    beside.share = 0.25
    assert beside.joined(own)[0] == 0.25


def test_heads_are_linear() -> None:
    heads = LinearHeads(np.array([[2.0], [1.0]]), np.array([0.5]), 1.0)
    assert heads(np.float32([[1, 2]])).tolist() == [[4.5]]
