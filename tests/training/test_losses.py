"""Losses by hand: missing labels, class weights, Dice."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from sspl.data.records import MISSING
from sspl.domain.taxonomy import UNKNOWN
from sspl.optim.averaging import averaged_model
from sspl.parsing.parser_settings import ParserSettings
from sspl.parsing.training import class_weights, dice_loss, parser_loss
from sspl.training.attribute_network import initialise_bias, log_odds
from sspl.training.loss_settings import LossSettings
from sspl.training.losses import attribute_loss, masked_bce


def log_loss(logit: float, label: int) -> float:
    return math.log1p(math.exp(-logit if label else logit))


def test_masked_bce_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, -2.0, 0.5]])
    labels = torch.tensor([[1, 0, MISSING], [MISSING, 1, 0]], dtype=torch.int8)
    expected = (log_loss(0, 1) + log_loss(2, 0) + log_loss(-2, 1) + log_loss(0.5, 0)) / 4
    assert float(masked_bce(logits, labels)) == pytest.approx(expected, rel=1e-6)


@given(
    labels=hnp.arrays(np.int8, (5, 4), elements=st.sampled_from([0, 1, MISSING])),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_missing_labels_have_no_part_in_loss_or_gradient(labels: np.ndarray, seed: int) -> None:
    known = torch.from_numpy(labels) != MISSING
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    loss = masked_bce(logits, torch.from_numpy(labels))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, known)
    if known.any():
        # d/dz = (sigmoid(z) - y) / known
        truth = torch.from_numpy(labels).float()
        expected = (logits.detach().sigmoid() - truth)[known] / known.sum()
        torch.testing.assert_close(logits.grad[known], expected)
        values = [
            log_loss(z, int(y))
            for z, y in zip(logits[known].tolist(), truth[known].tolist(), strict=True)
        ]
        assert float(loss.detach()) == pytest.approx(sum(values) / len(values), rel=1e-5)


LOGITS = torch.tensor([[0.0, 2.0, -1.0], [3.0, -2.0, 0.5]])
LABELS = torch.tensor([[1, 0, MISSING], [MISSING, 1, 0]], dtype=torch.int8)
KNOWN = [(0.0, 1, 0), (2.0, 0, 1), (-2.0, 1, 1), (0.5, 0, 2)]
"""Logit, label and attribute of each known label above."""


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def chosen_loss(name: str, **changes: float) -> float:
    chosen = LossSettings(name=name, **changes)  # type: ignore[arg-type]
    return float(attribute_loss(LOGITS, LABELS, torch.tensor([0.1, -1.0, 2.0]), chosen))


def test_the_papers_loss_takes_labels_as_they_are() -> None:
    expected = [log_loss(z, y) for z, y, _ in KNOWN]
    assert chosen_loss("bce") == pytest.approx(sum(expected) / 4, rel=1e-6)
    # Neither another loss's settings nor the shares of the attributes have a say.
    assert chosen_loss("bce", belief=0.5, adjustment=3) == chosen_loss("bce")


def test_groups_are_averaged_by_themselves_and_added_up() -> None:
    """The reference's loss of `splnet`: a mean for the attributes of each region."""
    groups = [(1,), (2, 0)]
    losses = [(a, log_loss(z, y)) for z, y, a in KNOWN]
    second, others = ([x for a, x in losses if (a == 1) == alone] for alone in (True, False))
    odds = torch.tensor([0.1, -1.0, 2.0])
    found = attribute_loss(LOGITS, LABELS, odds, LossSettings(), groups)
    assert float(found) == pytest.approx(sum(second) / 2 + sum(others) / 2, rel=1e-6)
    # Each group keeps the log-odds of its own attributes.
    adjusted = [(a, log_loss(z + odds[a].item(), y)) for z, y, a in KNOWN]
    second, others = ([x for a, x in adjusted if (a == 1) == alone] for alone in (True, False))
    chosen = LossSettings(name="logit_adjusted")
    found = attribute_loss(LOGITS, LABELS, odds, chosen, groups)
    assert float(found) == pytest.approx(sum(second) / 2 + sum(others) / 2, rel=1e-6)
    # A group without a known label adds nothing.
    none = torch.where(torch.tensor([False, True, False]), MISSING, LABELS)
    found = attribute_loss(LOGITS, none, odds, LossSettings(), groups)
    expected = [x for a, x in losses if a != 1]
    assert float(found) == pytest.approx(sum(expected) / len(expected), rel=1e-6)


