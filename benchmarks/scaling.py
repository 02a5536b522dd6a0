"""What pre-training takes on GPUs: counted operations, and arithmetic from there.

    python benchmarks/scaling.py [--faces 162770] [--faces 5800000] [--epochs 80]
        [--peak-tflops 312] [--utilisation 0.15] [--loader-ms 6] [--measure] [KEY=VALUE]...

torch counts the floating-point operations of a whole step of stage 1, forward and backward, of both
paper presets. Everything after that is arithmetic with numbers that are assumed and printed: the
peak of a GPU, the share of it that such networks reach, and how well several GPUs scale. With
--measure a step is timed on this machine as well. Prints Markdown.
"""

import time
from typing import Final

import click
import torch
from step import NOWHERE, made_up
from torch.utils.flop_counter import FlopCounterMode

from sspl.distributed.sampler import MicroBatches
from sspl.io.cores import usable_cores
from sspl.settings import build
from sspl.training.loop import Loop, Place
from sspl.training.pretrain import Pretraining
from sspl.training.stage_settings import PretrainSettings, preset

PRESETS: Final = ("paper-sspl", "paper-splnet")
GPUS: Final = {1: 1.0, 8: 0.9, 64: 0.75}
"""Number of GPUs to the assumed share of that many times one GPU's speed."""

HOURS_A_DAY: Final = 24


def network(name: str, overrides: tuple[str, ...], batch_size: int) -> Pretraining:
    given = [*overrides, f"optim.batch_size={batch_size}"]
    run = Pretraining(build(PretrainSettings, preset(name, "pretrain"), given))
    run.start()
    run.network.train()
    return run


def operations(run: Pretraining) -> float:
    """Return the floating-point operations of a step for each face."""
    faces = run.settings.optim.batch_size
    batch = made_up(faces, run.settings.canvas, len(run.taxonomy))
    with FlopCounterMode(display=False) as counter:
        Loop(run, NOWHERE).step(Place(0, 0, 1, 0, MicroBatches(faces)), iter([batch]))
    return counter.get_total_flops() / faces


def seconds_a_face(run: Pretraining, steps: int) -> float:
    """Return the seconds of a step for each face, the fastest of some steps, on this machine."""
    faces = run.settings.optim.batch_size
    batch = made_up(faces, run.settings.canvas, len(run.taxonomy))
    taken, loop = [], Loop(run, NOWHERE)
    for number in range(steps + 1):
        start = time.perf_counter()
        loop.step(Place(0, number, steps + 1, 0, MicroBatches(faces)), iter([batch]))
        taken.append(time.perf_counter() - start)
    return min(taken[1:]) / faces


def span(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < HOURS_A_DAY else f"{hours / HOURS_A_DAY:.1f} days"


def table(
    counted: dict[str, float], faces: tuple[int, ...], epochs: int, speed: float, loader_ms: float
) -> str:
    """Return hours for each preset, set and number of GPUs, as Markdown; `speed` in FLOP/s."""
    columns = "".join(f" {n} GPU{'s' if n > 1 else ''} |" for n in GPUS)
    lines = [f"| Preset | Faces |{columns}", "|---|---|" + "---|" * len(GPUS)]
    for name, flops in counted.items():
        for count in faces:
            hours = [count * epochs * flops / (speed * n * s) / 3600 for n, s in GPUS.items()]
            lines.append(f"| `{name}` | {count:,} | " + " | ".join(map(span, hours)) + " |")
        cores = [speed * n * s / flops * loader_ms / 1000 for n, s in GPUS.items()]
        needed = " | ".join(f"{c:.0f}" for c in cores)
        lines.append(f"| | cores to read faces, {loader_ms:g} ms each | {needed} |")
    return "\n".join(lines)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--faces", type=int, multiple=True, default=(162_770, 5_800_000), show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=80, show_default=True)
@click.option("--peak-tflops", type=float, default=312.0, show_default=True, help="bf16, dense.")
@click.option("--utilisation", type=click.FloatRange(0, 1), default=0.15, show_default=True)
@click.option("--loader-ms", type=float, default=6.0, show_default=True, help="A face, one core.")
@click.option("--measure", is_flag=True, help="Also time steps here.")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=16, show_default=True)
def main(
    overrides: tuple[str, ...],
    faces: tuple[int, ...],
    epochs: int,
    peak_tflops: float,
    utilisation: float,
    loader_ms: float,
    measure: bool,
    steps: int,
    batch_size: int,
) -> None:
    counted = {name: operations(network(name, overrides, 2)) for name in PRESETS}
    for name, flops in counted.items():
        click.echo(f"counted: `{name}`: {flops / 1e9:.1f} GFLOP a face and step, both passes")
    if measure:
        for name, flops in counted.items():
            taken = seconds_a_face(network(name, overrides, batch_size), steps)
            click.echo(
                f"measured: `{name}`: {1000 * taken:.0f} ms a face, {flops / taken / 1e9:.0f} "
                f"GFLOP/s on {usable_cores()} cores of this machine with {torch.get_num_threads()} "
                f"threads; {epochs} epochs of {faces[0]:,} faces would take "
                f"{span(faces[0] * epochs * taken / 3600)}"
            )
    shares = ", ".join(f"{n}: {s:g}" for n, s in GPUS.items())
    click.echo(
        f"assumed: {peak_tflops:g} TFLOP/s a GPU, {utilisation:g} of it reached, "
        f"speed of n GPUs over n times one: {shares}; {epochs} epochs"
    )
    click.echo("")
    click.echo(table(counted, faces, epochs, peak_tflops * 1e12 * utilisation, loader_ms))


if __name__ == "__main__":
    main()
