"""`sspl demo` on fewer faces: both arms, the table, and what the picture chooses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import refused, sspl
from sspl.demo.figure import SUREST, most_gained
from sspl.demo.run_demo import DemoSettings
from sspl.evaluation.predictions import Predictions
from sspl.settings import read_settings
from sspl.weights import BUILT_IN_FILE

SMALL = ("faces=100", "labels=20", "epochs=1", "subsets=1")


@pytest.mark.slow
def test_it_compares_both_starts_by_the_same_training(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = json.loads(sspl("demo", "--out", tmp_path, "--json", *SMALL).stdout)
    assert list(said["arms"]) == ["from scratch", "from the weights"]
    runs = [tmp_path / arm / "subset-0" / "settings.yaml" for arm in ("from-scratch", "built-in")]
    scratch, built_in = map(read_settings, runs)
    assert (scratch.pop("pretrained"), built_in.pop("pretrained")) == (None, "builtin")
    assert scratch == built_in
    with (tmp_path / "comparison.csv").open() as file:
        assert [row["arm"] for row in csv.DictReader(file)] == list(said["arms"])
    with Image.open(tmp_path / "comparison.png") as picture:
        assert min(picture.size) > 800
    first, *rows = (tmp_path / "comparison.txt").read_text().splitlines()
    assert first.startswith("20 labels")
    assert len(rows) == 2


def test_its_faces_are_not_those_of_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    card = json.loads(BUILT_IN_FILE.with_suffix(".json").read_text(encoding="utf-8"))
    assert DemoSettings().seed != card["drawn"]["seed"]
    assert "epochs" in refused("demo", "--out", tmp_path, "epochs=0")


def test_the_attributes_that_gain_most_are_shown_first() -> None:
    """One that gains, one that gains more, one with too few positives, one that loses."""
    yes = np.arange(20) < SUREST
    labels = np.stack([yes, yes, np.arange(20) < SUREST - 1, yes], axis=1).astype(np.int8)
    rising = np.linspace(0, 1, 20)
    before = np.stack([rising, rising, rising, 1 - rising], axis=1)
    partly = np.where(np.arange(20) < 3, 1.0, rising)
    after = np.stack([partly, 1 - rising, 1 - rising, rising], axis=1)
    names = tuple(str(i) for i in range(20)), ("some", "all", "rare", "lost")
    said = [Predictions(*names, labels, p.astype(np.float32)) for p in (before, after)]
    assert most_gained(*said) == ["all", "some", "lost"]
