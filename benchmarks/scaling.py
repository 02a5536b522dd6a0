"""What the paper's protocol takes on GPUs, in GPU hours, and how many cores feed them.

    python benchmarks/scaling.py [--tflops 100] [--record benchmarks/results/gpu.json]
        [--canvas-ms 1.4] [--mask-ms 13] [--measure] [KEY=VALUE]...

torch counts the operations of each network; a step of training counts for three forward passes.
All that follows is arithmetic with what a GPU reaches in training: what is assumed (`--tflops`), or
was measured by `benchmarks/gpu.py` (`--record`). `--canvas-ms` is what one core needs to read a
face and its mask (`benchmarks/loader.py`), `--mask-ms` to read a picture and write its mask
(`benchmarks/parser.py`). With --measure a step is timed on this machine as well. Prints Markdown.
"""

import json
import time
from pathlib import Path
from typing import Any, Final

import click
import torch
from step import NOWHERE, made_up
from torch.utils.flop_counter import FlopCounterMode

from sspl.distributed.sampler import MicroBatches
from sspl.domain.taxonomy import load_taxonomy
from sspl.io.cores import usable_cores
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserSettings
from sspl.parsing.training import AVERAGED_SCALES
from sspl.settings import build
from sspl.study.cells import list_cells, plan
from sspl.study.cost import TRAINING, cell_minutes, stage1_gflop, stage1_minutes, stage2_gflop
from sspl.study.study_settings import load_study
from sspl.training.loop import Loop, Place
from sspl.training.pretrain import Pretraining
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

PRESETS: Final = ("paper-sspl", "paper-splnet")
STUDIES: Final = ("paper-celeba", "paper-lfwa", "paper-maad")
SETS: Final = {"CelebA, training": 162_770, "MAAD-Face": 3_300_000, "MS1M": 5_800_000}
PICTURES: Final = {"CelebA, four parsers": 4 * 202_599, "MAAD-Face": 3_300_000, "MS1M": 5_800_000}
EPOCHS: Final = 80
GPUS: Final = 8
TOGETHER: Final = 0.9
"""Assumed speed of eight GPUs that train one network, over eight times that of one."""


def step_gflop() -> dict[tuple[int, str], float]:
    """Return the billions of operations of a training step for each face, by stage and preset."""
    found = {}
    for name in PRESETS:
        one = stage1_gflop(build(PretrainSettings, preset(name, "pretrain")))
        two = stage2_gflop(build(FinetuneSettings, preset(name, "finetune")))
        found |= {(1, name): TRAINING * one, (2, name): TRAINING * two}
    return found


def parser_gflop() -> float:
    """Return the billions of operations of a picture in `sspl parser run`."""
    settings = ParserSettings()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = ParserNetwork(len(load_taxonomy(settings.taxonomy)), settings.model).eval()
        network(torch.empty(2, 3, settings.size, settings.size))
    # Each size is looked at twice, mirrored too.
    passes = 2 * sum(scale**2 for scale in AVERAGED_SCALES)
    return passes * counter.get_total_flops() / 2 / 1e9


def measured(record: Path | None) -> dict[tuple[int, str], float]:
    """Return faces a second by stage and preset, at the largest batch of a record."""
    if record is None:
        return {}
    rows: list[dict[str, Any]] = json.loads(record.read_text())["speed"]
    rows = [r for r in rows if r["from"] == "memory" and "error" not in r]
    rows.sort(key=lambda row: row["batch"])
    return {(r["stage"], f"paper-{r['architecture']}"): r["faces_per_second"] for r in rows}


