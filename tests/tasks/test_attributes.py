"""Known attributes as a task: the loss by hand, missing labels, and which label is whose."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared import context, refused, sspl
from sspl.data.canvases import FaceSource
from sspl.data.data_settings import parse_data_spec
from sspl.data.synthetic import write_synthetic
from sspl.errors import SettingsError
from sspl.models.backbones.base import Backbone
from sspl.tasks.attributes import AttributesSettings, KnownAttributes
from sspl.tasks.base import Views
from sspl.training.face_sources import attribute_labels

NO_BACKBONE: Backbone = None  # type: ignore[assignment]


def task(*names: str) -> KnownAttributes:
    made = KnownAttributes(AttributesSettings(names=names), context(4))
    with torch.no_grad():
        made.head.weight.zero_()
        made.head.bias.copy_(torch.arange(len(names)).float())
    return made


def views(labels: dict[str, list[int]]) -> Views:
    empty = torch.empty(0)
    columns = {n: torch.tensor(values, dtype=torch.int8) for n, values in labels.items()}
    return Views(empty, None, empty, None, torch.Generator(), columns)


def test_the_loss_is_the_mean_over_known_labels() -> None:
    subject = task("Smiling", "Bald", "Male")
    maps = [torch.zeros(2, subject.head.in_features, 1, 1)]
    # Logits are 0, 1, 2 for each face; Male is not among the labels.
    result = subject(NO_BACKBONE, views({"Bald": [1, 0], "Smiling": [1, -1]}), maps)
    of_one, of_zero = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert result.loss.item() == pytest.approx((math.log(2) + of_one + of_zero) / 3)
    # 0 is no yes: Smiling is missed, Bald is found once of twice.
    assert result.tallies["accuracy"].value() == pytest.approx(1 / 3)


def test_a_batch_without_labels_teaches_nothing() -> None:
    subject = task("Smiling")
    maps = [torch.zeros(2, subject.head.in_features, 1, 1)]
    result = subject(NO_BACKBONE, views({}), maps)
    assert result.loss.item() == 0


def test_labels_of_several_sets_lie_one_after_the_other(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 2)):
        write_synthetic(tmp_path / name, count, 1, 32)
    first, second = (parse_data_spec(f"celeba:{tmp_path / n}").open() for n in "ab")
    bald = first.schema.index("Bald")
    kept = [i for i in range(len(second.schema.names)) if i != bald]
    names = tuple(second.schema.names[i] for i in kept)
    regions = tuple(second.schema.regions[i] for i in kept)
    second = replace(
        second, schema=second.schema.__class__(names, regions), labels=second.labels[:, kept]
    )
    found = attribute_labels([FaceSource(f, (0, 0, 1, 1)) for f in (first, second)])
    smiling = [s.labels[:, s.schema.index("Smiling")] for s in (first, second)]
    assert found["Smiling"].tolist() == [*smiling[0], *smiling[1]]
    assert found["Bald"].tolist() == [*first.labels[:, bald], -1, -1]


def test_stage_1_learns_them_and_does_not_go_on_with_others(tmp_path: Path) -> None:
    faces, out = tmp_path / "faces", tmp_path / "run"
    write_synthetic(faces, 30, 1, 48)
    quick = [
        "tasks=[attributes]",
        "task.attributes.names=[Smiling,Male]",
        "optim.epochs=1",
        "optim.batch_size=8",
        "backbone.width=0.125",
        "canvas=48",
        "input_size=32",
    ]
    sspl("pretrain", "--data", f"celeba:{faces}", "--out", out, *quick)
    labels = faces / "list_attr_celeba.txt"
    text = labels.read_text(encoding="utf-8")
    sspl("pretrain", "--out", out, "--resume")
    labels.write_text(text.replace(" 1", "-1", 1), encoding="utf-8")
    assert "000001.jpg" in refused("pretrain", "--out", out, "--resume")


def test_a_pack_has_no_labels_here(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "faces", 3, 1, 32)
    sspl("data", "pack", f"celeba:{tmp_path / 'faces'}", "--out", tmp_path / "pack")
    faces = parse_data_spec(f"packed:{tmp_path / 'pack'}").stream(("train",))
    with pytest.raises(SettingsError, match="comes without labels"):
        attribute_labels([FaceSource(faces, (0, 0, 1, 1))])
