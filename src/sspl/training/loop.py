"""The loop that everything here learns by: stage 1, stage 2 and the parser.

It has the processes, accumulation, learning rate, the guard against NaN, progress, checkpoints and
resuming. A `Stage` gives it batches, a function from a batch to losses, and what to save.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sspl.device import (
    compile_errors_explained,
    keep_freed_memory,
    pick_device,
    seed_everything,
    use_fixed_order,
    use_tensor_cores,
)
from sspl.distributed.dropout import FaceDraws, drop_by_face
from sspl.distributed.group import (
    gathered,
    gradients_wait,
    in_turn,
    is_first,
    level,
    same_everywhere,
)
from sspl.distributed.norms import synchronise_norms
from sspl.distributed.sampler import MicroBatches
from sspl.io.checkpoints import NOBODY, Learner, load_state, save_state
from sspl.io.progress import Pace, note, watched
from sspl.metrics.tallies import Tally, add, restored, states, together
from sspl.optim.optimiser import LOWER_LR, NO_PARTS, Guard, back_propagate, set_lr, update
from sspl.settings import Precision

B = TypeVar("B")
LogRow = dict[str, Any]

LOOK_EVERY: Final = 20
"""Steps between looks at losses on a device that each look has to wait for."""


class Place(NamedTuple):
    """Where a run is: 0-based epoch, step of it, and part of the step, with how many there are."""

    epoch: int
    step: int
    steps: int
    part: int
    micro: MicroBatches

    @property
    def progress(self) -> float:
        """Share of the epoch that lies behind once this step is made, in (0, 1]."""
        return (self.step + 1) / self.steps


@dataclass(frozen=True)
class Losses:
    """What one micro-batch says.

    Args:
        total: scalar, to be made small.
        tallies: figures for the log, `loss` among them.
        terms: of the total, to name the one that is not a number.
    """

    total: Tensor
    tallies: Mapping[str, Tally]
    terms: Mapping[str, Tensor] = field(default_factory=lambda: NO_PARTS)


@dataclass(frozen=True)
class Epoch(Generic[B]):
    """How each step of an epoch is dealt out, and this process's micro-batches of those left."""

    steps: Sequence[MicroBatches]
    batches: Iterator[B]


@dataclass
class Progress:
    """How far a run has come.

    Args:
        rows: the log, one row for each finished epoch.
        steps: finished steps of the epoch under way.
        tallies: figures of those steps.
    """

    rows: list[LogRow] = field(default_factory=list)
    steps: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)