def test_logit_adjusted_loss_by_hand() -> None:
    odds = [0.1, -1.0, 2.0]
    expected = [log_loss(z + 0.5 * odds[a], y) for z, y, a in KNOWN]
    assert chosen_loss("logit_adjusted", adjustment=0.5) == pytest.approx(sum(expected) / 4)


def test_asymmetric_loss_by_hand() -> None:
    expected = []
    for z, y, _ in KNOWN:
        p = sigmoid(z)
        shifted = max(p - 0.1, 0)
        expected.append(-math.log(p) * (1 - p) ** 0.5 if y else -math.log(1 - shifted) * shifted**3)
    loss = chosen_loss("asymmetric", gamma_positive=0.5, gamma_negative=3, margin=0.1)
    assert loss == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_asymmetric_loss_without_its_terms_is_cross_entropy() -> None:
    plain = chosen_loss("asymmetric", gamma_positive=0, gamma_negative=0, margin=0)
    assert plain == pytest.approx(float(masked_bce(LOGITS, LABELS)), rel=1e-5)


def asymmetric_of_no(logit: float, **changes: float) -> tuple[float, float]:
    """Loss and gradient of one negative label at a logit."""
    logits = torch.tensor([[logit]], requires_grad=True)
    chosen = LossSettings(name="asymmetric", **changes)  # type: ignore[arg-type]
    no = torch.tensor([[0]], dtype=torch.int8)
    loss = attribute_loss(logits, no, torch.zeros(1), chosen)
    loss.backward()
    assert logits.grad is not None
    return loss.item(), logits.grad.item()


def test_negatives_below_the_margin_are_free() -> None:
    # Probability 0.018 is below 0.05; 0.119 is 0.069 above it.
    assert asymmetric_of_no(-4.0, margin=0.05, gamma_negative=3) == (0, 0)
    loss, gradient = asymmetric_of_no(-2.0, margin=0.05, gamma_negative=3)
    shifted = sigmoid(-2.0) - 0.05
    assert loss == pytest.approx(-math.log(1 - shifted) * shifted**3, rel=1e-5)
    assert gradient > 0


def test_a_negative_that_is_surely_taken_for_a_positive_has_a_finite_loss() -> None:
    # A probability of 1 counts as 1 - 1e-6, which in float32 is 1 - 1.01e-6.
    loss, _ = asymmetric_of_no(100.0, margin=0, gamma_negative=2)
    assert loss == pytest.approx(-math.log(1e-6), rel=2e-3)


def test_the_networks_own_opinion_is_no_target_to_move() -> None:
    logits = LOGITS.clone().requires_grad_()
    chosen = LossSettings(name="bootstrap", belief=0.8)
    attribute_loss(logits, LABELS, torch.zeros(3), chosen).backward()
    assert logits.grad is not None
    # sigmoid(z) - (0.8 y + 0.2 sigmoid(z)), over four known labels; z as in `LOGITS`.
    cases = [(0.0, 1, (0, 0)), (2.0, 0, (0, 1)), (-2.0, 1, (1, 1)), (0.5, 0, (1, 2))]
    for z, y, place in cases:
        assert logits.grad[place].item() == pytest.approx(0.8 * (sigmoid(z) - y) / 4, rel=1e-5)


def test_bootstrap_loss_by_hand() -> None:
    expected = []
    for z, y, _ in KNOWN:
        p = sigmoid(z)
        q = 0.8 * y + 0.2 * p
        expected.append(-q * math.log(p) - (1 - q) * math.log(1 - p))
    assert chosen_loss("bootstrap", belief=0.8) == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_no_label_at_all_is_no_loss() -> None:
    labels = torch.full((3, 2), MISSING, dtype=torch.int8)
    assert float(masked_bce(torch.randn(3, 2), labels)) == 0.0


def test_head_starts_at_the_log_odds() -> None:
    head = nn.Linear(2, 4)
    initialise_bias(head, log_odds(np.array([0.5, 0.2, 0.0, 1.0])))
    odds = [1, 0.25, 1 / 99, 99]  # 0 and 1 are kept off infinity: 0.01 and 0.99
    assert head.bias.tolist() == pytest.approx([math.log(o) for o in odds], rel=1e-4, abs=1e-6)


