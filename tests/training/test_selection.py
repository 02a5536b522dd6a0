"""Which epoch is kept, by which figure, and what cannot be learnt or judged."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared import refused, sspl
from sspl.data.records import MISSING, FaceSet
from sspl.domain.attributes import AttributeSchema
from sspl.errors import DataError
from sspl.io.run_files import STATE_FILE
from sspl.io.weights import read_tensors
from sspl.models.bundle import load_model
from sspl.training.partition import Partition
from sspl.training.selection import Selection, selection, validation_loss
from sspl.training.stage_settings import FinetuneSettings

BY_ACCURACY = Selection("accuracy", "as the settings say", {})


def row(epoch: int, accuracy: float | None, loss: float = 1.0, ap: float = 0.5) -> dict[str, Any]:
    figures = {"accuracy": accuracy, "loss": loss, "average_precision": ap}
    return {"epoch": epoch} | {f"val/{name}": value for name, value in figures.items()}


@pytest.mark.parametrize(
    ("rows", "kept", "since_gain"),
    [
        ([row(1, 0.8), row(2, 0.9), row(3, 0.7)], 2, 1),
        ([row(1, 0.9, 0.7), row(2, 0.9, 0.5), row(3, 0.9, 0.6)], 2, 1),
        ([row(1, 0.9, 0.5, 0.3), row(2, 0.9, 0.5, 0.4), row(3, 0.9, 0.6, 0.9)], 2, 1),
        # Wholly equal: the latest is kept, and yet nothing was gained.
        ([row(1, 0.9), row(2, 0.9), row(3, 0.9)], 3, 2),
        # 0.1 + 0.2 and 0.3 are the same figure, added up in another order.
        ([row(1, 0.1 + 0.2, 0.9), row(2, 0.3, 0.8)], 2, 0),
        ([row(1, None), {"epoch": 2}, row(3, 0.1)], 3, 0),
        # The log of an early version has no loss.
        ([{"epoch": 1, "val/accuracy": 0.5}, {"epoch": 2, "val/accuracy": 0.4}], 1, 1),
        ([{"epoch": 1}], None, 0),
    ],
)
def test_ties_go_to_the_loss_then_to_average_precision(
    rows: list[dict[str, Any]], kept: int | None, since_gain: int
) -> None:
    best = BY_ACCURACY.best(rows)
    assert (best and best["epoch"]) == kept
    assert BY_ACCURACY.looks_since_gain(rows) == since_gain


def test_the_choice_is_said_in_words() -> None:
    rows = [row(1, 0.95, 0.3), row(2, 0.95, 0.2), row(3, 0.5)]
    assert BY_ACCURACY.text(rows, 4) == (
        "Epoch 2 of 4 kept: best accuracy (95.00 %) on the validation faces; 2 epochs are equal in "
        "it, and of those it has the least validation loss. Chosen by accuracy as the settings say."
    )
    assert "equal" not in BY_ACCURACY.text(rows[1:], 4)
    assert BY_ACCURACY.text([], 4) == ""


def test_validation_loss_is_that_of_torch() -> None:
    logits = np.array([[2.0, -1.0], [30.0, 0.5], [-3.0, 4.0]], np.float32)
    labels = np.array([[1, 0], [0, MISSING], [MISSING, 1]], np.int8)
    known = torch.from_numpy(labels != MISSING)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits)[known], torch.from_numpy(labels)[known].float()
    )
    assert validation_loss(logits, labels) == pytest.approx(float(expected))


def part(*columns: tuple[int, int]) -> FaceSet:
    """Faces of which so many say yes and so many no, attribute by attribute."""
    count = max(yes + no for yes, no in columns)
    labels = np.full((count, len(columns)), MISSING, np.int8)
    for i, (yes, no) in enumerate(columns):
        labels[:yes, i], labels[yes : yes + no, i] = 1, 0
    names = tuple(f"{i}.png" for i in range(count))
    schema = AttributeSchema(tuple("abcd"[: len(columns)]), ("whole",) * len(columns))
    nothing = (None,) * count
    return FaceSet("faces.csv", schema, names, tuple(map(Path, names)), nothing, nothing, labels)


MANY = (50, 50)


@pytest.mark.parametrize(
    ("train", "val", "figure"),
    [
        ((MANY,), (MANY,), "accuracy"),
        (((9, 91),), (MANY,), "average_precision"),
        (((10, 91),), (MANY,), "accuracy"),
        (((91, 9),), (MANY,), "average_precision"),
        ((MANY,), ((9, 9),), "average_precision"),
        ((MANY,), ((10, 10),), "accuracy"),
        ((MANY,), ((19, 181),), "average_precision"),
        ((MANY,), ((20, 180),), "accuracy"),
        ((MANY,) * 3, (MANY, MANY, (2, 2)), "accuracy"),
        ((MANY,) * 4, (MANY, MANY, (2, 2), (2, 2)), "average_precision"),
        # What cannot be judged has no say.
        ((MANY,) * 3, (MANY, (0, 90), (0, 90)), "accuracy"),
    ],
)
def test_average_precision_decides_where_most_attributes_are_rare(
    train: tuple[tuple[int, int], ...], val: tuple[tuple[int, int], ...], figure: str
) -> None:
    parts = Partition(part(*train), part(*val), part((0, 0)))
    assert selection(FinetuneSettings(), parts).figure == figure
    given = FinetuneSettings(select_by="balanced_accuracy")
    assert selection(given, parts).figure == "balanced_accuracy"


def test_the_last_epoch_whatever_the_figures() -> None:
    by = selection(FinetuneSettings(select_by="last"), Partition(*[part(MANY)] * 3))
    rows = [row(1, 0.9), row(2, 0.8), {"epoch": 3}]
    assert by.best(rows[:2]) is rows[1]
    assert by.best(rows) is rows[2]
    assert by.looks_since_gain(rows) == 0
    assert by.text(rows, 3) == "Epoch 3 of 3 kept: the latest, as the settings say."
    # Without validation faces the labelled ones alone say what can be judged.
    parts = Partition(part(MANY, (9, 0)), part((0, 0), (0, 0)), part((0, 0)))
    assert selection(FinetuneSettings(select_by="last"), parts).left_out == {
        "b": "no negative among the labelled faces"
    }


def test_nothing_to_select_by_is_refused() -> None:
    parts = Partition(part(MANY, (0, 9)), part((4, 0), MANY), part((0, 0)))
    with pytest.raises(DataError, match=r"faces\.csv: .* no negative among the validation"):
        selection(FinetuneSettings(), parts)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("selection") / "faces"
    sspl("data", "synthetic", out, "--count", 30, "--seed", 1, "--size", 32)
    return out / "img_align_celeba"


def spec(faces: Path, file: Path, labels: dict[str, tuple[str, str, str]]) -> str:
    """Write labels: for each attribute what faces of train, val and test say, in turn."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "split", *labels))
        for i in range(30):
            where = i // 10
            patterns = [of[where] for of in labels.values()]
            said = ["" if p == "?" else p[i % len(p)] for p in patterns]
            writer.writerow((f"{i + 1:06d}.jpg", ("train", "val", "test")[where], *said))
    return f"csv:{file},images={faces}"


