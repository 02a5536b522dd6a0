"""What a GPU makes of both stages, and whether it does so rightly: one JSON.

    python benchmarks/gpu.py [--out benchmarks/results/gpu.json] [--checks-only | --speed-only]
        [--batch-size 64 --batch-size 512] [--size 224] [--steps 8] [--peak-tflops N] [KEY=VALUE]...
    python benchmarks/gpu.py --table benchmarks/results/gpu.json

The checks are those of `tests/gpu/checks.py`. Speed is that of whole steps of both paper presets,
on faces that are drawn first: from decoded faces in memory and, at the largest batch, from JPEG and
PNG files as they are read by all cores. Of each it says faces a second; the operations that torch
counts of a step, and their share of the card's peak in dense bf16; the milliseconds of a step in
which the loop waits for its faces; and the most memory that tensors took. Needs a card, and torch,
numpy, Pillow, pydantic, tqdm, safetensors, scipy, scikit-learn, PyYAML and filelock; no network.
`--table` prints the rows of a record in Markdown. With `--device emulated` it runs anywhere, to see
that it runs.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

B = TypeVar("B")

ARCHITECTURES: Final = ("sspl", "splnet")
STAGES: Final = (1, 2)
FACES: Final = 1024
DRAWN: Final = 176
"""Side in px of the drawn faces: CelebA's are 178 x 218."""

PEAKS: Final = {
    "H200": 989.4, "H100 PCIe": 756.0, "H100": 989.4, "B200": 2250.0, "A100": 312.0, "L40S": 362.0,
    "A10": 125.0, "L4": 121.0, "4090": 165.2,
}  # fmt: skip
"""TFLOP/s in dense bf16 by the makers' data sheets; the first name that the card's holds."""

COLUMNS: Final = {
    "faces_per_second": ("faces/s", "{:,.0f}"),
    "gflop_per_face": ("GFLOP a face", "{:.1f}"),
    "share_of_peak": ("of the peak", "{:.0%}"),
    "waiting_ms": ("waiting, ms a step", "{:.1f}"),
    "memory_gb": ("memory, GB", "{:.1f}"),
}


def table(record: dict[str, Any] | None) -> str:
    """Return the speeds of a record as Markdown, or that there is none."""
    if record is None:
        return "Not measured yet: no record of a GPU is among `benchmarks/results`."
    machine = record["machine"]
    titles = [title for title, _ in COLUMNS.values()]
    lines = [
        f"{machine['device']}, torch {machine['torch']}, {machine['cores']} cores, "
        f"{record['size']} px, {machine['precision']}:",
        "",
        "| Stage | Preset | Batch | Faces from | " + " | ".join(titles) + " |",
        "|---|---|---|---|" + "---|" * len(titles),
    ]
    for row in record["speed"]:
        what = (
            f"| {row['stage']} | `paper-{row['architecture']}` | {row['batch']} | {row['from']} |"
        )
        if "error" in row:
            lines.append(f"{what} {row['error']} |" + " |" * (len(COLUMNS) - 1))
            continue
        cells = ["" if row[k] is None else form.format(row[k]) for k, (_, form) in COLUMNS.items()]
        lines.append(f"{what} " + " | ".join(cells) + " |")
    return "\n".join(lines)


