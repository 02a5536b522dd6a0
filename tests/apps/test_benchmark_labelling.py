"""The benchmark of chosen faces: what a session may look at, and what its table says."""

from pathlib import Path

import numpy as np
import pytest
from test_suggest import TINY
from test_suggest import faces as faces
from test_suggest import pretrained as pretrained

from shared import import_file
from sspl.data.data_settings import parse_data_spec
from sspl.errors import SettingsError

BENCHMARK = import_file(Path(__file__).parents[2] / "benchmarks" / "labelling.py")


def some_faces(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(80, 6)).astype(np.float32)
    truth = (features[:, :2] > 0.4).astype(np.int8)
    return features, truth


@pytest.mark.parametrize("way", list(BENCHMARK.WAYS))
def test_a_session_looks_at_labels_of_labelled_faces_alone(way: str) -> None:
    features, truth = some_faces(0)
    order = BENCHMARK.session(features, truth, way, 10, 4, 3)
    assert len(set(order)) == 40
    np.testing.assert_array_equal(order, BENCHMARK.session(features, truth, way, 10, 4, 3))
    assert list(order) != list(BENCHMARK.session(features, truth, way, 10, 4, 4))
    other = truth.copy()
    unseen = np.setdiff1d(np.arange(80), order)
    other[unseen] = 1 - other[unseen]
    np.testing.assert_array_equal(order, BENCHMARK.session(features, other, way, 10, 4, 3))
    # Nor at those of a round before it is over.
    other[order[30:]] = 1 - other[order[30:]]
    changed = BENCHMARK.session(features, other, way, 10, 4, 3)
    np.testing.assert_array_equal(order, changed)


@pytest.mark.parametrize(("way", "looks"), [("suggest", True), ("random", False)])
def test_later_rounds_use_what_the_first_has_told(way: str, looks: bool) -> None:
    features, truth = some_faces(1)
    order = BENCHMARK.session(features, truth, way, 10, 2, 0)
    turned = BENCHMARK.session(features, (features[:, 2:4] > 0).astype(np.int8), way, 10, 2, 0)
    np.testing.assert_array_equal(order[:10], turned[:10])
    assert (set(order[10:]) != set(turned[10:])) is looks


def test_the_probe_learns_from_chosen_faces_and_is_judged_on_others() -> None:
    features, truth = some_faces(2)
    test, test_truth = some_faces(3)
    names = ("a", "b")
    few = BENCHMARK.probed(features, truth, np.arange(4), test, test_truth, names)
    many = BENCHMARK.probed(features, truth, np.arange(80), test, test_truth, names)
    assert many["balanced_accuracy"] > 0.85
    assert many["average_precision"] > few["average_precision"]
    turned = BENCHMARK.probed(features, 1 - truth, np.arange(80), test, test_truth, names)
    assert turned["balanced_accuracy"] < 0.2
    # Without a yes and a no there is nothing to learn: chance.
    none = BENCHMARK.probed(features, truth * 0, np.arange(80), test, test_truth, names)
    assert none["balanced_accuracy"] == 0.5


def test_the_table_by_hand() -> None:
    cells = [
        BENCHMARK.Cell(way, seed, 10, "probe", {"balanced_accuracy": v, "average_precision": 0.5})
        for way, values in (("random", (0.5, 0.6)), ("suggest", (0.6, 0.9)))
        for seed, v in enumerate(values)
    ]
    text = BENCHMARK.table(cells, "probe").splitlines()
    assert text[0].split() == ["probe,", "balanced", "accuracy", "10", "faces"]
    # Standard deviations of two: the difference over the root of 2.
    assert text[1].split() == ["random", "55.00", "+-", "7.07"]
    assert text[2].split() == ["suggest", "75.00", "+-", "21.21"]
    assert text[3].split() == ["suggest", "minus", "random", "20.00", "+-", "14.14"]


def test_fine_tuning_gets_the_chosen_faces_and_the_validation_split(
    faces: Path, pretrained: Path, tmp_path: Path
) -> None:
    data = parse_data_spec(f"celeba:{faces},crop=0:0:1:0.9").absolute()
    there = BENCHMARK.only(data.open(), ("Smiling", "Eyeglasses"))
    assert there.schema.names == ("Smiling", "Eyeglasses")
    train, val, test = (there.split(split) for split in ("train", "val", "test"))
    content = BENCHMARK.build(
        BENCHMARK.FinetuneSettings, BENCHMARK.preset("demo", "finetune"), TINY
    ).model_dump(mode="json")
    chosen = train.select([4, 9, 11, 12, 20, 21, 30, 33])
    found = BENCHMARK.finetuned(content, data, chosen, val, test, pretrained, tmp_path)
    assert 0 <= found["average_precision"] <= 1
    run = tmp_path / "subset-0"
    assert (run / "labelled.txt").read_text().split() == list(chosen.names)
    assert (run / "validation.txt").read_text().split() == list(val.names)
    again = BENCHMARK.finetuned(content, data, chosen, val, test, pretrained, tmp_path)
    assert again == found
    with pytest.raises(SettingsError, match="other faces"):
        BENCHMARK.finetuned(content, data, train.select([1, 2]), val, test, pretrained, tmp_path)
