"""What one training step takes, what bounds it, and how much faster it is than the plain way.

    python benchmarks/step.py [--stage 1] [--preset paper-sspl] [--size 224] [--batch-size 16]
        [--rounds 5] [--compile] [KEY=VALUE]...

`plain` is fp32, contiguous, with torch's own PReLU and updated tensor by tensor (`plain.py`);
`fp32` is as shipped but in fp32; `as shipped` is bf16 where the processor has it. All take turns in
each round, and each figure is the median over the rounds. A step is everything from decoded
canvases to new weights; the time of each part comes from torch's profiler.
The faces are drawn; their number and content have no influence on the time.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from plain import PlainFinetuning, PlainPretraining, fp32
from timing import Work, timed
from torch.profiler import ProfilerActivity, profile, record_function

from sspl.data.canvases import CanvasBatch
from sspl.data.synthetic import write_synthetic
from sspl.device import has_fast_bf16
from sspl.distributed.sampler import MicroBatches
from sspl.domain.taxonomy import load_taxonomy
from sspl.io.cores import usable_cores
from sspl.settings import build, merge
from sspl.tasks.prt import PatchRotation
from sspl.training import finetune as stage2
from sspl.training import loop as loops
from sspl.training import pretrain as stage1
from sspl.training.loop import Loop, Place
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

KINDS = {
    "convolution and GEMM": ("conv", "mm", "linear"),
    "normalisation": ("batch_norm",),
    "activation and pooling": ("prelu", "pool", "threshold", "addcmul", "Backward"),
    "copies and casts": ("copy_", "clone", "cat", "index", "fill_", "zero_"),
}
"""Kinds of operations by what is in their names; the rest is "other"."""

NOWHERE = Path(os.devnull)
"""Run folder of steps that are never saved."""


def made_up(faces: int, canvas: int, classes: int) -> CanvasBatch:
    """Return canvases of noise whose masks are stripes of all classes."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (faces, 3, canvas, canvas), generator=draw, dtype=torch.uint8)
    stripes = (torch.arange(canvas) * classes // canvas).to(torch.uint8)
    masks = stripes[:, None].expand(faces, canvas, canvas).contiguous()
    return CanvasBatch(torch.arange(faces), images, masks)


def pretraining_step(run: stage1.Pretraining) -> Work:
    settings = run.settings
    faces = settings.optim.batch_size
    batch = made_up(faces, settings.canvas, len(load_taxonomy(settings.taxonomy)))
    run.labels = {}
    run.start()
    run.network.train()
    loop, place = Loop(run, NOWHERE), Place(0, 0, 1, 0, MicroBatches(faces))
    return lambda: loop.step(place, iter([batch]))


def finetuning_step(run: stage2.Finetuning) -> Work:
    run.train, run.unlabelled = run.labelled(run.parts.train, run.settings.canvas), None
    run.start()
    return lambda: Loop(run, NOWHERE).epoch(0)


def pretraining(overrides: list[str], name: str, compiled: bool) -> dict[str, Work]:
    settings = build(PretrainSettings, preset(name, "pretrain"), overrides)
    runs = {
        "plain": PlainPretraining(settings),
        "fp32": stage1.Pretraining(fp32(settings)),
        "as shipped": stage1.Pretraining(settings),
    }
    if compiled:
        runs["compiled"] = stage1.Pretraining(
            build(PretrainSettings, settings.model_dump(mode="json"), ["runtime.compile=true"])
        )
    return {way: pretraining_step(run) for way, run in runs.items()}


def finetuning(overrides: list[str], name: str, compiled: bool, folder: Path) -> dict[str, Work]:
    data = {"data": {"format": "celeba", "root": str(folder)}}
    settings = build(FinetuneSettings, merge(preset(name, "finetune"), data), overrides)
    faces = settings.optim.batch_size
    # A quarter of the drawn faces is not for training.
    write_synthetic(folder, 2 * faces, 0, min(settings.canvas, 256))
    settings = build(
        FinetuneSettings,
        settings.model_dump(mode="json"),
        [f"labels.count={faces}", "consistency.weight=0"],
    )
    runs = {
        "plain": PlainFinetuning(settings),
        "fp32": stage2.Finetuning(fp32(settings)),
        "as shipped": stage2.Finetuning(settings),
    }
    if compiled:
        runs["compiled"] = stage2.Finetuning(
            build(FinetuneSettings, settings.model_dump(mode="json"), ["runtime.compile=true"])
        )
    return {way: finetuning_step(run) for way, run in runs.items()}


def shares(work: Work) -> dict[str, float]:
    """Return where the time of a work goes, as shares of the whole."""
    with named_parts(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    spent: dict[str, float] = {}
    for event in profiler.events():
        kind = part_of(event) or kind_of(event.name)
        spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total
    whole = sum(spent.values())
    return {kind: time / whole for kind, time in sorted(spent.items(), key=lambda x: -x[1])}


PARTS: tuple[tuple[str, Any, str], ...] = (
    ("views and targets", stage1, "make_views"),
    ("views and targets", PatchRotation, "stack"),
    ("views and targets", stage2, "random_view"),
    ("optimiser", loops, "update"),
)


class named_parts:  # noqa: N801 - used like a function
    """Context in which the profiler sees the parts of a step by name."""

    def __enter__(self) -> None:
        self.kept = [getattr(owner, name) for _, owner, name in PARTS]
        for (part, owner, name), function in zip(PARTS, self.kept, strict=True):
            setattr(owner, name, named(part, function))

    def __exit__(self, *exception: object) -> None:
        for (_, owner, name), function in zip(PARTS, self.kept, strict=True):
            setattr(owner, name, function)


def named(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        with record_function(part):
            return function(*arguments, **options)

    return called


def part_of(event: Any) -> str | None:
    names = {part for part, _, _ in PARTS}
    while event is not None:
        if event.name in names:
            return str(event.name)
        event = event.cpu_parent
    return None


def kind_of(name: str) -> str:
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "other"


def table(faces: int, seconds: dict[str, float]) -> str:
    lines = [f"{'':<14}{'ms a step':>12}{'samples/s':>12}{'ratio':>8}"]
    for way, time in seconds.items():
        ratio = seconds["plain"] / time
        lines.append(f"{way:<14}{1000 * time:>12.0f}{faces / time:>12.1f}{ratio:>8.2f}")
    return "\n".join(lines)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--stage", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option("--preset", "name", default="paper-sspl", show_default=True)
@click.option("--size", type=click.IntRange(32), help="Of the network's input, px.")
@click.option("--batch-size", type=click.IntRange(2), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--compile", "compiled", is_flag=True)
def main(
    overrides: tuple[str, ...],
    stage: int,
    name: str,
    size: int | None,
    batch_size: int,
    rounds: int,
    compiled: bool,
) -> None:
    given = [f"optim.batch_size={batch_size}", *overrides]
    if size:
        given.insert(0, f"input_size={size}")
    with tempfile.TemporaryDirectory() as folder:
        if stage == 1:
            works = pretraining(given, name, compiled)
        else:
            works = finetuning(given, name, compiled, Path(folder) / "faces")
        seconds = timed(works, rounds)
        fast = "bf16" if has_fast_bf16(torch.device("cpu")) else "no fast bf16"
        click.echo(
            f"stage {stage}, {name}, {batch_size} faces a step, {usable_cores()} cores, "
            f"{torch.get_num_threads()} threads, {fast}"
        )
        click.echo(table(batch_size, seconds))
        for way in ("as shipped", "plain"):
            parts = ", ".join(f"{kind} {100 * s:.0f} %" for kind, s in shares(works[way]).items())
            click.echo(f"{way}: {parts}")


if __name__ == "__main__":
    main()
