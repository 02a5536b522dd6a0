"""Losses that are no number: found at once or later, and fp16 with scaling of the loss."""

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sspl.errors import TrainingError
from sspl.optim.optimiser import Guard, back_propagate, update


def layer_and_optimiser() -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    return layer, torch.optim.SGD(layer.parameters(), lr=0.1)


def loss_of(layer: nn.Linear, factor: float = 1.0) -> Tensor:
    return layer(torch.ones(2, 3)).square().sum() * factor


def test_looked_at_later_the_first_loss_that_is_none_is_named() -> None:
    layer, optimiser = layer_and_optimiser()
    guard = Guard("try less", at_once=False)
    for step, factor in enumerate([1.0, 1.0, torch.nan, torch.nan, 1.0], start=1):
        loss = loss_of(layer, factor)
        parts = {"good": torch.zeros(()), "bad": loss}
        back_propagate(loss, f"step {step}", guard, parts)
        update(optimiser, 0, f"step {step}", guard)
        if step == 2:
            guard.look()
    with pytest.raises(TrainingError) as caught:
        guard.look()
    assert str(caught.value) == (
        "the loss of bad is nan in step 3; the last checkpoint is kept: try less."
    )
    guard.look()  # what was looked at is not looked at again


def test_looked_at_later_a_gradient_that_is_none_is_named() -> None:
    layer, optimiser = layer_and_optimiser()
    guard = Guard(at_once=False)
    back_propagate((layer.weight * 0).abs().sqrt().sum(), "step 1", guard)
    update(optimiser, 5.0, "step 1", guard)
    with pytest.raises(TrainingError, match="the norm of the gradient is nan in step 1"):
        guard.look()


def test_unless_told_otherwise_a_loss_is_looked_at_as_it_comes() -> None:
    layer, _ = layer_and_optimiser()
    with pytest.raises(TrainingError) as caught:
        back_propagate(loss_of(layer, torch.inf), "step 1", Guard())
    assert str(caught.value) == (
        "the loss is inf in step 1; the last checkpoint is kept: "
        "lower optim.lr or set runtime.precision=fp32."
    )
    assert layer.weight.grad is None


def test_what_is_looked_at_later_keeps_no_graph_in_memory() -> None:
    layer, _ = layer_and_optimiser()
    part = loss_of(layer)
    alive = weakref.ref(part)
    guard = Guard(at_once=False)
    back_propagate(part * 2, "step 1", guard, {"part": part})
    del part
    assert alive() is None
    guard.look()


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_scaling_by_a_power_of_two_changes_nothing(clip: float) -> None:
    ways = []
    for scaler in (None, GradScaler("cpu", init_scale=1024.0)):
        layer, optimiser = layer_and_optimiser()
        guard = Guard(scaler=scaler)
        for step in range(3):
            back_propagate(loss_of(layer), f"step {step}", guard)
            update(optimiser, clip, f"step {step}", guard)
        ways.append(layer.weight.detach())
    assert torch.equal(*ways)


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    layer, optimiser = layer_and_optimiser()
    before = layer.weight.detach().clone()
    scaler = GradScaler("cpu", init_scale=2.0**127)
    guard = Guard(scaler=scaler)
    back_propagate(loss_of(layer, 1e3), "step 1", guard)
    update(optimiser, 5.0, "step 1", guard)
    assert torch.equal(layer.weight, before)
    assert scaler.get_scale() == 2.0**126
    assert layer.weight.grad is None
