"""PCT: pixel counts, the largest classes and the multi-label loss."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared import context
from sspl.domain.taxonomy import UNKNOWN, built_in_taxonomy
from sspl.models.backbones.base import Backbone
from sspl.tasks.base import Views
from sspl.tasks.pct import (
    PatchClassification,
    PCTSettings,
    class_counts,
    classes_above,
    largest_classes,
    positive_classes,
)

NO_BACKBONE: Backbone = None  # type: ignore[assignment]
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


def test_shares_are_each_crops_own() -> None:
    # A tenth of one crop, and of three crops' worth; a single pixel is all of what is known.
    counts = torch.tensor([[9, 1, 0], [27, 1, 2], [0, 0, 1]])
    above = classes_above(counts, 0.06)
    assert above.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert classes_above(counts, 0.6).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert above.dtype == torch.float32


def test_targets_are_made_where_the_masks_are() -> None:
    """The meta device computes nothing, but refuses what lies elsewhere, as a GPU does."""
    counts = class_counts(torch.zeros(2, 4, 4, dtype=torch.uint8, device="meta"), 3)
    assert (counts.shape, counts.device.type) == ((2, 3), "meta")
    assert largest_classes(counts, 2).device.type == "meta"


class Autocast(torch.nn.Linear):
    """A head as it is under autocast: what comes out has half the bits."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features).bfloat16()


@pytest.mark.parametrize(
    ("changes", "positive", "hits"),
    [
        ({"top": 2}, [1, 1, 0, 0, 0, 0], 5),
        ({"rule": "share", "share": 0.4}, [1, 0, 0, 0, 0, 0], 4),  # 3 of 6 known px
    ],
)
def test_loss_and_accuracy_by_hand(
    changes: dict[str, object], positive: list[int], hits: int
) -> None:
    taxonomy = built_in_taxonomy("fasseg6")
    subject = PatchClassification(PCTSettings(**changes), context(2, taxonomy=taxonomy))  # type: ignore[arg-type]
    logits = [2.0, 1.5, -0.5, -3.0, 1.0, 0.0]  # yes, yes, no, no, yes; 0 is a no
    subject.head = Autocast(2, 6)
    with torch.no_grad():
        subject.head.weight.zero_()
        subject.head.bias.copy_(torch.tensor(logits))
    # Classes 0 (3 px), 1 (2 px) and 2 (1 px).
    mask = torch.tensor([[[0, 0, 0], [1, 1, 2], [UNKNOWN] * 3]], dtype=torch.uint8)
    empty = torch.zeros(1, 3, 1, 1)
    maps = [torch.zeros(1, 2, 1, 1)]
    result = subject(NO_BACKBONE, Views(empty, None, empty, mask, torch.Generator()), maps)
    losses = [math.log1p(math.exp(-z if t else z)) for z, t in zip(logits, positive, strict=True)]
    assert float(result.loss.detach()) == pytest.approx(sum(losses) / 6, rel=1e-6)
    assert result.loss.dtype == torch.float32
    assert result.tallies["accuracy"].value() == pytest.approx(hits / 6)
