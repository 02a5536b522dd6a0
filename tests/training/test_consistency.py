"""Unlabelled faces in stage 2: the loss, the views, the ramp."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sspl.data.data_settings import DataSettings
from sspl.errors import SettingsError
from sspl.models.attributes import AttributeNetwork
from sspl.models.scoring import logits_of
from sspl.settings import build
from sspl.training.consistency import UnlabelledFaces, consistency_loss, erase
from sspl.training.face_sources import unlabelled_sources
from sspl.training.loss_settings import ConsistencySettings
from sspl.training.stage_settings import FinetuneSettings


def cross_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


LOGITS = torch.tensor([[1.0, -1.0, 0.3], [2.0, 0.0, -0.7]])
TEACHER = torch.tensor([[0.95, 0.5, 0.05], [0.1, 0.89, 0.999]])


def test_only_what_the_teacher_is_sure_of_counts() -> None:
    loss = consistency_loss(LOGITS, TEACHER, 0.9, soft=False)
    # 0.95, 0.05, 0.1 (just sure) and 0.999; neither 0.5 nor 0.89.
    expected = [
        cross_entropy(1.0, 1),
        cross_entropy(0.3, 0),
        cross_entropy(2.0, 0),
        cross_entropy(-0.7, 1),
    ]
    assert float(loss) == pytest.approx(sum(expected) / 4)
    soft = consistency_loss(LOGITS, TEACHER, 0.9, soft=True)
    expected = [
        cross_entropy(1.0, 0.95),
        cross_entropy(0.3, 0.05),
        cross_entropy(2.0, 0.1),
        cross_entropy(-0.7, 0.999),
    ]
    assert float(soft) == pytest.approx(sum(expected) / 4)


def test_an_unsure_teacher_teaches_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = consistency_loss(logits, torch.full((2, 3), 0.5), 0.9, soft=False)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_erased_square_is_grey_and_no_larger_than_asked() -> None:
    views = torch.ones(200, 3, 20, 20)
    erased = erase(views, 0.4, torch.Generator().manual_seed(0))
    gone = erased[:, 0] == 0
    assert torch.equal(erased[:, 1] == 0, gone)
    sides = gone.any(1).sum(1)
    assert 7 <= int(sides.max()) <= 8
    for square in gone[sides > 0]:
        rows, columns = square.any(1), square.any(0)
        assert torch.equal(square, rows[:, None] & columns[None, :])
    assert float(gone.float().mean()) > 0.02


class Bright(nn.Module):
    """Says how bright the left half is."""

    def forward(self, views: Tensor) -> Tensor:
        return views[:, :, :, : views.shape[3] // 2].mean((1, 2, 3))[:, None] * 4


def test_opinions_average_the_face_and_its_mirror_image() -> None:
    views = torch.zeros(1, 3, 4, 4)
    views[:, :, :, :2] = 1.0
    canvas = 127.5 * (views + 1)
    network: AttributeNetwork = Bright()  # type: ignore[assignment]
    opinion = logits_of(network, canvas, 4, True, "fp32").sigmoid()
    assert opinion.item() == pytest.approx(1 / (1 + math.exp(-2)))


class Numbered:
    """Canvases of one grey level each, that remember the order they were asked for."""

    def __init__(self, n: int) -> None:
        self.n, self.asked = n, []

    def __len__(self) -> int:
        return self.n

    def random_order(self, generator: torch.Generator) -> list[int]:
        return torch.randperm(self.n, generator=generator).tolist()

    def batches(self, order: list[int], batch_size: int):  # type: ignore[no-untyped-def]
        for i in range(0, len(order), batch_size):
            self.asked.append(order[i : i + batch_size])
            yield type("Batch", (), {"images": torch.tensor(order[i : i + batch_size])})


def test_stream_goes_round_all_faces_before_any_comes_again() -> None:
    canvases = Numbered(10)
    settings = ConsistencySettings(ratio=2)
    faces = UnlabelledFaces(canvases, settings, 8, batch_size=3)  # type: ignore[arg-type]
    batches = [b.images for b in faces.batches(5, torch.Generator().manual_seed(0))]
    assert [len(b) for b in batches] == [6] * 5
    seen = np.concatenate([b.numpy() for b in batches])
    for round_number in range(3):
        assert sorted(seen[10 * round_number :][:10]) == list(range(10))


def test_weight_rises_over_the_first_epochs() -> None:
    settings = ConsistencySettings(weight=2.0, ramp_epochs=4)
    faces = UnlabelledFaces(Numbered(3), settings, 8, 2)  # type: ignore[arg-type]
    assert [faces.weight(e, 0.5) for e in (0, 1, 3, 4, 30)] == [0.25, 0.75, 1.75, 2.0, 2.0]


def test_consistency_needs_a_teacher() -> None:
    with pytest.raises(SettingsError, match="needs a teacher: set ema"):
        build(FinetuneSettings, {"consistency": {"weight": 1.0}})


def test_faces_of_other_splits_are_left_alone(tmp_path: Path) -> None:
    lines = ["image,split,Smiling"]
    for i in range(9):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{('train', 'val', 'test')[i % 3]},1")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    labelled = DataSettings(format="csv", root=tmp_path / "labels.csv", images=tmp_path)
    plain = DataSettings(format="folder", root=tmp_path)
    sources = unlabelled_sources((labelled, plain), ("train",))
    assert sources[0].faces.names == ("0.png", "3.png", "6.png")
    assert len(sources[1].faces) == 9
    with pytest.raises(SettingsError, match="has no face in"):
        unlabelled_sources((labelled,), ("holiday",))
