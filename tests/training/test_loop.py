"""The loop by itself: losses that are looked at late, and fp16's scale, which is saved."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sspl.distributed.sampler import MicroBatches
from sspl.errors import TrainingError
from sspl.io.checkpoints import load_state
from sspl.metrics.tallies import Mean
from sspl.optim.optim_settings import OptimSettings
from sspl.optim.optimiser import Guard, make_optimiser
from sspl.training.loop import Epoch, Loop, Losses, Place, Stage

STEPS = 3


class Line(Stage[Tensor]):
    """A layer that learns to say 0; its loss is no number in some steps."""

    kind = "line"
    clip = 0.0
    device = torch.device("cpu")

    def __init__(self, epochs: int, spoilt: Sequence[tuple[int, int]] = ()) -> None:
        torch.manual_seed(0)
        self.epochs, self.spoilt = epochs, spoilt
        self.engine = nn.Linear(2, 1)
        self.optimiser = make_optimiser([(list(self.engine.parameters()), 1.0)], OptimSettings())

    def weights(self) -> nn.Module:
        return self.engine

    def epoch(self, epoch: int, done: int) -> Epoch[Tensor]:
        return Epoch([MicroBatches(2)] * STEPS, iter([torch.ones(2, 2)] * (STEPS - done)))

    def lr(self, place: Place) -> float:
        return 0.1

    def losses(self, batch: Tensor, place: Place) -> Losses:
        loss = self.engine(batch).square().mean()
        if (place.epoch, place.step) in self.spoilt:
            loss = loss * torch.nan
        return Losses(loss, {"loss": Mean.of(loss, 2)})


def test_a_loss_looked_at_late_is_never_saved(tmp_path: Path) -> None:
    stage = Line(3, spoilt=[(1, 1)])
    loop = Loop(stage, tmp_path)
    loop.guard, loop.look_every = Guard(stage.remedy, at_once=False), 20
    with pytest.raises(TrainingError, match="the loss is nan in epoch 2, step 2; the last"):
        loop.run()
    assert not torch.isfinite(stage.engine.weight).any()  # the harm was done
    kept = Line(3)
    found = load_state(tmp_path, kept.weights(), kept.optimiser)
    assert found is not None
    assert [row["epoch"] for row in found["rows"]] == [1]
    assert torch.isfinite(kept.engine.weight).all()


def test_figures_are_the_same_however_seldom_they_are_looked_at(tmp_path: Path) -> None:
    logs = []
    for every in (1, 2, 20):
        loop = Loop(Line(2), tmp_path / str(every))
        loop.out.mkdir()
        loop.look_every = every
        logs.append(loop.run())
    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0]) == 2


def test_the_scale_of_the_loss_goes_on_where_it_was(tmp_path: Path) -> None:
    ends = []
    for parts in ((4,), (2, 4)):
        out = tmp_path / str(len(parts))
        out.mkdir()
        for epochs in parts:
            stage = Line(epochs)
            stage.scaler = GradScaler("cpu", init_scale=8.0, growth_interval=5)
            loop = Loop(stage, out)
            loop.restore()
            loop.run()
        ends.append((stage.engine.weight.tolist(), stage.scaler.state_dict()))
    assert ends[0] == ends[1]
    assert ends[0][1]["scale"] == 8.0 * 4  # it doubled after 5 and 10 of 12 steps