class Stage(ABC, Generic[B]):
    """What learns, as the loop sees it.

    Attributes:
        kind: names the run in its files.
        epochs: how many there are; a parser counts intervals of steps instead.
        clip: largest norm of the gradient.
        device: where it learns.
        engine: what is called in training, so that gradients are averaged over processes.
        optimiser: of all that `losses` reaches.
        remedy: what to do where a loss is not a number.
        scaler: of the loss, where the arithmetic is fp16.
    """

    kind: ClassVar[str]
    epochs: int
    clip: float
    device: torch.device
    engine: nn.Module
    optimiser: torch.optim.Optimizer
    remedy: str = LOWER_LR
    scaler: GradScaler | None = None

    @abstractmethod
    def weights(self) -> nn.Module:
        """Return everything with weights, to be saved and restored as one."""

    @abstractmethod
    def epoch(self, epoch: int, done: int) -> Epoch[B]:
        """Return an epoch of which `done` steps are behind, and make the network ready for it."""

    @abstractmethod
    def lr(self, place: Place) -> float:
        """Return the learning rate of a step."""

    @abstractmethod
    def losses(self, batch: B, place: Place) -> Losses:
        """Return the losses of a micro-batch."""

    def where(self, place: Place) -> str:
        """Name a step in messages."""
        return f"epoch {place.epoch + 1}, step {place.step + 1}"

    def start(self) -> None:
        """Compile and bind processes together, once everything is restored."""

    def stepped(self, place: Place) -> None:
        """Do what follows each change of the weights."""

    def saves(self, place: Place) -> bool:
        """Tell whether to save after a step inside an epoch."""
        return False

    def row(self, epoch: int, figures: Mapping[str, float | None]) -> LogRow:
        """Return the row of the log for a finished epoch and its figures."""
        return {"epoch": epoch + 1, "lr": self.optimiser.param_groups[0]["lr"]} | dict(figures)

    def judge(self, rows: Sequence[LogRow], out: Path) -> bool:
        """Look at the network after an epoch, whose row is the last; tell whether to save."""
        return True

    def saved(self, rows: Sequence[LogRow], out: Path) -> None:
        """Write, in the first process, what people read of a run that has just been saved."""

    def told(self, row: LogRow, left: str) -> None:
        """Say how an epoch went and, in words, how long the rest takes, where no bar is shown."""
        figures = {name: value for name, value in row.items() if name != "epoch"}
        note("epoch", row["epoch"], self.epochs, figures, left)

    def settled(self, rows: Sequence[LogRow]) -> bool:
        """Tell whether nothing is to be expected of further epochs."""
        return False

    def others(self) -> Mapping[str, Learner]:
        """Return what has an optimiser of its own, by a name without a dot."""
        return NOBODY

    def memory(self) -> LogRow:
        """Return what must come back beside weights and progress, as JSON values."""
        return {}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Take back what `memory` gave."""


class Loop(Generic[B]):
    """A run under way."""

    def __init__(self, stage: Stage[B], out: Path) -> None:
        self.stage, self.out = stage, out
        self.progress = Progress()
        self.pace: Pace | None = None
        on_cpu = stage.device.type == "cpu"
        self.look_every = 1 if on_cpu else LOOK_EVERY
        self.guard = Guard(stage.remedy, on_cpu, stage.scaler)

    def restore(self) -> bool:
        """Go back to where the run in the folder was; tell whether it had saved anything.

        Raises `SsplError` when the processes do not see the same checkpoint.
        """
        stage, progress = self.stage, self.progress
        found = in_turn(
            lambda: load_state(self.out, stage.weights(), stage.optimiser, stage.others())
        )
        if found is not None:
            progress.rows, progress.steps = found["rows"], found.get("steps", 0)
            tallies = found.get("tallies", {}) if is_first() else {}
            progress.tallies = {name: restored(tally) for name, tally in tallies.items()}
            if stage.scaler is not None:
                stage.scaler.load_state_dict(found.get("scaler", {}))
            stage.recall(found)
        here = (len(progress.rows), progress.steps)
        same_everywhere(here, f"the checkpoint in {self.out}")
        return found is not None

    def run(self) -> list[LogRow]:
        """Learn to the end; return the log, one row an epoch.

        Raises `TrainingError` when a loss is not a number.
        """
        stage, progress, rows = self.stage, self.progress, self.progress.rows
        stage.start()
        for epoch in range(len(rows), stage.epochs):
            if stage.settled(rows):
                break
            self.epoch(epoch)
            level(stage.weights())
            figures = together(gathered(states(progress.tallies)))
            rows.append(stage.row(epoch, {name: t.value() for name, t in figures.items()}))
            progress.steps, progress.tallies = 0, {}
            if stage.judge(rows, self.out):
                self._save()
                if is_first():
                    stage.saved(rows, self.out)
            stage.told(rows[-1], self.pace.left(epoch + 1) if self.pace else "")
        return rows

    @compile_errors_explained()
    def epoch(self, epoch: int) -> None:
        """Go on with an epoch where the progress stands, to its end."""
        stage, progress = self.stage, self.progress
        source = stage.epoch(epoch, progress.steps)
        steps = len(source.steps)
        bar = watched(
            range(progress.steps, steps),
            f"{stage.kind} {epoch + 1}/{stage.epochs}",
            steps,
            unit="step",
            leave=False,
            initial=progress.steps,
        )
        for number in bar:
            self.pace = self.pace or Pace(epoch + number / steps, stage.epochs)
            place = Place(epoch, number, steps, 0, source.steps[number])
            self.step(place, source.batches)
            progress.steps = number + 1
            saves = progress.steps < steps and stage.saves(place)
            if saves or progress.steps == steps or progress.steps % self.look_every == 0:
                self.guard.look()
                loss = progress.tallies["loss"].value()
                left = self.pace.left(epoch + progress.steps / steps)
                bar.set_postfix_str(f"loss {loss:.3f}" + (f", {left} in all" if left else ""))
            if saves:
                level(stage.weights())
                self._save()

    def step(self, place: Place, batches: Iterator[B]) -> None:
        """Add up the gradients of a batch, part by part, and change the weights once."""
        stage, parts, where = self.stage, place.micro.parts, self.stage.where(place)
        set_lr(stage.optimiser, stage.lr(place))
        for part, batch in enumerate(islice(batches, parts)):
            with gradients_wait(stage.engine) if part + 1 < parts else nullcontext():
                losses = stage.losses(batch, place._replace(part=part))
                back_propagate(losses.total / parts, where, self.guard, losses.terms)
            add(self.progress.tallies, losses.tallies)
        update(stage.optimiser, stage.clip, where, self.guard)
        stage.stepped(place)

    def _save(self) -> None:
        stage, progress = self.stage, self.progress
        tallies = together(gathered(states(progress.tallies)))
        if not is_first():
            return
        metadata = {
            "kind": f"{stage.kind}-state",
            "rows": progress.rows,
            "steps": progress.steps,
            "tallies": states(tallies),
            "scaler": {} if stage.scaler is None else stage.scaler.state_dict(),
        } | stage.memory()
        save_state(self.out, stage.weights(), stage.optimiser, metadata, stage.others())


def begin(
    device: str, seed: int, precision: Precision, deterministic: bool = False
) -> torch.device:
    """Seed every source of randomness and return the device that the settings name.

    `deterministic` is as in `use_fixed_order`.
    """
    keep_freed_memory()
    use_fixed_order(deterministic)
    found = pick_device(device)
    use_tensor_cores(found, precision)
    seed_everything(seed)
    return found


def placed(network: nn.Module, device: torch.device, sync_batchnorm: bool) -> FaceDraws:
    """Make a network ready to be trained there, in place; return where its dropout draws from."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if sync_batchnorm:
        synchronise_norms(network)
    return drop_by_face(network)
