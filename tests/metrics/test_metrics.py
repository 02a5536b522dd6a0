"""Figures of merit against scikit-learn."""

import math
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    jaccard_score,
    roc_auc_score,
)
from sklearn.metrics import (
    confusion_matrix as sklearn_confusion,
)

from sspl.data.records import MISSING
from sspl.domain.taxonomy import UNKNOWN, Taxonomy, built_in_taxonomy
from sspl.metrics import pixels
from sspl.metrics.attributes import (
    AttributeFigures,
    all_figures,
    attribute_figures,
    lacking,
    means,
    one_answer,
    positive_rates,
    remarks,
)
from sspl.metrics.pixels import (
    _count_apart,
    confusion_matrix,
    count_ids,
    intersection_over_union,
    mean_iou,
)
from sspl.metrics.tallies import Confusion, Mean
from sspl.parsing.report import merge_classes, parser_figures

LABELS = hnp.arrays(np.int8, st.integers(4, 40), elements=st.sampled_from([0, 1, MISSING]))
FASSEG = built_in_taxonomy("fasseg6")


def probabilities(n: int, seed: int) -> np.ndarray:
    """Coarse steps, so that ties and exactly 0.5 occur."""
    return np.random.default_rng(seed).integers(0, 9, n).astype(np.float32) / 8


