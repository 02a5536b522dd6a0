"""Stage 1 with Lightning Fabric for device, precision and processes, beside torch's own.

    pip install lightning-fabric
    python benchmarks/fabric.py [--precision fp32] [--rounds 3] [KEY=VALUE]...
    torchrun --nproc-per-node 2 benchmarks/fabric.py

Both learn from the same drawn faces with the same draws. It prints one JSON line: whether the
weights are the same bits, milliseconds a step, and seconds that the import takes after torch's.
docs/architecture.md says what follows from it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import click
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from sspl.data.canvases import CanvasBatch
from sspl.data.data_settings import parse_data_spec
from sspl.data.synthetic import write_synthetic
from sspl.distributed.group import in_turn, is_first, joined, process_count
from sspl.metrics.tallies import add
from sspl.optim.optimiser import set_lr
from sspl.settings import build
from sspl.tasks import Views
from sspl.training import pretrain as stage1
from sspl.training.loop import Loop, Place
from sspl.training.pretext_network import Pretrainer
from sspl.training.stage_settings import PretrainSettings, preset

NAMES = {"fp32": "32-true", "bf16": "bf16-mixed"}


class Opaque:
    """Views as Fabric lets them pass: it walks through arguments and refuses frozen dataclasses."""

    def __init__(self, views: Views) -> None:
        self.views = views


class Losing(nn.Module):
    """The network of stage 1 as Fabric can wrap it: nothing but tensors come out of it."""

    def __init__(self, network: Pretrainer) -> None:
        super().__init__()
        self.network = network

    def forward(self, hidden: Opaque) -> dict[str, Tensor]:
        self.results, self.compared = self.network(hidden.views)
        return {name: result.loss for name, result in self.results.items()}


class FabricPretraining(stage1.Pretraining):
    """Stage 1, whose network and optimiser Fabric has wrapped."""

    def start(self) -> None:
        several = process_count() > 1
        self.fabric = Fabric(
            accelerator="cpu",
            devices=process_count(),
            strategy=DDPStrategy(find_unused_parameters=False) if several else "auto",
            precision=NAMES[self.settings.runtime.precision],  # type: ignore[arg-type]
        )
        self.fabric.launch()
        self.losing = Losing(self.network)
        self.wrapped, self.optimiser = self.fabric.setup(self.losing, self.optimiser)
        self.engine = self.called  # type: ignore[assignment]

    def called(self, views: Views) -> Any:
        """Return what the network itself would have: the losses went through Fabric."""
        losses = self.wrapped(Opaque(views))
        results = {n: replace(r, loss=losses[n]) for n, r in self.losing.results.items()}
        return results, self.losing.compared

    def losses(self, batch: CanvasBatch, place: Place) -> Any:
        # Fabric's own wrapper goes into autocast around the network's forward pass.
        with mock.patch.object(stage1, "autocast", return_value=nullcontext()):
            return super().losses(batch, place)


class FabricLoop(Loop[CanvasBatch]):
    """The loop, whose step is Fabric's: its guard against NaN is left out."""

    def step(self, place: Place, batches: Iterator[CanvasBatch]) -> None:
        stage, parts = self.stage, place.micro.parts
        assert isinstance(stage, FabricPretraining)
        set_lr(stage.optimiser, stage.lr(place))
        for part in range(parts):
            with stage.fabric.no_backward_sync(stage.wrapped, enabled=part + 1 < parts):
                losses = stage.losses(next(batches), place._replace(part=part))
                stage.fabric.backward(losses.total / parts)
            add(self.progress.tallies, losses.tallies)
        stage.fabric.clip_gradients(stage.wrapped, stage.optimiser, max_norm=stage.clip)
        stage.optimiser.step()
        stage.optimiser.zero_grad(set_to_none=True)
        stage.stepped(place)


def learnt(kind: type[stage1.Pretraining], settings: PretrainSettings, out: Path) -> Any:
    """Return the weights after two epochs and milliseconds a step of the second."""
    run = kind(settings)
    run.open(out, resume=False)
    run.start()
    loop = (FabricLoop if kind is FabricPretraining else Loop)(run, out)
    loop.epoch(0)
    loop.progress.steps, begun = 0, time.perf_counter()
    loop.epoch(1)
    ms = (time.perf_counter() - begun) * 1000 / loop.progress.steps
    return {n: t.clone() for n, t in run.network.state_dict().items()}, ms


def import_seconds() -> float:
    """Return what the import of Fabric takes in a new process that has torch already."""
    code = "import time, torch; t = time.perf_counter(); import lightning_fabric; "
    printed = [sys.executable, "-c", code + "print(time.perf_counter() - t)"]
    return float(subprocess.run(printed, check=True, capture_output=True, text=True).stdout)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@click.command()
@click.option("--precision", default="fp32", type=click.Choice(list(NAMES)))
@click.option("--rounds", default=3)
@click.argument("overrides", nargs=-1)
def main(precision: str, rounds: int, overrides: tuple[str, ...]) -> None:
    """Learn by turns with and without Fabric, and print what differs."""
    folder = Path(tempfile.gettempdir()) / "sspl-fabric"
    with joined():
        in_turn(lambda: write_synthetic(folder / "faces", 128, seed=1, size=48))
        source = f"celeba:{folder}/faces,masks={folder}/faces/masks"
        small = ["canvas=48", "input_size=32", "backbone.width=0.25", "optim.batch_size=32"]
        fixed = ["runtime.device=cpu", f"runtime.precision={precision}"]
        chosen = preset("small", "pretrain") | {"data": [parse_data_spec(source).model_dump()]}
        settings = build(PretrainSettings, chosen, [*small, *fixed, *overrides])
        took: dict[str, list[float]] = {"ours": [], "fabric": []}
        equal = True
        for number in range(rounds):
            runs = folder / f"run-{number}-{time.time_ns()}"
            kinds = {"ours": stage1.Pretraining, "fabric": FabricPretraining}
            weights = {}
            for name in list(kinds)[:: -1 if number % 2 else 1]:
                weights[name], ms = learnt(kinds[name], settings, runs / name)
                took[name].append(ms)
            equal &= same(weights["ours"], weights["fabric"])
        figures = {f"{name} ms/step": round(median(ms), 1) for name, ms in took.items()}
        if is_first():
            told = {"processes": process_count(), "precision": precision, "same bits": equal}
            figures["import s"] = round(import_seconds(), 1)
            print(json.dumps(told | figures))


if __name__ == "__main__":
    main()
