"""PCT: pixel counts, the largest classes and the multi-label loss."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.models.trunk import Trunk
from sspl.tasks.base import Views
from sspl.tasks.pct import (
    PatchClassification,
    PCTSettings,
    class_counts,
    classes_above,
    largest_classes,
    positive_classes,
)

NO_TRUNK: Trunk = None  # type: ignore[assignment]
MASKS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9),
    elements=st.sampled_from([*range(19), UNKNOWN]),
)


@given(masks=MASKS)
@settings(max_examples=100, deadline=None)
def test_counts_are_those_of_bincount_image_by_image(masks: np.ndarray) -> None:
    counts = class_counts(torch.from_numpy(masks), 19)
    for row, mask in zip(counts, masks, strict=True):
        assert row.tolist() == np.bincount(mask.ravel(), minlength=256)[:19].tolist()


@given(masks=MASKS, top=st.integers(1, 25))
@settings(max_examples=100, deadline=None)
def test_largest_classes_are_those_of_a_sort_by_size_then_id(masks: np.ndarray, top: int) -> None:
    counts = class_counts(torch.from_numpy(masks), 19)
    targets = largest_classes(counts, top)
    for row, target in zip(counts.tolist(), targets.tolist(), strict=True):
        ranked = sorted((i for i in range(19) if row[i]), key=lambda i: (-row[i], i))
        assert target == [float(i in ranked[:top]) for i in range(19)]


@pytest.mark.parametrize(
    ("counts", "top", "expected"),
    [
        ([5, 0, 9, 2], 2, [1, 0, 1, 0]),
        ([5, 0, 9, 2], 3, [1, 0, 1, 1]),
        ([5, 0, 9, 2], 4, [1, 0, 1, 1]),  # the empty class stays 0
        ([4, 4, 4, 4], 2, [1, 1, 0, 0]),  # ties go by id
        ([1, 7, 7, 9], 2, [0, 1, 0, 1]),
        ([0, 0, 3, 0], 3, [0, 0, 1, 0]),
        ([0, 0, 0, 0], 2, [0, 0, 0, 0]),
    ],
)
def test_largest_classes_by_hand(counts: list[int], top: int, expected: list[int]) -> None:
    assert largest_classes(torch.tensor([counts]), top).tolist() == [[float(e) for e in expected]]


def test_ties_among_many_classes_go_by_id() -> None:
    targets = largest_classes(torch.full((4, 200), 7), 9)
    assert targets.nonzero()[:, 1].tolist() == list(range(9)) * 4


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([199, 1, 0], 0.005, [1, 0, 0]),  # 1 of 200 is the share itself, which is not enough
        ([198, 1, 1], 0.0049, [1, 1, 1]),
        ([197, 1, 2], 0.005, [1, 0, 1]),
        ([6, 3, 1], 0.25, [1, 1, 0]),
        ([6, 3, 1], 0.3, [1, 0, 0]),
        ([5, 0, 1], 0.0, [1, 0, 1]),  # an empty class never counts
        ([0, 0, 0], 0.0, [0, 0, 0]),  # nor anything in a crop without a known pixel
    ],
)
def test_classes_above_a_share_by_hand(
    counts: list[int], share: float, expected: list[int]
) -> None:
    assert classes_above(torch.tensor([counts]), share).tolist() == [[float(e) for e in expected]]


def test_share_is_taken_of_the_known_pixels() -> None:
    # 1 of 4 known pixels is class 1; with the 12 unknown ones it would be 1 of 16.
    mask = torch.full((1, 4, 4), UNKNOWN, dtype=torch.uint8)
    mask[0, 0] = torch.tensor([0, 0, 0, 1])
    counts = class_counts(mask, 3)
    assert positive_classes(counts, PCTSettings(rule="share", share=0.2)).tolist() == [[1, 1, 0]]


def test_the_rule_decides() -> None:
    counts = torch.tensor([[500, 300, 150, 46, 4]])
    assert positive_classes(counts, PCTSettings(top=2)).tolist() == [[1, 1, 0, 0, 0]]
    assert positive_classes(counts, PCTSettings(rule="share", top=2)).tolist() == [[1, 1, 1, 1, 0]]


def test_loss_and_accuracy_by_hand() -> None:
    taxonomy = built_in_taxonomy("fasseg6")
    subject = PatchClassification(PCTSettings(top=2), 2, taxonomy)
    with torch.no_grad():
        subject.head.weight.zero_()
        subject.head.bias.copy_(torch.tensor([2.0, -1.0, 0.5, -3.0, 1.0, -0.5]))
    mask = torch.tensor([[[0, 0, 0], [1, 1, 2], [UNKNOWN] * 3]], dtype=torch.uint8)
    empty = torch.zeros(1, 3, 1, 1)
    maps = [torch.zeros(1, 2, 1, 1)]
    result = subject(NO_TRUNK, Views(empty, None, empty, mask, torch.Generator()), maps)
    # Classes 0 (3 px) and 1 (2 px) are positive.
    truths = [1, 1, 0, 0, 0, 0]
    losses = [
        math.log1p(math.exp(-z)) if t else math.log1p(math.exp(z))
        for z, t in zip([2.0, -1.0, 0.5, -3.0, 1.0, -0.5], truths, strict=True)
    ]
    assert float(result.loss.detach()) == pytest.approx(sum(losses) / 6, rel=1e-6)
    assert result.tallies["accuracy"].value() == pytest.approx(3 / 6)