class Waited(Iterator[B]):
    """Batches, with the seconds that were waited for them."""

    def __init__(self, batches: Iterator[B]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __next__(self) -> B:
        begun = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            self.seconds += time.perf_counter() - begun


def opened(stage: int, architecture: str, faces: Path, out: Path, given: list[str]) -> Any:
    """Return a run of a stage with the paper's settings, ready for its first step."""
    from sspl.settings import build, merge
    from sspl.training.finetune import Finetuning
    from sspl.training.pretrain import Pretraining
    from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

    name, data = f"paper-{architecture}", {"format": "celeba", "root": str(faces)}
    run: Any
    if stage == 1:
        content = {"data": [data | {"masks": str(faces / "masks")}]}
        run = Pretraining(build(PretrainSettings, merge(preset(name, "pretrain"), content), given))
    else:
        content = {"data": data}
        run = Finetuning(build(FinetuneSettings, merge(preset(name, "finetune"), content), given))
    run.open(out, False)
    run.start()
    return run


def full_steps(run: Any, batch: int) -> Iterator[tuple[Any, Waited[Any]]]:
    """Yield where a run is and its batches, epoch after epoch, without smaller last batches."""
    from sspl.training.loop import Place

    for epoch in range(10**6):
        source = run.epoch(epoch, 0)
        batches = Waited(source.batches)
        for number, micro in enumerate(source.steps):
            if micro.batch == batch:
                yield Place(epoch, number, len(source.steps), 0, micro), batches


def speed(
    stage: int,
    architecture: str,
    batch: int,
    source: str,
    faces: Path,
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Return the figures of one kind of step."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from sspl.training.loop import Loop

    row = {"stage": stage, "architecture": architecture, "batch": batch, "from": source}
    settings = [
        f"input_size={given.size}", f"optim.batch_size={batch}", f"runtime.device={given.device}",
        f"runtime.cache_gb={4 if source == 'memory' else 0}", *given.settings,
    ]  # fmt: skip
    on_cuda = given.device.startswith("cuda")

    def finish() -> None:
        if on_cuda:
            torch.cuda.synchronize()

    with tempfile.TemporaryDirectory() as out:
        try:
            run = opened(stage, architecture, faces, Path(out) / "run", settings)
            loop, steps = Loop(run, Path(out) / "run"), full_steps(run, batch)
            for _ in range(given.warm):
                place, batches = next(steps)
                loop.step(place, batches)
            finish()
            if on_cuda:
                torch.cuda.reset_peak_memory_stats()
            waited, begun = 0.0, time.perf_counter()
            for _ in range(given.steps):
                place, batches = next(steps)
                before = batches.seconds
                loop.step(place, batches)
                waited += batches.seconds - before
            finish()
            seconds = (time.perf_counter() - begun) / given.steps
            memory = torch.cuda.max_memory_allocated() / 1e9 if on_cuda else None
            with FlopCounterMode(display=False) as counter:
                loop.step(*next(steps))
        except torch.cuda.OutOfMemoryError:
            return row | {"error": "out of memory"}
    flops, peak = counter.get_total_flops() / batch, given.peak_tflops or peak_of(given.device)
    return row | {
        "faces_per_second": round(batch / seconds, 1),
        "ms": round(1000 * seconds, 2),
        "gflop_per_face": round(flops / 1e9, 2),
        "share_of_peak": peak and round(flops * batch / seconds / peak / 1e12, 4),
        "waiting_ms": round(1000 * waited / given.steps, 2),
        "memory_gb": memory and round(memory, 2),
    }


def peak_of(device: str) -> float | None:
    """Return a card's peak in TFLOP/s, where it is known."""
    import torch

    if not device.startswith("cuda"):
        return None
    card = torch.cuda.get_device_name(device)
    return next((peak for name, peak in PEAKS.items() if name in card), None)


def machine(device: str) -> dict[str, Any]:
    """Return what the figures were taken on."""
    import torch

    from sspl import __version__
    from sspl.device import has_fast_bf16
    from sspl.io.cores import usable_cores

    on_cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else device,
        "memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
        if on_cuda
        else None,
        "cores": usable_cores(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "sspl": __version__,
        "precision": "bf16" if has_fast_bf16(torch.device(device)) else "fp32",
    }


def speeds(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return the figures of all kinds of steps."""
    from sspl.data.synthetic import write_synthetic

    faces = folder / "faces"
    write_synthetic(faces, given.faces, 0, min(DRAWN, max(given.size, 32)))
    rows = []
    for stage in STAGES:
        for architecture in ARCHITECTURES:
            for batch in given.batch_size:
                sources = ("memory", "files") if batch == max(given.batch_size) else ("memory",)
                for source in sources:
                    rows.append(speed(stage, architecture, batch, source, faces, given))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def read_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--table", type=Path)
    arguments.add_argument("--checks-only", action="store_true")
    arguments.add_argument("--speed-only", action="store_true")
    arguments.add_argument("--batch-size", type=int, action="append")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--steps", type=int, default=8)
    arguments.add_argument("--warm", type=int, default=3)
    arguments.add_argument("--faces", type=int, default=FACES)
    arguments.add_argument("--peak-tflops", type=float)
    return arguments.parse_args()


def main() -> None:
    given = read_arguments()
    if given.table:
        print(table(json.loads(given.table.read_text())))
        return
    given.batch_size = given.batch_size or [64, 512]
    begun = time.monotonic()
    from tests.gpu.checks import Bench, failed, run_checks, use

    use(given.device)
    record: dict[str, Any] = {"machine": machine(given.device), "size": given.size}
    with tempfile.TemporaryDirectory() as folder:
        if not given.speed_only:
            record["checks"] = run_checks(Bench(given.device, Path(folder) / "checks"), [])
        if not given.checks_only:
            record["speed"] = speeds(given, Path(folder))
    record["seconds"] = round(time.monotonic() - begun, 1)
    text = json.dumps(record, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)
    if failed(record.get("checks", {})):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