@given(labels=LABELS, seed=st.integers(0, 10_000), rate=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_figures_equal_scikit_learns_on_the_known_labels(
    labels: np.ndarray, seed: int, rate: float
) -> None:
    known = labels != MISSING
    truth, scores = labels[known], probabilities(len(labels), seed)[known]
    assume({0, 1} <= set(truth.tolist()))
    said = (scores >= 0.5).astype(int)
    figures = asdict(attribute_figures("a", labels, probabilities(len(labels), seed), rate))
    del figures["calibration_error"]  # test_calibration.py works it out by hand
    assert figures == {
        "name": "a",
        "positives": int(truth.sum()),
        "negatives": int(len(truth) - truth.sum()),
        "accuracy": pytest.approx(accuracy_score(truth, said)),
        "balanced_accuracy": pytest.approx(balanced_accuracy_score(truth, said)),
        "f1": pytest.approx(f1_score(truth, said, zero_division=0.0)),
        "average_precision": pytest.approx(average_precision_score(truth, scores)),
        "auc": pytest.approx(roc_auc_score(truth, scores)),
        "majority_accuracy": pytest.approx(
            accuracy_score(truth, np.full(len(truth), int(rate >= 0.5)))
        ),
    }


@given(labels=LABELS, seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_scores_of_missing_labels_change_nothing(labels: np.ndarray, seed: int) -> None:
    scores = probabilities(len(labels), seed)
    other = np.where(labels == MISSING, 1 - scores, scores)
    assert attribute_figures("a", labels, scores, 0.3) == attribute_figures("a", labels, other, 0.3)


def figures(labels: list[int], scores: list[float], rate: float = 0.5) -> AttributeFigures:
    return attribute_figures("a", np.array(labels, np.int8), np.array(scores, np.float32), rate)


def test_half_is_yes() -> None:
    assert figures([1, 0], [0.5, 0.4999]).accuracy == 1.0


def test_only_negatives_known() -> None:
    judged = figures([0, 0, MISSING, 0, 0], [0.1, 0.2, 0.9, 0.3, 0.9])
    assert judged.accuracy == 0.75
    undefined = (judged.balanced_accuracy, judged.f1, judged.average_precision, judged.auc)
    assert undefined == (None, None, None, None)
    assert (judged.positives, judged.negatives) == (0, 4)


def test_only_positives_known() -> None:
    judged = figures([1, 1, MISSING], [0.9, 0.2, 0.9])
    assert (judged.accuracy, judged.balanced_accuracy, judged.auc) == (0.5, None, None)
    assert judged.f1 == pytest.approx(2 / 3)
    assert judged.average_precision == 1.0


def test_no_label_known() -> None:
    judged = asdict(figures([MISSING, MISSING], [0.9, 0.2]))
    assert (judged.pop("name"), judged.pop("positives"), judged.pop("negatives")) == ("a", 0, 0)
    assert set(judged.values()) == {None}


def test_positives_never_found_score_zero_f1() -> None:
    assert figures([1, 0, 0], [0.1, 0.2, 0.3]).f1 == 0.0


def test_majority_is_that_of_the_training_labels() -> None:
    # Three of four test faces are positive, whatever the training faces said.
    assert figures([1, 1, 1, 0], [0.1] * 4, rate=0.2).majority_accuracy == 0.25
    assert figures([1, 1, 1, 0], [0.1] * 4, rate=0.8).majority_accuracy == 0.75
    assert figures([1, 1, 1, 0], [0.1] * 4, rate=0.5).majority_accuracy == 0.75


def test_all_figures_keep_columns_apart() -> None:
    labels = np.array([[1, 0], [0, 0], [1, 1]], np.int8)
    scores = np.array([[0.9, 0.9], [0.1, 0.9], [0.9, 0.9]], np.float32)
    judged = all_figures(("x", "y"), labels, scores, np.array([0.9, 0.1]))
    assert [(f.name, f.accuracy) for f in judged] == [("x", 1.0), ("y", pytest.approx(1 / 3))]
    assert [f.majority_accuracy for f in judged] == pytest.approx([2 / 3, 2 / 3])


def test_means_are_over_the_attributes_that_have_both_kinds() -> None:
    judged = [
        figures([1, 0], [0.9, 0.9]),  # accuracy 0.5, balanced 0.5
        replace(figures([1, 0], [0.9, 0.1]), name="b"),  # accuracy 1
        figures([0, 0, 0, 0], [0.1, 0.1, 0.1, 0.9]),  # accuracy 0.75, but no positive
        figures([MISSING], [0.9]),
    ]
    result = means(judged)
    assert result["accuracy"] == pytest.approx(0.75)
    assert result["balanced_accuracy"] == pytest.approx(0.75)
    assert means(judged, {"b"})["accuracy"] == pytest.approx(0.5)
    assert means(judged[2:]) == dict.fromkeys(result)


def test_what_attributes_lack_by_hand() -> None:
    labels = np.array([[1, 0, MISSING, 0], [0, 0, MISSING, MISSING], [1, 0, MISSING, 1]], np.int8)
    assert lacking("abcd", labels) == {"b": "positive", "c": "label"}
    assert lacking("a", labels[:0, :1]) == {"a": "label"}
    assert lacking("a", labels[::2, :1]) == {"a": "negative"}


def test_remarks_say_over_what_means_are_and_which_have_one_answer() -> None:
    summary = {"left_out": {"a": "no x", "b": "no y", "c": "no x"}, "one_answer": ["d"]}
    assert remarks(summary, 5, "faces judged") == [
        "Means are over 2 of 5 attributes, left out are: no x: a, c; no y: b.",
        "The model gives all faces judged the same answer, no better than always the commoner "
        "one, on 1 of 5 attributes: d.",
    ]
    assert "on every attribute: d." in remarks({"one_answer": ["d"]}, 1, "faces")[0]
    assert remarks({}, 5, "faces") == []


def test_one_answer_is_the_same_decision_everywhere() -> None:
    decisions = np.array([[True, False, True], [True, False, False]])
    assert one_answer("abc", decisions) == ["a", "b"]


def test_positive_rates_by_hand() -> None:
    labels = np.full((3, 4), MISSING, np.int8)
    labels[:, 0] = [1, MISSING, 0]
    labels[:, 1] = [0, 0, 1]
    labels[1, 2] = 1  # a single label; of the last attribute none
    assert positive_rates(labels).tolist() == pytest.approx([0.5, 1 / 3, 1, 0])


PIXELS = hnp.arrays(np.uint8, (3, 5, 7), elements=st.sampled_from([0, 1, 2, 3, UNKNOWN]))


@given(target=PIXELS, seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_confusion_and_iou_equal_scikit_learns(target: np.ndarray, seed: int) -> None:
    prediction = np.random.default_rng(seed).integers(0, 4, target.shape).astype(np.uint8)
    known = target != UNKNOWN
    assume(known.any())
    counts = confusion_matrix(torch.from_numpy(target), torch.from_numpy(prediction), 5)
    truth, said = target[known], prediction[known]
    assert counts.tolist() == sklearn_confusion(truth, said, labels=range(5)).tolist()
    seen = sorted({*truth.tolist(), *said.tolist()})
    expected = np.full(5, np.nan)
    expected[seen] = jaccard_score(truth, said, labels=seen, average=None)
    np.testing.assert_allclose(intersection_over_union(counts).numpy(), expected)
    there = sorted(set(truth.tolist()))
    assert mean_iou(counts) == pytest.approx(
        jaccard_score(truth, said, labels=there, average="macro", zero_division=0.0)
    )


@pytest.mark.parametrize("count", [count_ids, _count_apart])
def test_bytes_of_many_classes_are_counted_and_ids_beyond_them_left_out(
    count: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "count_ids", count)
    # 18 * 19 + 17 does not fit in a byte; 19 is the first id that is none of 19 classes.
    target = torch.tensor([[18, 18, 19, UNKNOWN, 0]], dtype=torch.uint8)
    prediction = torch.tensor([[17, 18, 3, 3, 2]], dtype=torch.uint8)
    counts = confusion_matrix(target, prediction, 19)
    assert counts.shape == (19, 19)
    assert {tuple(place): int(counts[tuple(place)]) for place in counts.nonzero().tolist()} == {
        (18, 17): 1,
        (18, 18): 1,
        (0, 2): 1,
    }


def test_iou_by_hand() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    iou = intersection_over_union(counts)
    assert iou.dtype == torch.float64
    assert iou[:2].tolist() == pytest.approx([3 / 4, 2 / 3])
    assert math.isnan(iou[2])
    assert mean_iou(counts) == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_tallies_of_batches_are_the_tally_of_all() -> None:
    mean = Mean()
    assert math.isnan(mean.value())
    mean.add(3, 2)
    mean.merge(Mean(9, 1))
    assert mean.value() == 4
    halves = [torch.tensor([[4, 0], [0, 0]]), torch.tensor([[0, 2], [0, 2]])]
    confusion = Confusion(halves[0])
    confusion.merge(Confusion(halves[1]))
    # Class 0: 4 of 6; class 1: 2 of 4.
    assert confusion.value() == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_merged_classes_add_up() -> None:
    counts = torch.arange(16).view(4, 4)
    # Group {0, 2}, group {3}, the rest {1}.
    assert merge_classes(counts, [[0, 2], [3]]).tolist() == [
        [0 + 2 + 8 + 10, 3 + 11, 1 + 9],
        [12 + 14, 15, 13],
        [4 + 6, 7, 5],
    ]


def test_parser_figures_by_hand() -> None:
    counts = torch.zeros(6, 6, dtype=torch.int64)
    counts[0, 0], counts[0, 1], counts[1, 1], counts[2, 3] = 6, 2, 8, 4
    result = parser_figures(counts, FASSEG)
    assert result["iou"] == {
        "background": 0.75,
        "skin": 0.8,
        "hair": 0.0,
        "eyes": None,
        "nose": None,
        "mouth": None,
    }
    assert result["mean_iou"] == pytest.approx((0.75 + 0.8 + 0) / 3, abs=1e-4)
    assert result["pixel_accuracy"] == 0.7
    assert result["pixel_share"]["hair"] == 0.2
    assert "big_iou" not in result  # no neck, no cloth


def test_big_classes_take_neck_and_cloth_together() -> None:
    taxonomy = built_in_taxonomy("celebamask19")
    counts = torch.diag(torch.full((19,), 10))
    neck, cloth = taxonomy.index("neck"), taxonomy.index("cloth")
    counts[neck, neck], counts[neck, cloth] = 4, 6  # a mistake inside the group
    counts[cloth, 0] = 5  # a mistake across groups
    result = parser_figures(counts, taxonomy)
    assert result["big_iou"]["neck+cloth"] == pytest.approx(20 / 25)
    assert result["big_iou"]["background"] == pytest.approx(10 / 15, abs=1e-4)
    assert result["mean_big_iou"] == pytest.approx((0.8 + 10 / 15 + 3) / 5, abs=1e-4)


def test_big_classes_are_found_in_capital_letters() -> None:
    classes = ("BACKGROUND", "SKIN", "HAIR", "NOSE", "NECK", "CLOTH")
    counts = torch.diag(torch.full((6,), 10))
    assert parser_figures(counts, Taxonomy("loud", classes))["mean_big_iou"] == 1.0


def test_big_class_that_is_nowhere_is_left_out() -> None:
    taxonomy = built_in_taxonomy("celebamask19")
    counts = torch.diag(torch.full((19,), 10))
    counts[taxonomy.index("hair"), taxonomy.index("hair")] = 0
    assert parser_figures(counts, taxonomy)["mean_big_iou"] == 1.0


def test_ids_are_counted_alike_in_many_tables() -> None:
    ids = torch.randint(7, (1000,), generator=torch.Generator().manual_seed(0))
    counts = [int((ids == kind).sum()) for kind in range(9)]
    assert counts[7:] == [0, 0]
    assert count_ids(ids.view(10, 100), 9).tolist() == counts
    assert _count_apart(ids, 9).tolist() == counts
    assert _count_apart(ids[:0], 9).tolist() == [0] * 9


@pytest.mark.parametrize(("device", "apart"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_only_where_a_count_would_wait_many_tables_are_used(
    device: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(pixels, "_count_apart", lambda *each: given.append(each))
    ids = torch.tensor([[2, 0], [2, 1]])
    there: Any = SimpleNamespace(device=SimpleNamespace(type=device), flatten=ids.flatten)
    counts = count_ids(there, 4)
    if apart:
        assert [(flat.tolist(), kinds) for flat, kinds in given] == [([2, 0, 2, 1], 4)]
    else:
        assert (counts.tolist(), given) == ([1, 1, 2, 0], [])


def test_tables_are_where_the_ids_are() -> None:
    ids = torch.empty(5, dtype=torch.int64, device="meta")
    assert _count_apart(ids, 3).device.type == "meta"
