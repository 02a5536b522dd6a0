"""`sspl model decide`: thresholds and bands for a run that is over."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sspl
from shared import refused
from shared import sspl as command
from sspl.evaluation import decide_run
from sspl.models.bundle import load_model, save_decisions
from sspl.models.decisions import Decisions

TINY = (
    "canvas=48",
    "input_size=32",
    "backbone.width=0.125",
    "backbone.stem_stride=2",
    "optim.batch_size=16",
    "optim.epochs=3",
    "head.pooling=average",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`faces`, and the runs `fine` (decided at 0.5, judged) and `tuned` (decided in training)."""
    root = tmp_path_factory.mktemp("decide")
    command("data", "synthetic", root / "faces", "--count", 500, "--seed", 4, "--size", 48)
    learn = ["finetune", "--preset", "demo", "--data", f"celeba:{root / 'faces'}", "--from", "none",
             *TINY]  # fmt: skip
    command(*learn, "--out", root / "fine")
    command(*learn, "--out", root / "tuned", "thresholds=balanced", "sure_accuracy=0.8")
    command("evaluate", root / "fine", "--resamples", 20)
    return root


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "fine", tmp_path / "fine"))


def test_the_choice_is_that_of_training(root: Path, run: Path) -> None:
    assert load_model(run).decisions.thresholds == {}
    before = sspl.load(run, "cpu", "fp32")
    command("model", "decide", run, "--thresholds", "balanced", "--sure-accuracy", 0.8)
    found, wanted = load_model(run).decisions, load_model(root / "tuned").decisions
    assert len(wanted.thresholds) > 5
    assert len(wanted.unsure) > 5
    assert found.thresholds == pytest.approx(wanted.thresholds, abs=1e-6)
    assert found.unsure.keys() == wanted.unsure.keys()
    for name, band in wanted.unsure.items():
        assert found.unsure[name] == pytest.approx(band, abs=1e-6)
    pictures = [Image.open(p) for p in sorted((root / "faces/img_align_celeba").iterdir())[:4]]
    after = sspl.load(run, "cpu", "fp32")
    np.testing.assert_array_equal(
        after.predict(pictures).probabilities, before.predict(pictures).probabilities
    )
    command("model", "decide", run, "--thresholds", "half")
    assert load_model(run).decisions == before.scorer.decisions


def test_evaluations_tell_of_it(run: Path) -> None:
    """They are made anew from the predictions, and are what a new evaluation would say."""
    command("model", "decide", run, "--sure-accuracy", 0.8)
    told = json.loads((run / "evaluation-test.json").read_text())
    text = (run / "evaluation-test.txt").read_text()
    command("evaluate", run, "--resamples", 20)
    assert json.loads((run / "evaluation-test.json").read_text()) == told
    assert (run / "evaluation-test.txt").read_text() == text
    assert told["decisions"]
    command("model", "decide", run, "--thresholds", "half")
    told = json.loads((run / "evaluation-test.json").read_text())
    assert "decisions" not in told
    assert told["intervals"]


def test_a_band_leaves_the_thresholds_as_they_are(run: Path) -> None:
    command("model", "decide", run, "Smiling=0.9")
    assert load_model(run).decisions.thresholds == {"Smiling": 0.9}
    shown = json.loads(command("model", "decide", run, "--sure-accuracy", 0.8, "--json").stdout)
    assert load_model(run).decisions.thresholds == {"Smiling": 0.9}
    assert load_model(run).decisions.unsure
    assert (shown["rule"], shown["given"]) == ("half", {"Smiling": 0.9})


