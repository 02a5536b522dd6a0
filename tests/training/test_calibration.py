"""Temperatures and calibration error, against known answers."""

import numpy as np
import pytest
from scipy.special import expit

from sspl.data.records import MISSING
from sspl.metrics.attributes import attribute_figures, expected_calibration_error
from sspl.training.calibration import fit_temperatures


def drawn(sharpness: list[float], n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that overstate the odds by a factor each, and labels drawn from the true odds."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, (n, len(sharpness)))
    labels = (rng.random(true.shape) < expit(true)).astype(np.int8)
    return true * np.array(sharpness), labels


def test_temperature_undoes_overconfidence_and_underconfidence() -> None:
    logits, labels = drawn([3.0, 0.5, 1.0])
    assert fit_temperatures(logits, labels) == pytest.approx([3.0, 0.5, 1.0], rel=0.05)


def test_missing_labels_are_left_out() -> None:
    logits, labels = drawn([2.0, 2.0])
    hidden = np.random.default_rng(1).random(labels.shape) < 0.3
    wrong = logits.copy()
    wrong[hidden] = 50.0
    there = np.where(hidden, MISSING, labels).astype(np.int8)
    assert fit_temperatures(wrong, there) == pytest.approx([2.0, 2.0], rel=0.05)


def test_rare_attribute_takes_the_temperature_of_all() -> None:
    logits, labels = drawn([2.0, 2.0, 2.0], 5000)
    labels[:, 2] = 0
    labels[:5, 2] = 1
    temperatures = fit_temperatures(logits, labels)
    from sspl.training.calibration import fit_temperature

    together = fit_temperature(logits.ravel(), labels.ravel() == 1)
    assert temperatures[2] == pytest.approx(together)
    assert temperatures[0] != pytest.approx(together, rel=1e-3)


def test_without_labels_nothing_changes() -> None:
    labels = np.full((4, 2), MISSING, dtype=np.int8)
    assert fit_temperatures(np.ones((4, 2)), labels).tolist() == [1.0, 1.0]


def test_calibration_error_by_hand() -> None:
    # Bins of 1/15: 0.01 and 0.02 share one, 0.5 stands alone, so do 0.9 and 1.0 (last bin).
    probabilities = np.array([0.01, 0.02, 0.5, 0.9, 1.0])
    truth = np.array([False, True, True, True, False])
    expected = (abs(0.01 + 0.02 - 1) + 0.5 + 0.1 + 1.0) / 5
    assert expected_calibration_error(truth, probabilities) == pytest.approx(expected)
    labels = truth.astype(np.int8)
    assert attribute_figures("x", labels, probabilities, 0.5).calibration_error == pytest.approx(
        expected
    )