TINY = (
    "--preset", "demo", "--from", "none", "canvas=32", "input_size=32", "backbone.width=0.05",
    "backbone.stem_stride=2", "head.pooling=average", "optim.epochs=2", "evaluate_every=1",
)  # fmt: skip


@pytest.mark.parametrize("labels", [("01", "?", "01"), ("?", "01", "01"), ("0", "01", "01")])
def test_labels_that_teach_or_judge_nothing_are_refused_before_any_work(
    labels: tuple[str, str, str], faces: Path, tmp_path: Path
) -> None:
    data = spec(faces, tmp_path / "labels.csv", {"Smiling": labels})
    sentence = refused("finetune", *TINY, "--data", data, "--out", tmp_path / "run", "patience=1")
    assert "nothing to learn and to select by" in sentence
    assert "Smiling" in sentence
    assert not (tmp_path / "run").exists()


def test_attributes_of_one_kind_are_named_and_in_no_mean(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {
        "Smiling": ("01", "01", "01"),
        "Bald": ("0", "01", "01"),
        "Young": ("01", "1", "01"),
        "Blurry": ("01", "01", "?"),
    }
    data, run = spec(faces, tmp_path / "labels.csv", labels), tmp_path / "run"
    checked = sspl("data", "check", data).output
    for line in ("faces of split train: Bald:", "no negative among the faces of split val: Young:"):
        assert line in checked
    assert "no label among the faces of split test: Blurry:" in checked
    with caplog.at_level(logging.INFO):
        sspl("finetune", *TINY, "--data", data, "--out", run)
    said = (
        "Means are over 2 of 4 attributes, left out are: no positive among the labelled faces: "
        "Bald; no negative among the validation faces: Young."
    )
    assert said in caplog.text
    assert "epoch 2/2: loss" in caplog.text
    summary = json.loads((run / "metrics.json").read_text())
    assert summary["left_out"].keys() == {"Bald", "Young"}
    assert summary["selected_by"] == "average_precision"
    assert summary["kept"] in caplog.text
    assert f"Epoch {summary['best']['epoch']} of 2 kept" in summary["kept"]
    found = sspl("evaluate", run, "--split", "test", "--resamples", 50).output
    judged = "left out are: no positive among the labelled faces: Bald; no label among the faces "
    assert judged + "judged: Blurry." in found.replace("\n", " ")
    evaluation = json.loads((run / "evaluation-test.json").read_text())
    each = evaluation["attributes"]
    mean = (each["Smiling"]["average_precision"] + each["Young"]["average_precision"]) / 2
    assert evaluation["mean"]["average_precision"] == pytest.approx(mean)
    sspl("report", run, "--out", tmp_path / "report.html")
    sspl("model", "pack", run, "--out", tmp_path / "model")
    for file in (tmp_path / "report.html", tmp_path / "model" / "MODEL_CARD.md"):
        text = file.read_text()
        assert said in text
        assert judged in text
        assert summary["kept"] in text
    sspl("model", "pack", tmp_path / "model", "--out", tmp_path / "again")
    assert summary["kept"] in (tmp_path / "again" / "MODEL_CARD.md").read_text()


def test_all_labels_are_learnt_from_and_the_last_epoch_is_kept(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The paper's LFWA has no validation part; thresholds and temperatures stay as they are."""
    labels = {"Smiling": ("01", "01", "01")}
    data, run = spec(faces, tmp_path / "labels.csv", labels), tmp_path / "run"
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace(",val,", ",train,"))
    how = ("labels.val_fraction=0", "select_by=last", "optim.epochs=3", "evaluate_every=2")
    with caplog.at_level(logging.INFO):
        sspl("finetune", *TINY, "--data", data, "--out", run, *how)
    summary = json.loads((run / "metrics.json").read_text())
    assert (summary["labelled"], summary["validation"], summary["best"]["epoch"]) == (20, 0, 3)
    assert (summary["selected_by"], summary["one_answer"]) == ("last", [])
    assert "Epoch 3 of 3 kept: the latest, as the settings say." in caplog.text
    assert (run / "validation.txt").read_text() == ""
    model = load_model(run)
    state, _ = read_tensors(run / STATE_FILE)
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, state[f"network.network.{name}"])
    assert model.temperatures.tolist() == [1.0]
    sspl("evaluate", run, "--split", "test", "--resamples", 0)
    sspl("report", run, "--out", tmp_path / "report.html")
    assert "0, the last epoch is kept" in (tmp_path / "report.html").read_text()
    sspl("model", "pack", run, "--out", tmp_path / "model")
    assert "- 20 labelled faces.\n" in (tmp_path / "model" / "MODEL_CARD.md").read_text()
    sentence = refused("model", "decide", run, "--sure-accuracy", 0.9)
    assert "does not say which faces it was selected on" in sentence


def test_a_network_that_tells_no_face_from_another_gets_a_sentence(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = spec(faces, tmp_path / "labels.csv", {"Bald": ("0000100000", "01", "01")})
    with caplog.at_level(logging.INFO):
        sspl("finetune", *TINY, "--data", data, "--out", tmp_path / "run", "optim.lr=0.000001")
    sentence = "same answer, no better than always the commoner one, on every attribute: Bald."
    assert sentence in caplog.text
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["one_answer"] == ["Bald"]
    assert sentence in sspl("evaluate", tmp_path / "run", "--resamples", 0).output