def test_a_band_over_every_answer_is_not_taken(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("model", "decide", run, "--sure-accuracy", 0.8)
    before = (run / "model.safetensors").read_bytes(), (run / "decisions.json").read_bytes()
    # No choice is right often enough where all labels are turned round.
    real = decide_run.labelled_probabilities

    def contrary(*given: Any) -> Any:
        probabilities = real(*given)[1]
        return (probabilities < 0.5).astype(np.int8), probabilities

    monkeypatch.setattr(decide_run, "labelled_probabilities", contrary)
    said = command("model", "decide", run, "--thresholds", "half", "--sure-accuracy", 0.99).stdout
    assert said.startswith("--sure-accuracy 0.99: no attribute has answers")
    assert "decisions stay as they were" in said
    assert (run / "model.safetensors").read_bytes() == before[0]
    assert (run / "decisions.json").read_bytes() == before[1]


def test_predict_says_how_many_answers_are_not_sure(root: Path, run: Path) -> None:
    model = load_model(run)
    save_decisions(run, model, Decisions(unsure={"Smiling": (0.0, 1.0)}))
    picture = next((root / "faces" / "img_align_celeba").iterdir())
    shown = command("predict", run, picture, "--out", run / "found.csv").stdout
    answers = len(model.schema)
    assert shown == f"1 face in {run / 'found.csv'}; 1 of {answers} answers are 'not sure'\n"


def test_thresholds_of_ones_own(run: Path, root: Path) -> None:
    shown = command(
        "model", "decide", run, "Smiling=0.9", "Eyeglasses=0", "--thresholds", "half", "--json"
    ).stdout
    assert load_model(run).decisions.thresholds == {"Smiling": 0.9, "Eyeglasses": 0.0}
    summary = json.loads(shown)
    assert summary["given"] == {"Smiling": 0.9, "Eyeglasses": 0.0}
    assert summary == json.loads((run / "decisions.json").read_text())
    glasses = summary["attributes"]["Eyeglasses"]
    assert (glasses["threshold"], glasses["balanced_accuracy"]) == (0.0, 0.5)
    command("model", "pack", run, "--out", run / "packed")
    card = (run / "packed" / "MODEL_CARD.md").read_text()
    faces = len((run / "validation.txt").read_text().splitlines())
    assert (
        "Given by hand: Eyeglasses, Smiling. The other attributes are there from probability 0.5 "
        f"on (`sspl model decide`, {faces:,} validation faces)."
    ) in card


def test_a_packed_model_is_decided_on_other_faces(run: Path, root: Path) -> None:
    packed = run / "packed"
    command("model", "pack", run, "--out", packed)
    before = (packed / "model.safetensors").read_bytes()
    assert "give labelled faces that it did not learn from" in refused("model", "decide", packed)
    other = ("--data", f"celeba:{root / 'faces'}")
    command("model", "decide", packed, *other)
    assert (packed / "model.safetensors").read_bytes() == before
    config = json.loads((packed / "config.json").read_text())
    assert config["thresholds"] == load_model(packed).decisions.thresholds != {}
    command("model", "decide", run, *other)
    assert load_model(run).decisions == load_model(packed).decisions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Smiling"], "'Smiling': give ATTRIBUTE=THRESHOLD"),
        (["Smiling=2"], "'Smiling=2': give ATTRIBUTE=THRESHOLD"),
        (["Smiling=0.1", "Smiling=0.2"], "'Smiling=0.2': give ATTRIBUTE=THRESHOLD once"),
        (["Beauty=0.5"], "unknown attribute 'Beauty'"),
        (["--split", "val"], "--split: it is for --data"),
        (["--data", "FACES", "--split", "test"], "chosen on test faces cannot be tested"),
        (["--data", "FACES", "--split", "train"], "the model learnt from some of these faces"),
        (["--data", "FACES", "--split", "all"], "the model learnt from some of these faces"),
    ],
)
def test_refusals_leave_the_model_as_it_is(
    run: Path, root: Path, arguments: list[str], message: str
) -> None:
    before = (run / "model.safetensors").read_bytes()
    given = [a.replace("FACES", f"celeba:{root / 'faces'}") for a in arguments]
    assert message in refused("model", "decide", run, *given)
    assert (run / "model.safetensors").read_bytes() == before
