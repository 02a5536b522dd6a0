"""Thresholds and bands of "not sure", by hand; and that a run keeps, uses and judges them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from shared import refused
from shared import sspl as command
from sspl.data.records import MISSING
from sspl.evaluation.decided import decided_lines, decided_summary
from sspl.evaluation.predictions import Predictions
from sspl.models.bundle import load_model
from sspl.models.decisions import Decisions
from sspl.training.deciding import (
    NEVER_SURE,
    ThresholdRule,
    best_threshold,
    choose_decisions,
    unsure_band,
)


@pytest.mark.parametrize(
    ("rule", "probabilities", "truth", "wanted"),
    [
        # Only yes from 0.25 on: everything right between 0.2 and 0.3.
        ("balanced", [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25),
        ("f1", [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25),
        ("half", [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.5),
        # 0.25 finds both yes with 3 of 6 false alarms (0.75), 0.7 one yes with none (0.75); 0.7 is
        # nearer to 0.5.
        ("balanced", [0.1, 0.2, 0.2, 0.3, 0.4, 0.55, 0.6, 0.8], [0, 0, 0, 1, 0, 0, 0, 1], 0.7),
        # F1 at 0.15, 0.3, 0.5 and 0.7: 6 / 7, 2 / 3, 4 / 5 and 1 / 2.
        ("f1", [0.1, 0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1, 1], 0.15),
        # Equal worth everywhere: 0.5 itself.
        ("balanced", [0.3, 0.3, 0.6, 0.6], [0, 1, 0, 1], 0.5),
    ],
)
def test_threshold_by_hand(
    rule: ThresholdRule, probabilities: list[float], truth: list[int], wanted: float
) -> None:
    found = best_threshold(np.array(probabilities), np.array(truth) == 1, rule)
    assert found == pytest.approx(wanted)


def test_threshold_is_the_best_of_all_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.random(60) < 0.2
        probabilities = expit(rng.normal(-2 + 2 * truth, 1.0)).round(2)

        def balanced(t: float, p: np.ndarray = probabilities, y: np.ndarray = truth) -> float:
            return float(((p[y] >= t).mean() + (p[~y] < t).mean()) / 2)

        found = best_threshold(probabilities, truth, "balanced")
        best = max(balanced(t) for t in np.linspace(0, 1.01, 2021))
        assert balanced(found) == pytest.approx(best)


def at(*logits: float) -> np.ndarray:
    return expit(np.array(logits))


def test_band_by_hand() -> None:
    """Twelve faces about 0.5: wrong are those at logits 0.2, -0.3 and 1."""
    probabilities = at(0.1, 0.2, -0.3, 0.4, -0.5, 0.6, -0.7, 1.0, 1.1, -1.2, 1.3, -2.0)
    truth = probabilities >= 0.5
    truth[[1, 2, 7]] ^= True
    # All: 9 of 12 right. Without those nearer than 0.3: 8 of 10. Nearer than 0.4 leaves 9 faces,
    # too few to say.
    assert unsure_band(probabilities, truth, 0.5, 0.75) is None
    band = unsure_band(probabilities, truth, 0.5, 0.8)
    assert band == pytest.approx((float(expit(-0.3)), float(expit(0.3))))
    assert unsure_band(probabilities, truth, 0.5, 0.85) == NEVER_SURE
    _, unsure = Decisions(unsure={"x": band}).decide(("x",), probabilities[:, None])
    assert unsure[:, 0].tolist() == [True, True] + [False] * 10


def test_band_about_a_low_threshold_is_even_in_logits() -> None:
    """Threshold at logit -2; the face at -2.5 is wrong, and so are all nearer ones."""
    probabilities = at(-2.1, -2.5, *np.linspace(-1, 3, 20))
    truth = np.append([True, True], np.ones(20, bool))
    band = unsure_band(probabilities, truth, float(expit(-2)), 1.0)
    assert band == pytest.approx((float(expit(-3)), float(expit(-1))))


def test_faces_equally_far_are_decided_or_not_together() -> None:
    probabilities = at(*[0.5] * 6, *[2.0] * 12)
    truth = np.array([True, False, False, False, True, True] + [True] * 12)
    band = unsure_band(probabilities, truth, 0.5, 0.95)
    assert band == pytest.approx((float(expit(-2)), float(expit(2))))


def test_too_few_faces_say_nothing() -> None:
    assert unsure_band(at(*range(1, 10)), np.ones(9, bool), 0.5, 0.9) == NEVER_SURE


def test_missing_labels_and_rare_attributes() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((200, 3)) < 0.3
    probabilities = expit(rng.normal(-1.5 + 2 * truth, 0.7))
    labels = truth.astype(np.int8)
    labels[:, 1] = 0
    labels[:9, 1] = 1
    hidden = rng.random(200) < 0.4
    labels[hidden, 2] = MISSING
    probabilities[hidden, 2] = 0.99
    found = choose_decisions(("a", "b", "c"), probabilities, labels, "balanced", None)
    assert set(found.thresholds) == {"a", "c"}
    seen = ~hidden
    assert found.thresholds["c"] == best_threshold(
        probabilities[seen, 2], truth[seen, 2], "balanced"
    )
    assert found.unsure == {}
    assert choose_decisions(("a", "b", "c"), probabilities, labels, "half", None) == Decisions()


def test_worth_of_decisions_by_hand() -> None:
    labels = np.array([[1], [1], [0], [0], [MISSING]], np.int8)
    probabilities = np.array([[0.9], [0.35], [0.45], [0.1], [0.5]], np.float32)
    predictions = Predictions(tuple("abcde"), ("x",), labels, probabilities)
    decisions = Decisions(thresholds={"x": 0.3}, unsure={"x": (0.2, 0.4)})
    (found,) = decided_summary(predictions, decisions).values()
    assert found == {
        "threshold": 0.3,
        "band": (0.2, 0.4),
        "accuracy": 0.75,
        "balanced_accuracy": 0.75,
        "unsure": 0.25,
        "sure_accuracy": pytest.approx(2 / 3),
    }
    lines = decided_lines({"x": found})
    assert lines[1].split() == ["x", "30.00", "75.00", "75.00", "25.00", "66.67"]
    all_unsure = Decisions(unsure={"x": (0.0, 1.0)})
    assert decided_summary(predictions, all_unsure)["x"]["sure_accuracy"] is None


def test_a_run_keeps_what_it_chose_and_every_command_uses_it(tmp_path: Path) -> None:
    command("data", "synthetic", tmp_path / "faces", "--count", 120, "--seed", 3, "--size", 48)
    lines = (tmp_path / "faces" / "list_attr_celeba.txt").read_text().splitlines()[1:]
    chosen = [0, *(1 + lines[0].split().index(n) for n in ("Smiling", "Wearing_Lipstick"))]
    cells = [("image " + lines[0]).split(), *(line.split() for line in lines[1:])]
    table = "".join(",".join(row[i] for i in chosen) + "\n" for row in cells)
    (tmp_path / "labels.csv").write_text(table)
    pictures = tmp_path / "faces" / "img_align_celeba"
    run, data = tmp_path / "fine", f"csv:{tmp_path / 'labels.csv'},images={pictures}"
    command(
        "finetune",
        "--preset",
        "demo",
        "--data",
        data,
        "--from",
        "none",
        "--out",
        run,
        "canvas=40",
        "input_size=32",
        "backbone.width=0.125",
        "backbone.stem_stride=2",
        "optim.batch_size=16",
        "runtime.precision=fp32",
        "optim.epochs=2",
        "thresholds=balanced",
        "sure_accuracy=0.9",
        "labels.val_fraction=0.5",
    )
    model = load_model(run)
    assert model.decisions.thresholds
    assert model.decisions.unsure
    counts = json.loads((run / "metrics.json").read_text())["label_counts"]
    assert list(counts) == list(model.schema.names)
    assert "acc sure" in command("evaluate", run, "--split", "all", "--resamples", 0).output
    summary = json.loads((run / "evaluation-all.json").read_text())["decisions"]
    out = tmp_path / "p.csv"
    command("predict", run, pictures, "--out", out)
    rows = list(csv.DictReader(out.open()))
    thresholds = model.decisions.threshold_array(model.schema.names)
    for name, threshold in zip(model.schema.names, thresholds, strict=True):
        assert summary[name]["threshold"] == threshold
        low, high = model.decisions.unsure.get(name, (0.0, 0.0))
        for row in rows:
            p = float(row[f"{name}_probability"])
            # Four digits are written.
            if min(abs(p - end) for end in (threshold, low, high)) > 1e-4:
                wanted = "" if low < p < high else str(int(p >= threshold))
                assert row[name] == wanted


def test_settings_out_of_range_are_named(tmp_path: Path) -> None:
    arguments = ("finetune", "--from", "none", "--out", tmp_path / "x", "--data", "folder:nowhere")
    assert "sure_accuracy" in refused(*arguments, "sure_accuracy=0.5")
    assert "'half', 'balanced' or 'f1'" in refused(*arguments, "thresholds=best")
