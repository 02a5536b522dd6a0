"""What all stage-1 tasks share: tallies, and norms that are left alone."""

import pytest
import torch

from sspl.domain.taxonomy import built_in_taxonomy
from sspl.models.backbones.resnet import ResNet
from sspl.models.network_settings import BackboneSettings
from sspl.tasks.base import (
    PretextTask,
    TaskContext,
    TaskResult,
    Views,
    accuracy_tally,
    frozen_running_averages,
)


def test_accuracy_by_hand() -> None:
    # The largest of each row: 2, 0, 1, 2.
    logits = torch.tensor([[0.0, 1, 2], [3, 1, 2], [0, 5, 2], [-3, -2, -1]])
    tally = accuracy_tally(logits, torch.tensor([2, 1, -100, 2]))
    assert (tally.total, tally.count) == (2, 3)
    tally = accuracy_tally(logits, torch.tensor([2, 1, -100, 0]), ignore=0)
    assert (tally.total, tally.count) == (1, 3)
    nothing = accuracy_tally(logits, torch.full((4,), -100))
    assert (nothing.total, nothing.count) == (0, 0)


def test_a_task_may_have_no_tally() -> None:
    first, second = TaskResult(torch.zeros(())), TaskResult(torch.zeros(()))
    assert first.tallies == {}
    assert first.tallies is not second.tallies


def test_what_a_task_is_given_and_asked_for_unless_it_says_so() -> None:
    """No labels, the plain network, and nothing promised of its parameters."""
    canvas = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    assert Views(canvas, None, canvas.float(), None, torch.Generator()).labels == {}
    context = TaskContext(
        ResNet(BackboneSettings(width=0.125)), built_in_taxonomy("fasseg6"), input_size=32
    )
    assert context.architecture == "sspl"
    assert not PretextTask.needs_labels
    assert not PretextTask.uses_all_parameters


@pytest.mark.parametrize("crops", [False, True])
def test_beside_crops_their_averages_stay(crops: bool) -> None:
    backbone = ResNet(BackboneSettings(width=0.125)).train()
    norm = next(m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with PretextTask.beside_crops(backbone, [] if crops else None):
        backbone(torch.rand(2, 3, 32, 32) + 5)
    assert bool(norm.running_mean.any()) != crops  # type: ignore[union-attr]


def test_momentum_comes_back_after_an_error() -> None:
    norm = torch.nn.BatchNorm2d(3, momentum=0.3)

    def fail_inside() -> None:
        with frozen_running_averages(norm):
            assert norm.momentum == 0
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert norm.momentum == 0.3