def test_class_weights_by_hand() -> None:
    # 64, 16 and 1 px, one class absent, 19 px unknown: the median is 16.
    mask = torch.tensor([0] * 64 + [1] * 16 + [3] * 1 + [UNKNOWN] * 19, dtype=torch.uint8)
    mask = mask.view(1, 10, 10)
    assert class_weights(mask, 5, 0.5).tolist() == pytest.approx([0.5, 1, 1, 4, 1])
    assert class_weights(mask, 5, 0.0).tolist() == [1] * 5
    # Power 1 would give 0.25 and 16; the largest weight is 5.
    assert class_weights(mask, 5, 1.0).tolist() == pytest.approx([0.25, 1, 1, 5, 1])
    mask = torch.tensor([0] * 90 + [1] * 5 + [2] * 5, dtype=torch.uint8).view(1, 10, 10)
    assert class_weights(mask, 3, 1.0).tolist() == pytest.approx([0.2, 1, 1])


def one_hot(ids: Tensor, classes: int, strength: float = 50.0) -> Tensor:
    return nn.functional.one_hot(ids, classes).permute(0, 3, 1, 2) * strength


def test_dice_of_a_perfect_and_of_a_disjoint_prediction() -> None:
    target = torch.tensor([[[0, 0], [1, 1]], [[1, 1], [1, 0]]])  # 3 and 5 px
    assert float(dice_loss(one_hot(target, 3), target)) == pytest.approx(0, abs=1e-6)
    # All wrong: overlap 0, sizes 3 + 5, so 1 - 1 / 9 for both classes.
    assert float(dice_loss(one_hot(1 - target, 3), target)) == pytest.approx(8 / 9, abs=1e-6)


def test_dice_by_hand() -> None:
    target = torch.tensor([[[0, 1]]])
    # Class 0: probabilities 0.75 and 0.5, overlap 0.75, size 1.25 + 1;
    # class 1: 0.25 and 0.5, overlap 0.5, size 0.75 + 1.
    logits = torch.log(torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]]))
    expected = ((1 - 2.5 / 3.25) + (1 - 2.0 / 2.75)) / 2
    assert float(dice_loss(logits, target)) == pytest.approx(expected, rel=1e-6)


def test_dice_leaves_unknown_pixels_out() -> None:
    target = torch.tensor([[[0, 1, UNKNOWN, UNKNOWN]]])
    logits = torch.randn(1, 2, 1, 4, requires_grad=True)
    loss = dice_loss(logits, target)
    loss.backward()
    assert logits.grad is not None
    assert float(logits.grad[..., 2:].abs().max()) == 0
    assert float(logits.grad[..., :2].abs().min()) > 0
    alone = dice_loss(logits[..., :2], target[..., :2])
    assert loss.item() == pytest.approx(alone.item())


def test_dice_without_a_known_pixel_is_finite() -> None:
    target = torch.full((1, 2, 2), UNKNOWN)
    assert torch.isfinite(dice_loss(torch.randn(1, 3, 2, 2), target))


def test_parser_loss_is_the_weighted_sum_of_its_parts() -> None:
    # Main head without opinion on 2 classes, two boosters likewise: every cross-entropy is ln 2.
    outputs = [torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 1, 1)]
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[:, :, 4:] = 1
    chosen = ParserSettings(dice_weight=2.0, booster_weight=0.25)
    # Dice at half resolution (16 px): overlap 4, sizes 8 + 8.
    dice = 1 - 9 / 17
    expected = math.log(2) * (1 + 2 * 0.25) + 2.0 * dice
    loss = parser_loss(outputs, target, torch.ones(2), chosen)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_warmed_average_forgets_its_start_and_copies_counters() -> None:
    layer = nn.BatchNorm1d(1)
    average = averaged_model(layer, 0.99)
    mean, count = average.module.running_mean, average.module.num_batches_tracked
    for n, value in enumerate([7.0, 1.0, 2.0]):
        layer.running_mean.fill_(value)
        layer.num_batches_tracked.fill_(n)
        average.update_parameters(layer)
        mean.zero_() if n == 0 else None  # the first update is a copy
    # Decays 2/11 and 3/12: 0 -> 9/11, then 9/11 * 1/4 + 2 * 3/4.
    assert mean.item() == pytest.approx(9 / 11 / 4 + 1.5)
    assert (count.item(), int(average.n_averaged)) == (2, 3)
    average.n_averaged.fill_(10_000)
    mean.zero_()
    average.update_parameters(layer)
    assert mean.item() == pytest.approx(0.02)
