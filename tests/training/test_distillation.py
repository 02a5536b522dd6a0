"""Faces without labels that other models answer for: targets, loss, who is asked, refusals."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from graphs import write_graph
from shared import TINIER, draw_faces, refused, sspl
from sspl.data.data_settings import parse_data_spec
from sspl.data.records import MISSING, FaceSet
from sspl.evaluation.evaluate import labelled_probabilities
from sspl.models.bundle import load_model
from sspl.training.distillation import (
    filled_in,
    mean_answer,
    taught_sources,
    taught_targets,
    taught_text,
)
from sspl.training.finetune import Finetuning
from sspl.training.inheriting import finetune_settings
from sspl.training.loss_settings import LossSettings
from sspl.training.losses import attribute_loss, masked_bce
from sspl.training.partition import partition
from sspl.training.stage_settings import FinetuneSettings, RuntimeSettings

NAN = math.nan
LABELS = 10


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("taught"), 40, seed=5)


@pytest.fixture(scope="module")
def teachers(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A fine-tuned network, and one of two attributes in another order that is frozen."""
    out = tmp_path_factory.mktemp("teachers")
    own = ("--from", "none", "head.pooling=average", "optim.epochs=1", *TINIER)
    sspl("finetune", "--data", f"celeba:{faces}", "--out", out / "net", "--labels", "20", *own)
    graph = write_graph(out / "net.onnx", ["n", 3, 16, 16])
    two = table(faces, out / "two.csv", "Smiling", "Bangs")
    sspl("probe", "--features", graph, "--data", two, "--out", out / "frozen", "--labels", "20")
    return out / "net", out / "frozen"


def table(faces: Path, csv: Path, *attributes: str) -> str:
    """Write a table of some attributes of the training faces; return its spec."""
    train = parse_data_spec(f"celeba:{faces}").open().split("train")
    columns = [train.labels[:, train.schema.index(name)] for name in attributes]
    lines = [",".join(map(str, (n, *row))) for n, *row in zip(train.names, *columns, strict=True)]
    csv.write_text("\n".join([f"image,{','.join(attributes)}", *lines]))
    return f"csv:{csv},images={faces}/img_align_celeba"


def settings_for(faces: Path, *teachers: Path, **more: object) -> FinetuneSettings:
    given = {
        "data": parse_data_spec(f"celeba:{faces}").model_dump(),
        "labels": {"count": LABELS},
        "distillation": {"teachers": [str(t) for t in teachers]} | more,
    }
    return finetune_settings("demo", given, ["head.pooling=average", *TINIER])


def said(model: Path, faces: FaceSet) -> dict[str, np.ndarray]:
    """What the command that judges says of the faces, by attribute."""
    loaded = load_model(model)
    found = labelled_probabilities(loaded, faces, RuntimeSettings(precision="fp32"))[1]
    return dict(zip(loaded.schema.names, found.T, strict=True))


def test_the_mean_is_over_those_who_know() -> None:
    one = np.array([[0.2, NAN], [1.0, NAN]], np.float32)
    other = np.array([[0.6, 0.5], [NAN, NAN]], np.float32)
    assert mean_answer([one, other]).tolist() == [
        [pytest.approx(0.4), 0.5],
        [1.0, MISSING],
    ]


def test_a_known_label_is_kept() -> None:
    labels = np.array([[1, MISSING], [0, 0]], np.int8)
    answers = np.array([[0.3, 0.3], [0.9, MISSING]], np.float32)
    assert filled_in(labels, answers).tolist() == [[1.0, pytest.approx(0.3)], [0.0, 0.0]]


def cross_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def test_a_probability_is_a_target() -> None:
    logits = torch.tensor([[1.0, -0.5], [0.3, 2.0]])
    targets = torch.tensor([[0.9, float(MISSING)], [0.25, 1.0]])
    wanted = (cross_entropy(1, 0.9) + cross_entropy(0.3, 0.25) + cross_entropy(2, 1)) / 3
    assert masked_bce(logits, targets).item() == pytest.approx(wanted)
    # What bootstrapping puts in place of a label it puts in place of a probability.
    how = LossSettings(name="bootstrap", belief=1.0)
    assert attribute_loss(logits, targets, torch.zeros(2), how).item() == pytest.approx(wanted)


