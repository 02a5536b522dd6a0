"""The weights that come with the package: whole, small, a start for stage 2, and a face parser."""

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.shared import sspl

from sspl.data.synthetic import render_face, write_synthetic
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.io.weights import load_tensors
from sspl.metrics.pixels import confusion_matrix, mean_iou
from sspl.models.bundle import load_model
from sspl.parsing.commands import open_parser
from sspl.weights import BUILT_IN_FILE, absolute, resolved

CARD = json.loads(BUILT_IN_FILE.with_suffix(".json").read_text(encoding="utf-8"))
QUICK = ("optim.epochs=1", "optim.lr=1e-30", "optim.schedule.warmup_epochs=0", "optim.batch_size=4")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "faces"
    write_synthetic(folder, 20, 77, 112)
    return folder


def test_the_file_is_the_one_its_card_speaks_of() -> None:
    content = BUILT_IN_FILE.read_bytes()
    assert hashlib.sha256(content).hexdigest() == CARD["sha256"]
    assert len(content) == CARD["bytes"] <= 8_000_000
    tensors, metadata = load_tensors(BUILT_IN_FILE)
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}
    assert metadata["drawn"] == CARD["drawn"]
    assert metadata["faces"] == CARD["drawn"]["count"]


RECORD = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "weights.json"


def shown(shares: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation in percent, as the page has them."""
    return f"{100 * np.mean(shares):.{digits}f} ± {100 * np.std(shares, ddof=1):.{digits}f}"


def test_shares_are_shown_in_percent() -> None:
    assert shown([0.5, 0.6], 1) == "55.0 ± 7.1"


def test_the_page_says_what_the_committed_record_says() -> None:
    if not RECORD.is_file():
        pytest.skip("no record of benchmarks/drawn.py is committed")
    record = json.loads(RECORD.read_text(encoding="utf-8"))["builtin"]
    assert record["sha256"] == CARD["sha256"], "renew it: python benchmarks/drawn.py --record"
    probes = record["probes"]
    digits = {"accuracy": 2, "balanced_accuracy": 1, "average_precision": 1}
    cells = [shown([probe[name] for probe in probes], n) for name, n in digits.items()]
    page = (RECORD.parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    assert f"| built in | {' | '.join(cells)} |" in page
    alone = {name: f"{100 * value:.1f} %" for name, value in record["heads alone"].items()}
    assert f"average precision {alone['average_precision']}" in page
    assert f"ROC curve {alone['auc']}" in page.replace("\n", " ")
    assert f"({alone['share of yes']} of whose labels are yes" in page
    parser = [f"{100 * record['parser'][name]:.1f}" for name in ("mean IoU", "of big classes")]
    assert f"| {' | '.join([*cells, *parser])} |" in page


def test_the_readme_says_what_the_study_of_the_weights_says() -> None:
    with (RECORD.parent / "builtin.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    readme = " ".join((RECORD.parents[2] / "README.md").read_text(encoding="utf-8").split())

    def means(method: str, figure: str, counts: Sequence[str]) -> str:
        """Return the means over subsets by number of labels, as the page has them."""
        of = [row for row in rows if row["method"] == method]
        cells = ([float(r[figure]) for r in of if r["labels"] == n] for n in counts)
        return " / ".join(f"{100 * np.mean(cell):.1f}" for cell in cells)

    every = ("27", "55", "275")
    methods = {"builtin": every, "scratch": every, "faceres": every, "builtin+taught": every[1:]}
    for method, counts in methods.items():
        accuracy, precision = (
            means(method, figure, counts) for figure in ("accuracy", "average_precision")
        )
        assert re.search(f"{accuracy}[^(]*[(][^(]*{precision}[)]", readme), method


@pytest.mark.parametrize(("style", "least"), [("plain", 0.45), ("photo", 0.45)])
def test_they_parse_faces_that_they_have_not_seen(style: str, least: float) -> None:
    parser, classes = open_parser("builtin"), len(built_in_taxonomy("celebamask19"))
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    for index in range(8):
        face = render_face(999, index, 192, style)
        found = torch.from_numpy(parser.parse([face.image])[0])
        confusion += confusion_matrix(
            torch.from_numpy(face.mask).flatten(), found.flatten().long(), classes
        )
    assert mean_iou(confusion) > least


def test_stage_2_starts_from_them_when_nothing_is_given(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sspl("finetune", "--data", f"celeba:{faces}", "--out", out, *QUICK)
    kept, _ = load_tensors(BUILT_IN_FILE)
    network = load_model(out).network.state_dict()
    weights = [n for n in kept if n.startswith("backbone.") and n.endswith(("weight", "bias"))]
    # So low a rate changes only what BatchNorm has counted, and the last digits of what is near 0.
    assert len(weights) > 50
    for name in weights:
        torch.testing.assert_close(network[name].float(), kept[name].float(), rtol=1e-6, atol=1e-6)
    assert "pretrained: builtin\n" in (out / "settings.yaml").read_text(encoding="utf-8")


def test_stage_1_goes_on_from_them(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    data = f"celeba:{faces},masks={faces / 'masks'}"
    sspl(
        "pretrain", "--data", data, "--out", out, "tasks=[pst]", "backbone_weights=builtin", *QUICK
    )
    kept, _ = load_tensors(BUILT_IN_FILE)
    tensors, _ = load_tensors(out / "pretrained.safetensors")
    names = [n for n in kept if n.startswith("backbone.") and n.endswith(("weight", "bias"))]
    assert len(names) > 50
    for name in names:
        torch.testing.assert_close(tensors[name].float(), kept[name].float(), rtol=1e-6, atol=1e-6)


def test_masks_of_photographs_come_from_them(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    sspl("parser", "run", "builtin", faces / "img_align_celeba", "--out", out, "--no-average")
    assert len(list(out.glob("0*.png"))) == 20


def test_a_folder_of_that_name_is_meant_by_its_path() -> None:
    assert resolved(Path("builtin")) == BUILT_IN_FILE
    assert resolved(Path("runs/builtin")) == Path("runs/builtin")
    assert absolute("builtin") == "builtin"
    assert resolved(Path(absolute("./builtin"))) == Path.cwd() / "builtin"


def test_they_say_which_faces_to_label_next(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.csv"
    sspl("suggest", f"folder:{faces / 'img_align_celeba'}", "--count", 3, "--out", out)
    rows = out.read_text(encoding="utf-8").splitlines()
    assert len(rows) == 4
    assert len(set(rows)) == 4