def span(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def steps_table(
    gflop: dict[tuple[int, str], float], speed: dict[tuple[int, str], float], ms: float
) -> str:
    lines = [
        "| Stage | Preset | GFLOP a face | faces/s | Cores to read as fast |",
        "|---|---|---|---|---|",
    ]
    for (stage, name), one in gflop.items():
        pace = speed[stage, name]
        cells = f"{one:.1f} | {pace:,.0f} | {pace * ms / 1000:.0f}"
        lines.append(f"| {stage} | `{name}` | {cells} |")
    return "\n".join(lines)


def runs_table(speed: dict[tuple[int, str], float]) -> str:
    lines = [
        f"| One stage 1, {EPOCHS} epochs | Faces | Preset | GPU hours | {GPUS} GPUs, torchrun |",
        "|---|---|---|---|---|",
    ]
    for name, faces in SETS.items():
        for network in PRESETS:
            hours = faces * EPOCHS / speed[1, network] / 3600
            together = span(hours / GPUS / TOGETHER)
            lines.append(f"| {name} | {faces:,} | `{network}` | {span(hours)} | {together} |")
    return "\n".join(lines)


def studies_table(tflops: float) -> str:
    """Return what each study takes by itself; stage 1 of the first serves the others."""
    lines = [
        f"| Study | Runs of stage 1 | GPU hours | Cells | GPU hours | {GPUS} GPUs, --devices |",
        "|---|---|---|---|---|---|",
    ]
    known: set[str] = set()
    for name in STUDIES:
        study = load_study(name)
        assert study.cost is not None
        cost = study.cost.model_copy(update={"gflops": 1000 * tflops})
        plans = [plan(study, cell) for cell in list_cells(study)]
        runs = {p.stage1: stage1_minutes(p, cost) / 60 for p in plans if p.stage1}
        own = {run: hours for run, hours in runs.items() if run not in known}
        known |= set(runs)
        cells = [cell_minutes(p, cost) / 60 for p in plans]
        chains = [own.get(p.stage1, 0.0) + h for p, h in zip(plans, cells, strict=True)]
        first, second = sum(own.values()), sum(cells)
        # Eight at once end no sooner than the longest stage 1 with a cell after it.
        eight = max((first + second) / GPUS, max(chains))
        lines.append(
            f"| `{name}` | {len(own)} | {span(first)} | {len(plans)} | {span(second)} | "
            f"{span(eight)} |"
        )
    return "\n".join(lines)


def masks_table(tflops: float, ms: float) -> str:
    one = parser_gflop()
    pace = 1000 * tflops / one
    lines = [
        f"| Masks, {one:.0f} GFLOP a picture | Pictures | GPU hours | Core hours, {ms:g} ms each |",
        "|---|---|---|---|",
    ]
    for name, pictures in PICTURES.items():
        hours, cores = pictures / pace / 3600, pictures * ms / 3.6e6
        lines.append(f"| {name} | {pictures:,} | {span(hours)} | {span(cores)} |")
    return "\n".join(lines)


def network(name: str, overrides: tuple[str, ...], batch_size: int) -> Pretraining:
    given = [*overrides, f"optim.batch_size={batch_size}"]
    run = Pretraining(build(PretrainSettings, preset(name, "pretrain"), given))
    run.start()
    run.network.train()
    return run


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


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--tflops", type=float, default=100.0, show_default=True, help="Reached by a GPU.")
@click.option("--record", type=click.Path(exists=True, path_type=Path), help="Measured ones.")
@click.option("--canvas-ms", type=float, default=1.4, show_default=True, help="A face, one core.")
@click.option("--mask-ms", type=float, default=13.0, show_default=True, help="A face, one core.")
@click.option("--measure", is_flag=True, help="Also time steps here.")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=16, show_default=True)
def main(
    overrides: tuple[str, ...],
    tflops: float,
    record: Path | None,
    canvas_ms: float,
    mask_ms: float,
    measure: bool,
    steps: int,
    batch_size: int,
) -> None:
    gflop, found = step_gflop(), measured(record)
    speed = {key: found.get(key, 1000 * tflops / one) for key, one in gflop.items()}
    if measure:
        for name in PRESETS:
            taken = seconds_a_face(network(name, overrides, batch_size), steps)
            click.echo(
                f"measured: `{name}`: {1000 * taken:.0f} ms a face, "
                f"{gflop[1, name] / taken:.0f} GFLOP/s on {usable_cores()} cores of this machine "
                f"with {torch.get_num_threads()} threads"
            )
    click.echo(
        f"{'measured by ' + str(record) if record else f'assumed: {tflops:g} TFLOP/s a GPU'}; "
        f"{GPUS} GPUs that train one network: {TOGETHER:g} of {GPUS} times one"
    )
    tables = (
        steps_table(gflop, speed, canvas_ms), runs_table(speed), studies_table(tflops),
        masks_table(tflops, mask_ms),
    )  # fmt: skip
    for table in tables:
        click.echo(f"\n{table}")


if __name__ == "__main__":
    main()