def test_teachers_answer_for_faces_whose_labels_are_not_used(
    faces: Path, teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = settings_for(faces, *teachers)
    parts = partition(settings)
    sources = taught_sources(settings, parts)
    assert [len(s.faces) for s in sources] == [LABELS, len(parts.rest)]
    found = taught_targets(settings, parts, sources, tmp_path / "kept")
    assert found[:LABELS].tolist() == parts.train.labels.tolist()
    net, frozen = (said(teacher, parts.rest) for teacher in teachers)
    for name, column in zip(parts.train.schema.names, found[LABELS:].T, strict=True):
        both = [answers[name] for answers in (net, frozen) if name in answers]
        assert len(both) == 1 + (name in ("Smiling", "Bangs"))
        assert column == pytest.approx(np.mean(both, axis=0), abs=1e-4)


def test_of_validation_and_test_faces_nothing_is_learnt(
    faces: Path, teachers: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Though the folder of further faces is that of the set itself, with one more."""
    caplog.set_level("INFO")
    pictures = faces / "img_align_celeba"
    new = pictures / "new.jpg"
    new.write_bytes((pictures / "000001.jpg").read_bytes())
    try:
        more = [{"format": "folder", "root": str(pictures)}]
        settings = settings_for(faces, teachers[0], data=more)
        sources = taught_sources(settings, partition(settings))
    finally:
        new.unlink()
    assert list(sources[-1].faces.names) == ["new.jpg"]
    assert any("40 faces that --data has, too, left out" in m for m in caplog.messages)


def test_stage_2_learns_them_all_and_says_so(
    faces: Path, teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    more = draw_faces(tmp_path, 20, seed=9)
    options = (
        "--data", f"celeba:{faces}", "--labels", LABELS, "--out", tmp_path / "run",
        "--teacher", teachers[0], "--unlabelled", f"celeba:{more}",
        "--from", "none", "head.pooling=average", "optim.epochs=1", *TINIER,
    )  # fmt: skip
    sspl("finetune", "--preset", "demo", *options)
    rest = len(partition(settings_for(faces)).rest)
    train = len(parse_data_spec(f"celeba:{more}").open().split("train"))
    assert 0 < train < 20
    said = f"(net) stood in for labels that were not known, those of {rest + train} further faces"
    sspl("model", "pack", tmp_path / "run", "--out", tmp_path / "packed")
    sspl("model", "pack", tmp_path / "packed", "--out", tmp_path / "again-packed")
    for folder in ("packed", "again-packed"):
        assert said in (tmp_path / folder / "MODEL_CARD.md").read_text()
    sspl("evaluate", tmp_path / "run", "--split", "test")
    sspl("report", tmp_path / "run", "--out", tmp_path / "report.html")
    assert said in (tmp_path / "report.html").read_text()
    # Another run of the same settings is asked for the same targets, in the same order.
    run = Finetuning(settings_for(faces, teachers[0]))
    run.open(tmp_path / "again", resume=False)
    assert len(run.train) == len(run.labels) == LABELS + rest
    assert sum(len(b.index) for b in run.epoch(0, 0).batches) == LABELS + rest


def test_teachers_are_named_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = taught_text((Path(), tmp_path / "there"), 1234)
    assert said.startswith(
        "Answers of other models (here, there) stood in for labels that were not"
    )
    assert "those of 1,234 further faces" in said


def test_who_cannot_teach_is_refused(
    faces: Path, teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    spec = table(faces, tmp_path / "one.csv", "Bags_Under_Eyes")
    data = ("--preset", "demo", "--data", spec, "--out", tmp_path / "run", *TINIER)
    data += ("--from", "none", "head.pooling=average")
    sentence = refused("finetune", *data, "--labels", LABELS, "--teacher", teachers[1])
    assert sentence.startswith(f"distillation.teachers: {teachers[1]} knows none of the attributes")
    assert sentence.endswith("(Bags_Under_Eyes); it has Smiling, Bangs.")
    exported = tmp_path / "net.onnx"
    exported.touch()
    sentence = refused("finetune", *data, "--labels", LABELS, "--teacher", exported)
    assert "is an exported file; give the run" in sentence
    sentence = refused("finetune", *data, "--teacher", teachers[0])
    assert "every training face is labelled" in sentence
    assert "--unlabelled" in sentence
    sentence = refused("finetune", *data, "--unlabelled", f"folder:{faces}")
    assert "distillation.data needs teachers to ask: add --teacher" in sentence
