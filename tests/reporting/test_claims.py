"""What is claimed of a model: only what the interval shows, and no spread of one."""

from typing import Any

from sspl.evaluation.comparison import spread
from sspl.reporting.run_report import _sentences


def row(accuracy: float, majority: float = 0.7) -> dict[str, Any]:
    return {"accuracy": accuracy, "majority_accuracy": majority, "positives": 50, "negatives": 50}


FOUND = {
    "attributes": {"Smiling": row(0.9), "Big_Nose": row(0.75), "Bald": row(0.7)},
    "intervals": {
        "attributes": {
            "Smiling": {"accuracy": [0.71, 0.95]},
            "Big_Nose": {"accuracy": [0.7, 0.8]},
            "Bald": {"accuracy": [0.6, 0.8]},
        }
    },
}


def test_better_is_said_only_where_the_whole_interval_is() -> None:
    assert _sentences(FOUND)[:3] == [
        "On 1 of 3 attributes its decisions are right more often than always giving the commoner "
        "answer, by the whole interval.",
        "Not shown, since the interval reaches the commoner answer, on: Big Nose.",
        "Not so on: Bald.",
    ]


def test_without_intervals_the_figures_are_compared() -> None:
    assert _sentences({"attributes": FOUND["attributes"]})[:2] == [
        "On 2 of 3 attributes its decisions are right more often than always giving the commoner "
        "answer.",
        "Not so on: Bald.",
    ]


def test_one_subset_has_no_spread() -> None:
    assert spread([0.5]) == "50.00"
    assert spread([0.5, 0.6]) == "55.00 +- 7.07"
