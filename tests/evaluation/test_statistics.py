"""Intervals, paired differences and subgroup gaps, against counting by hand, SciPy and sklearn."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as given_
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score
from sklearn.metrics import roc_auc_score as auc_score

from shared import refused, sspl
from sspl.errors import DataError, SettingsError
from sspl.evaluation.paired import holm, p_value, paired_summary, verdicts
from sspl.evaluation.predictions import Predictions, save_predictions
from sspl.evaluation.statistics import (
    RESAMPLED,
    Resampling,
    drawn_text,
    interval,
    interval_summary,
    point_figures,
    resampled_figures,
    resampling_of,
)
from sspl.evaluation.subgroups import groupings, is_clear, subgroup_lines, subgroup_summary
from sspl.metrics.attributes import all_figures, reliability
from sspl.metrics.rankings import ranking_figures, ratio


def predictions(
    labels: Sequence[Sequence[int]],
    probabilities: Sequence[Sequence[float]],
    **groups: Sequence[str],
) -> Predictions:
    """Predictions of attributes A, B, ... given face by face."""
    attributes = tuple("ABCDEFGH"[: len(labels[0])])
    names = tuple(f"{i:04d}.jpg" for i in range(len(labels)))
    return Predictions(
        names,
        attributes,
        np.array(labels, np.int8),
        np.array(probabilities, np.float32),
        {name: tuple(values) for name, values in groups.items()},
    )


def random_predictions(faces: int, seed: int, people: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 1], size=(faces, 3), p=[0.2, 0.5, 0.3])
    scores = np.round(rng.random((faces, 3)) * 0.7 + 0.3 * (labels == 1), 1)
    who = [str(p) for p in rng.integers(people, size=faces)] if people else [""] * faces
    return predictions(labels.tolist(), scores.tolist(), identity=who)


def test_figures_of_a_resample_are_those_of_its_faces_written_out() -> None:
    given = random_predictions(60, 0, people=25)
    resampling = resampling_of(given, 7)
    found = resampled_figures(given, resampling)
    once = all_figures(given.attributes, given.labels, given.probabilities, np.zeros(3))
    for name, values in point_figures(given).items():
        np.testing.assert_allclose(values, [getattr(f, name) for f in once], rtol=1e-6)
    (weights,) = resampling.weights()
    for row, drawn in enumerate(weights):
        # Every face as its person was drawn, judged as any set of faces.
        repeats = drawn[resampling.unit].astype(int)
        written_out = given.select(np.repeat(np.arange(60), repeats).tolist(), given.attributes)
        figures = all_figures(
            given.attributes, written_out.labels, written_out.probabilities, np.zeros(3)
        )
        for name in RESAMPLED:
            wanted = [getattr(f, name) for f in figures]
            np.testing.assert_allclose(found[name][row], wanted, rtol=1e-6, err_msg=name)


def test_rankings_with_weights_and_ties_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 8, 50).astype(np.float32) / 8
    truth = rng.random(50) < 0.4
    weights = rng.integers(0, 4, (5, 50)).astype(np.float32)
    precision, auc = ranking_figures(scores, truth, weights.T)
    for i, w in enumerate(weights):
        assert precision[i] == pytest.approx(
            average_precision_score(truth, scores, sample_weight=w)
        )
        assert auc[i] == pytest.approx(auc_score(truth, scores, sample_weight=w))
    none, _ = ranking_figures(scores, truth, np.where(truth, 0, weights).astype(np.float32).T)
    assert np.isnan(none).all()


def test_a_share_of_nothing_is_not_defined() -> None:
    shares = ratio(np.array([1.0, 0.0, 1.0]), np.array([0.0, 0.0, 4.0]))
    assert np.isnan(shares).tolist() == [True, True, False]
    assert shares[2] == 0.25


def test_rankings_of_many_faces_are_summed_in_float64() -> None:
    """Yes and no take turns: before the k-th yes from 0 come k yes and k no."""
    faces, k = 20_000, np.arange(10_000)
    scores = np.linspace(1, 0, faces)
    precision, auc = ranking_figures(
        scores, np.arange(faces) % 2 == 0, np.ones((faces, 1), np.float32)
    )
    assert auc[0] == 1 - k.sum() / 10_000**2
    assert precision[0] == pytest.approx(((k + 1) / (2 * k + 1)).mean(), rel=2e-8)


def test_without_a_positive_some_figures_are_not_defined() -> None:
    given = predictions([[0], [0], [0]], [[0.9], [0.1], [0.2]])
    found = point_figures(given)
    assert found["accuracy"][0] == pytest.approx(2 / 3)
    assert all(np.isnan(found[n][0]) for n in RESAMPLED if n != "accuracy")


def test_a_person_comes_with_all_pictures() -> None:
    given = predictions(
        [[1], [0], [1], [0]], [[0.9], [0.1], [0.2], [0.1]], identity=["x", "y", "x", ""]
    )
    resampling = resampling_of(given, 50)
    assert resampling.units == 3
    assert resampling.unit_name == "people"
    x, y, alone = resampling.unit[0], resampling.unit[1], resampling.unit[3]
    assert resampling.unit[2] == x
    assert len({x, y, alone}) == 3
    # Sums of a column that is 1 for both pictures of x: twice as x was drawn.
    ones = np.array([[1], [0], [1], [0]])
    (weights,) = resampling.weights()
    assert resampling.sums(ones)[:, 0].tolist() == (2 * weights[:, x]).tolist()
    assert (weights.sum(1) == 3).all()


def test_pictures_counted_twice_make_nobody_surer() -> None:
    once = replace(random_predictions(80, 2), groups={"identity": tuple(map(str, range(80)))})
    twice = once.select([*range(80), *range(80)], once.attributes)
    summary = interval_summary(once, resampling_of(once, 200))
    doubled = interval_summary(twice, resampling_of(twice, 200))
    for name, bounds in summary["mean"].items():
        assert doubled["mean"][name] == pytest.approx(bounds)
    apart = interval_summary(twice, resampling_of(replace(twice, groups={}), 200))
    width, narrow = (np.diff(f["mean"]["accuracy"])[0] for f in (doubled, apart))
    assert narrow < 0.85 * width


def test_resamples_drawn_in_parts_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from sspl.evaluation import statistics

    given = random_predictions(30, 3)
    whole = resampled_figures(given, resampling_of(given, 20))
    monkeypatch.setattr(statistics, "MOST_WEIGHTS", 95)
    parts = list(resampling_of(given, 20).weights())
    assert [len(p) for p in parts] == [3] * 6 + [2]
    for name, values in resampled_figures(given, resampling_of(given, 20)).items():
        np.testing.assert_array_equal(values, whole[name])


def test_many_faces_get_fewer_resamples_of_rankings(monkeypatch: pytest.MonkeyPatch) -> None:
    from sspl.evaluation import statistics

    given = random_predictions(30, 3)
    whole = interval_summary(given, resampling_of(given, 150))
    assert (whole["resamples"], whole["ranked_resamples"]) == (150, 150)
    assert drawn_text(whole) == "95 % intervals from 150 resamples of 30 faces"
    monkeypatch.setattr(statistics, "MOST_RANKED", 120 * 30 * 3)
    monkeypatch.setattr(statistics, "COLUMNS_AT_ONCE", 2)
    fewer = interval_summary(given, resampling_of(given, 150))
    assert (fewer["resamples"], fewer["ranked_resamples"]) == (150, 120)
    assert drawn_text(fewer).endswith("of 30 faces (120 for AP and AUC)")
    assert fewer["mean"]["accuracy"] == whole["mean"]["accuracy"]
    assert fewer["mean"]["auc"] == pytest.approx(whole["mean"]["auc"], abs=0.05)
    monkeypatch.setattr(statistics, "MOST_RANKED", 1)
    assert interval_summary(given, resampling_of(given, 150))["ranked_resamples"] == 100


@pytest.mark.parametrize(
    ("figure", "function"),
    [
        ("accuracy", lambda t, s: np.mean((s >= 0.5) == t)),
        ("balanced_accuracy", lambda t, s: balanced_accuracy_score(t, s >= 0.5)),
        ("f1", lambda t, s: f1_score(t, s >= 0.5)),
        ("average_precision", average_precision_score),
        ("auc", auc_score),
    ],
)
def test_intervals_are_scipys(figure: str, function) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(4)
    truth = rng.random(300) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.25 * truth, 0.2), 0, 1).astype(np.float32)
    given = predictions(truth[:, None].astype(int).tolist(), scores[:, None].tolist())
    found = interval_summary(given, resampling_of(given, 3000))["attributes"]["A"][figure]
    wanted = bootstrap(
        (truth, scores),
        function,
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        random_state=np.random.default_rng(5),
    ).confidence_interval
    width = wanted.high - wanted.low
    assert found[0] == pytest.approx(wanted.low, abs=0.12 * width)
    assert found[1] == pytest.approx(wanted.high, abs=0.12 * width)


def test_interval_by_hand() -> None:
    samples = np.arange(101, dtype=np.float64)
    assert interval(samples, 0.9) == pytest.approx((5, 95))
    assert interval(np.append(samples, [np.nan] * 100), 0.9) == pytest.approx((5, 95))
    assert interval(np.append(samples, [np.nan] * 102), 0.9) is None


def test_a_mean_leaves_out_what_is_not_defined_in_a_resample() -> None:
    # B has one positive: where it is not drawn, F1 and AP of B are not defined.
    given = predictions(
        [[1, 1], [1, 0], [0, 0], [0, 0]], [[0.9, 0.9], [0.9, 0.1], [0.1, 0.1]] * 1 + [[0.1, 0.1]]
    )
    summary = interval_summary(given, resampling_of(given, 300))
    assert summary["mean"]["f1"] == (1, 1)
    assert summary["attributes"]["B"]["average_precision"] == (1, 1)


def half(right: int, wrong: int, yes: bool) -> list[tuple[int, float]]:
    """Cases of one kind, so many told rightly and wrongly: (label, probability)."""
    sure, unsure = (0.9, 0.1) if yes else (0.1, 0.9)
    return [(int(yes), sure)] * right + [(int(yes), unsure)] * wrong


def grouped() -> Predictions:
    """Attribute A in three groups: 40 positives and 40 negatives in x and y, but few in z."""
    cases = {
        "x": half(30, 10, True) + half(36, 4, False),
        "y": half(20, 20, True) + half(32, 8, False),
        "z": half(2, 0, True) + half(35, 0, False),
    }
    rows = [(label, score, group) for group, all_ in cases.items() for label, score in all_]
    labels = [[label, int(group == "x")] for label, _, group in rows]
    return predictions(
        labels, [[score, 0.6] for _, score, _ in rows], race=[group for *_, group in rows]
    )


def test_groups_by_hand() -> None:
    given = grouped()
    (way,) = groupings(given)
    summary = subgroup_summary(given, way, resampling_of(given, 400))
    assert summary["by"] == "race"
    assert summary["groups"] == {"x": 80, "y": 80, "z": 37}
    a = summary["attributes"]["A"]
    x, y, z = (a["groups"][name] for name in "xyz")
    assert (x["positives"], x["negatives"]) == (40, 40)
    assert x["true_positive_rate"] == pytest.approx(0.75)
    assert x["false_positive_rate"] == pytest.approx(0.1)
    assert x["accuracy"] == x["balanced_accuracy"] == pytest.approx(0.825)
    assert y["true_positive_rate"] == pytest.approx(0.5)
    assert y["false_positive_rate"] == pytest.approx(0.2)
    # z is shown, marked where it is too small, and takes part where it is large enough.
    assert z["true_positive_rate"] == 1
    assert z["too_few_for"] == ["balanced_accuracy", "true_positive_rate"]
    # Everybody in x has B: there is no negative to judge by.
    b = summary["attributes"]["B"]["groups"]["x"]
    assert b["too_few_for"] == ["balanced_accuracy", "false_positive_rate"]
    gap = a["gaps"]["true_positive_rate"]
    assert (gap["high"], gap["low"], gap["gap"]) == ("x", "y", pytest.approx(0.25))
    assert gap["interval"][0] < 0.25 < gap["interval"][1]
    accuracy = a["gaps"]["accuracy"]
    assert (accuracy["high"], accuracy["low"]) == ("z", "y")
    assert accuracy["gap"] == pytest.approx(1 - 52 / 80)
    # Of two independent shares the difference has a standard deviation known by formula.
    deviation = np.sqrt(0.75 * 0.25 / 40 + 0.5 * 0.5 / 40)
    assert np.diff(gap["interval"])[0] == pytest.approx(2 * 1.96 * deviation, rel=0.2)
    # The mean is over what the compared groups share: z has too few positives to be one of them.
    assert summary["mean"]["balanced_accuracy"]["groups"] == {
        "x": pytest.approx(0.825),
        "y": pytest.approx(0.65),
    }
    assert summary["mean"]["balanced_accuracy"]["attributes"] == ["A"]
    assert set(summary["mean"]["accuracy"]["groups"]) == {"x", "y", "z"}
    assert "by race (x 80, y 80, z 37 faces)" in subgroup_lines([summary])[0]


def unlike(found_in_y: int) -> dict[str, Any]:
    """Attribute A: 3,000 of 4,000 faces of x have it and 1,000 of y, of which so many are found.

    In x 80 % of the positives are found; in both, 10 % of the negatives are taken for positives.
    """
    cases = {
        "x": half(2400, 600, True) + half(900, 100, False),
        "y": half(found_in_y, 1000 - found_in_y, True) + half(2700, 300, False),
    }
    rows = [(label, score, group) for group, all_ in cases.items() for label, score in all_]
    given = predictions(
        [[label, 0] for label, *_ in rows],
        [[score, 0.1] for _, score, _ in rows],
        race=[group for *_, group in rows],
    )
    (way,) = groupings(given)
    return subgroup_summary(given, way, resampling_of(given, 200))


def test_a_gap_that_follows_from_the_base_rates_is_not_clear() -> None:
    summary = unlike(found_in_y=800)
    gap = summary["attributes"]["A"]["gaps"]["accuracy"]
    # x: 0.75 * 0.8 + 0.25 * 0.9; y: 0.25 * 0.8 + 0.75 * 0.9. Faces of a kind are told alike.
    assert (gap["high"], gap["gap"]) == ("y", pytest.approx(0.875 - 0.825))
    assert gap["interval"][0] > 0
    assert gap["base_rates"] == pytest.approx(0.05)
    assert gap["beyond"][0] < 0 < gap["beyond"][1]
    assert not is_clear(gap)
    # Of B, which nobody has and nobody is said to have, nothing differs; the mean is of both.
    mean = summary["mean"]["accuracy"]["gap"]
    assert (mean["gap"], mean["base_rates"]) == (pytest.approx(0.025), pytest.approx(0.025))
    assert not is_clear(mean)
    assert "base_rates" not in summary["attributes"]["A"]["gaps"]["true_positive_rate"]


def test_a_gap_beyond_the_base_rates_is_clear() -> None:
    gap = unlike(found_in_y=1000)["attributes"]["A"]["gaps"]["accuracy"]
    assert gap["gap"] == pytest.approx(0.925 - 0.825)
    # Of all 4,000 positives 3,400 are found: 0.25 * 0.85 + 0.75 * 0.9 and 0.75 * 0.85 + 0.25 * 0.9.
    assert gap["base_rates"] == pytest.approx(0.8875 - 0.8625)
    assert is_clear(gap)


def test_an_attribute_divides_all_but_itself() -> None:
    given = replace(grouped(), attributes=("A", "Male"), groups={})
    (way,) = groupings(given)
    assert (way.by, way.groups) == ("Male", ("Male", "not Male"))
    summary = subgroup_summary(given, way, resampling_of(given, 100))
    assert list(summary["attributes"]) == ["A"]
    assert summary["groups"] == {"Male": 80, "not Male": 117}
    assert summary["mean"]["accuracy"]["groups"]["Male"] == pytest.approx(66 / 80)


def test_the_only_attribute_divides_nothing() -> None:
    whole = grouped()
    given = whole.select(range(len(whole)), ("B",))
    given = replace(given, attributes=("Male",))
    assert [way.by for way in groupings(given)] == ["race"]
    with pytest.raises(SettingsError, match="--by Male: there is no such column; use race"):
        groupings(given, ["Male"])


def test_which_groups_are_reported() -> None:
    many = [str(i % 25) for i in range(197)]
    given = replace(grouped(), groups={"identity": tuple(many), "age": tuple(many)})
    assert groupings(given) == []
    with pytest.raises(SettingsError, match="--by age: it has 25 groups"):
        groupings(given, ["age"])
    with pytest.raises(
        SettingsError, match="--by race: there is no such column; use identity, age"
    ):
        groupings(given, ["race"])
    assert [way.by for way in groupings(given, ["B"])] == ["B"]


def test_reliability_by_hand() -> None:
    labels = np.array([[1, 0], [0, -1], [0, 1]], np.int8)
    bins = reliability(labels, np.array([[0.95, 0.01], [0.05, 0.9], [1.0, 0.5]]))
    # Of 15 bins: 0.01 and 0.05 in the first, 0.5 in the eighth, 0.95 and 1 in the last.
    seen = {0: (2, 0.03, 0), 7: (1, 0.5, 1), 14: (2, 0.975, 0.5)}
    for i, told in enumerate(bins):
        assert (told["low"], told["high"]) == pytest.approx((i / 15, (i + 1) / 15))
        figures = (told["cases"], told["probability"], told["frequency"])
        assert figures == (pytest.approx(seen[i]) if i in seen else (0, None, None))


def told(given: Predictions, wrong: Sequence[int]) -> Predictions:
    """The same faces, all told rightly but for those in `wrong`."""
    right = np.where(given.labels == 1, 0.9, 0.1).astype(np.float32)
    right[list(wrong)] = 1 - right[list(wrong)]
    return replace(given, probabilities=right)


def test_one_is_better_only_where_the_interval_excludes_zero() -> None:
    given = predictions([[i % 2] for i in range(100)], [[0.5]] * 100)
    good, poor, near = told(given, range(10)), told(given, range(40)), told(given, range(1, 12))
    summary = paired_summary([good], [poor], "x", 500)
    found = summary["mean"]["accuracy"]
    assert (found["a"], found["b"]) == (pytest.approx(0.9), pytest.approx(0.6))
    assert found["better"] == "a"
    # Thirty faces tell the two apart: the difference is their share, with a binomial's spread.
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 100)
    assert found["interval"] == pytest.approx((0.3 - spread, 0.3 + spread), abs=0.025)
    assert paired_summary([poor], [good], "x", 500)["mean"]["accuracy"]["better"] == "b"
    assert paired_summary([good], [near], "x", 500)["mean"]["accuracy"]["better"] is None
    assert verdicts(summary, "accuracy") == {"a": ["A"], "b": [], None: []}
    assert found["p"] < 1e-6
    attribute = summary["attributes"]["A"]["accuracy"]
    assert attribute["holm"] == attribute["p"]  # of one comparison
    same = paired_summary([good], [good], "x", 100)["mean"]
    assert all(row["interval"] == (0, 0) and row["better"] is None for row in same.values())


def test_label_subsets_that_disagree_widen_the_interval() -> None:
    given = predictions([[i % 2] for i in range(400)], [[0.5]] * 400)
    good, poor, base = told(given, range(40)), told(given, range(160)), told(given, range(100))
    agree = paired_summary([good, good], [poor, poor], "x", 500)["mean"]["accuracy"]
    assert agree["better"] == "a"
    differ = paired_summary([good, poor], [base, base], "x", 500)["mean"]["accuracy"]
    assert differ["difference"] == pytest.approx(0)
    # One subset drawn twice shows its own difference of 15 points.
    assert differ["interval"] == pytest.approx((-0.16, 0.16), abs=0.03)
    assert differ["better"] is None


def test_faces_are_matched_by_name_and_must_be_the_same() -> None:
    given = random_predictions(40, 6)
    summary = paired_summary([given], [given], "a and b", 100)
    shuffled = given.select(np.random.default_rng(0).permutation(40).tolist(), ("C", "A"))
    found = paired_summary([given], [shuffled], "a and b", 100)
    assert list(found["attributes"]) == ["A", "C"]
    assert found["attributes"]["A"] == summary["attributes"]["A"]
    with pytest.raises(DataError, match="a and b: the two were judged on different faces"):
        paired_summary([given], [given.select(range(39), given.attributes)], "a and b")
    other = replace(given, labels=1 - np.abs(given.labels))
    with pytest.raises(DataError, match=r"different labels, the first for '\d+.jpg', [ABC];"):
        paired_summary([given], [other], "a and b")
    with pytest.raises(DataError, match="no attribute in common"):
        paired_summary([given], [replace(given, attributes=("X", "Y", "Z"))], "a and b")


def test_compare_prints_what_it_writes(tmp_path: Path) -> None:
    given = predictions([[i % 2] for i in range(100)], [[0.5]] * 100)
    for name, wrong in (("a", 10), ("b", 40)):
        save_predictions(tmp_path / name / "predictions-test.npz", told(given, range(wrong)))
    out = tmp_path / "summary.json"
    printed = sspl("compare", tmp_path / "a", tmp_path / "b", "--out", out).output
    summary = json.loads(out.read_text())
    low, high = summary["mean"]["accuracy"]["interval"]
    assert f"90.00    60.00    30.00    [{100 * low:.2f}, {100 * high:.2f}]  A is better" in printed
    assert "A is better on 1 attributes, B on 0; no difference is shown on 0" in printed
    assert "With Holm's correction for them all A is better on 1, B on 0." in printed
    one = tmp_path / "b" / "predictions-test.npz"
    assert "A is better" not in sspl("compare", one, one).output.replace("A is better on 0", "")
    assert "sspl evaluate" in refused("compare", tmp_path / "a", tmp_path / "b", "--split", "val")


def test_units_are_counted() -> None:
    assert Resampling(np.array([0, 1, 1, 2])).units == 3
    assert Resampling(np.arange(4)).unit_name == "faces"


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given_(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_procedure_does_step_by_step(p_values: list[float]) -> None:
    rejected, order = set(), sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(order):
        if p_values[place] * (len(order) - rank) >= 0.05:
            break
        rejected.add(place)
    assert {i for i, p in enumerate(holm(p_values)) if p < 0.05} == rejected


def test_p_of_resamples_is_that_of_a_normal_difference() -> None:
    samples = np.random.default_rng(0).normal(0.3, 0.1, 20_000)
    assert p_value(0.196, samples) == pytest.approx(0.05, rel=0.05)
    assert p_value(-0.196, samples) == p_value(0.196, samples)
    assert (p_value(0.0, np.zeros(9)), p_value(0.1, np.full(9, 0.1))) == (1.0, 0.0)
