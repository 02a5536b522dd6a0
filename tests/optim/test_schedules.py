"""Learning-rate factors against docs/method.md#optimisation-in-the-reference."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspl.errors import SettingsError
from sspl.optim.optim_settings import OptimSettings
from sspl.optim.schedules import ScheduleSettings, stepwise, warmup_cosine
from sspl.settings import build
from sspl.training.stage_settings import preset

STAGE_1 = [1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1.0] + [0.1] * 4 + [0.01] * 69
STAGE_2 = (
    [1.5 / 7, 3 / 7, 4.5 / 7, 6 / 7, 7.5 / 7, 9 / 7, 1.5]
    + [1.5] * 9 + [0.5] * 20 + [0.15] * 15 + [0.01] * 19
)  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "table", "lr", "decay", "batch"),
    [("pretrain", STAGE_1, 5e-4, 5e-4, 64), ("finetune", STAGE_2, 1e-4, 5e-5, 24)],
)
def test_paper_preset_follows_the_reference_epoch_by_epoch(
    stage: str, table: list[float], lr: float, decay: float, batch: int
) -> None:
    optim = build(OptimSettings, preset("paper-sspl", stage)["optim"])  # type: ignore[arg-type]
    assert (optim.name, optim.lr, optim.weight_decay, optim.batch_size) == (
        "adam",
        lr,
        decay,
        batch,
    )
    assert optim.epochs == len(table)
    for progress in (0.1, 1.0):
        factors = [optim.schedule.factor(e, progress, optim.epochs) for e in range(optim.epochs)]
        assert factors == pytest.approx(table)


def test_steps_by_hand() -> None:
    steps = [(3, 2.0), (5, 1.0)]
    assert [stepwise(e, 2, steps) for e in range(8)] == [1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [stepwise(e, 0, steps) for e in range(4)] == [2.0, 2.0, 2.0, 1.0]


def test_cosine_by_hand() -> None:
    assert warmup_cosine(0.05, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(0.1, 0.1) == 1.0
    assert warmup_cosine(0.55, 0.1) == pytest.approx((1 + 0.001) / 2)
    assert warmup_cosine(0.325, 0.1, 0.0) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert warmup_cosine(1.0, 0.1) == pytest.approx(0.001)
    assert warmup_cosine(0.0, 0.0) == 1.0


@given(warmup=st.floats(0.01, 0.9), steps=st.integers(10, 300))
def test_cosine_rises_to_one_then_falls(warmup: float, steps: int) -> None:
    progress = [(i + 1) / steps for i in range(steps)]
    factors = [warmup_cosine(p, warmup) for p in progress]
    rising = [f for p, f in zip(progress, factors, strict=True) if p < warmup]
    falling = [f for p, f in zip(progress, factors, strict=True) if p >= warmup]
    assert rising == sorted(rising)
    assert all(a > b for a, b in itertools.pairwise(falling))
    assert 0 < min(factors) <= max(factors) <= 1
    assert warmup_cosine(warmup, warmup) == 1.0
    assert warmup_cosine(0, warmup) == 0.001


def test_cosine_schedule_counts_progress_inside_epochs() -> None:
    optim = build(OptimSettings, {"epochs": 10, "schedule": {"warmup_epochs": 2}})
    factor = optim.schedule.factor
    assert factor(0, 0.5, 10) == pytest.approx(0.25)
    assert factor(1, 0.5, 10) == pytest.approx(0.75)
    assert factor(1, 1.0, 10) == 1.0
    assert factor(5, 1.0, 10) == pytest.approx(0.5005)
    assert factor(9, 1.0, 10) == pytest.approx(0.001)


def test_warmup_takes_at_most_half_of_a_short_run() -> None:
    schedule = build(OptimSettings, {"epochs": 2, "schedule": {"warmup_epochs": 5}}).schedule
    assert schedule.factor(0, 0.5, 2) == pytest.approx(0.5)
    assert schedule.factor(1, 0.0, 2) == pytest.approx(1.0)
    assert schedule.factor(1, 1.0, 2) == pytest.approx(0.001)


def test_past_the_end_the_last_factor_stays() -> None:
    assert warmup_cosine(1.5, 0.1) == pytest.approx(0.001)
    assert stepwise(99, 0, ((1, 1.0), (2, 0.5), (3, 0.1))) == 0.1


def test_a_cosine_is_over_the_whole_run_and_needs_no_warmup() -> None:
    assert ScheduleSettings().whole
    assert not ScheduleSettings(steps=((4, 1.0),)).whole
    assert ScheduleSettings().factor(0, 0.0, 4) == 1.0
    assert build(ScheduleSettings, {"warmup_epochs": 0}) == ScheduleSettings()
    with pytest.raises(SettingsError, match="warmup_epochs"):
        build(ScheduleSettings, {"warmup_epochs": -1})
