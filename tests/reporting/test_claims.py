"""What is claimed of a model: only what the interval shows, and no spread of one."""

from typing import Any

from sspl.evaluation.comparison import spread
from sspl.reporting.run_report import _evaluation_content, _sentences, _tiles, better_than


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
        "answer, by the whole interval: Smiling.",
        "Not shown, since the interval reaches the commoner answer, on: Big nose.",
        "Not so on: Bald.",
    ]


def test_without_intervals_the_figures_are_compared() -> None:
    assert _sentences({"attributes": FOUND["attributes"]})[:2] == [
        "On 2 of 3 attributes its decisions are right more often than always giving the commoner "
        "answer: Smiling, Big nose.",
        "Not so on: Bald.",
    ]


def test_headlines_claim_what_the_whole_interval_shows() -> None:
    assert better_than(0.5, "chance", 0.6, (0.51, 0.7)) == "better than chance (50.0 %)"
    assert better_than(0.5, "chance", 0.6, (0.5, 0.7)).startswith("not shown to be better than")
    assert better_than(0.5, "chance", 0.5, (0.4, 0.6)) == "no better than chance (50.0 %)"
    assert better_than(0.5, "chance", None, None) == ""
    mean = {"accuracy": 0.8, "majority_accuracy": 0.79, "balanced_accuracy": 0.5}
    found = FOUND | {"mean": mean | {"average_precision": 0.6, "calibration_error": 0.1}}
    tiles = _tiles(found, {"accuracy": (0.78, 0.82), "average_precision": (0.51, 0.7)})
    assert [tile["note"] for tile in tiles] == [
        "not shown to be better than the commoner answer (79.0 %)",
        "no better than chance (50.0 %)",
        "better than chance (50.0 %)",
        "0 is best",
    ]


def test_attributes_of_one_kind_stand_apart() -> None:
    none = row(1.0, 1.0) | {"positives": 0, "negatives": 100}
    taught = row(0.9)
    found = {
        "attributes": FOUND["attributes"] | {"Wearing_Hat": none, "Goatee": taught},
        "left_out": {"Goatee": "no positive among the labelled faces"},
        "mean": row(0.8) | {"balanced_accuracy": 0.6, "average_precision": 0.5}
        | {"calibration_error": 0.1},
    }  # fmt: skip
    content = _evaluation_content(found, "test")
    assert [each["name"] for each in content["rows"]] == ["Smiling", "Big_Nose", "Bald", "mean"]
    assert [(each["name"], each["why"]) for each in content["apart"]] == [
        ("Wearing_Hat", "no positive among the faces judged"),
        ("Goatee", "no positive among the labelled faces"),
    ]
    sentences = content["sentences"]
    assert sentences[0].startswith("On 2 of 3 attributes")
    assert not any("Wearing" in line for line in sentences)


def test_one_subset_has_no_spread() -> None:
    assert spread([0.5]) == "50.00"
    assert spread([0.5, 0.6]) == "55.00 +- 7.07"
