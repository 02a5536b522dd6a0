"""`benchmarks/stage1.py`: differences of ways of stage 1, seed by seed."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import ttest_rel

from shared import import_file

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def stage1(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_file(FOLDER / "stage1.py")


def test_differences_are_those_of_a_paired_test(stage1: ModuleType) -> None:
    """Three seeds, two label counts, three figures."""
    rng = np.random.default_rng(0)
    first, other = ([rng.random((2, 3)) for _ in range(3)] for _ in range(2))
    one = [first[0] + 0.25]
    found = stage1.differences({"a": first, "b": other, "c": one})
    assert list(found) == ["b", "c"]
    mean, half = found["b"]
    interval = ttest_rel(other, first, axis=0).confidence_interval(0.95)
    assert mean - half == pytest.approx(interval.low)
    assert mean + half == pytest.approx(interval.high)
    mean, half = found["c"]
    assert mean == pytest.approx(np.full((2, 3), 0.25))
    assert half is None


def test_the_table_is_in_percent_with_differences_from_the_first_way(stage1: ModuleType) -> None:
    ways = {
        "pair": [np.array([[0.80, 0.5, 0.4]]), np.array([[0.82, 0.5, 0.4]])],
        "all": [np.array([[0.81, 0.6, 0.4]]), np.array([[0.85, 0.6, 0.4]])],
    }
    title, pair, every = stage1.report(ways, (27,)).splitlines()
    assert title.split()[:3] == ["validation,", "27", "labels"]
    assert pair.split()[:6] == ["pair,", "2", "seeds", "81.00", "+-", "1.00"]
    # Differences of 1 and 3 points: their mean, and 12.706 standard errors of 1 point.
    assert every.split()[3:9] == ["83.00", "+-", "2.00", "(+2.00", "+-", "12.71)"]
