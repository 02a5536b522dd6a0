"""What a model costs beside what it is worth: speed on one core, memory, size on disk.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/cost.py measure FORMAT:FACES --out cost.json \\
        [--network faceres faceres.onnx --network faceres+dlib faceres.onnx \\
         --network faceres+dlib dlib-face.onnx] [--faces 128] [--batch-size 32] [--rounds 5]
    python benchmarks/cost.py draw cost.json benchmarks/results/builtin.csv --out cost.png

`measure`: models of 40 attributes as `sspl predict` runs them, mirror images averaged: preset small
with the weights in the package, the same as exported files (float32, int8), splnet, and linear
heads on networks given by `--network NAME PATH[,key=value...]`, side by side under one name. Heads
say nothing here: they cost the same as learnt ones. `network` is from canvases to probabilities,
`jpeg to csv` all of `sspl predict`, of which `decode and crop` is a part. Each figure is the
median over rounds in which all take their turn. Memory is the peak of a process that predicts,
size what lies on the disk.

`draw`: accuracy on test faces by label count, from the table of a study, against milliseconds a
face. What stands beside another network in a method (`+peers`) costs both.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click
import numpy as np
import torch
from timing import Work, timed

from sspl.data.data_settings import CELEBA_BOX, parse_data_spec
from sspl.data.records import FaceSet
from sspl.data.skipping import Skipped
from sspl.data.streams import stream_canvases
from sspl.domain.attributes import celeba_schema
from sspl.inference.export import export_onnx
from sspl.inference.predict import PredictSettings, predict
from sspl.inference.scorers import ONNX_SUFFIX, load_scorer
from sspl.inference.sources import Stills
from sspl.io.files import write_json
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.extractors import canvas_for
from sspl.models.frozen import AnyNetwork, FrozenNetwork
from sspl.reporting.picture import COLOURS, MARKS
from sspl.reporting.result_table import group_rows, read_results_csv
from sspl.settings import build, merge
from sspl.study.provenance import machine
from sspl.training.attribute_network import log_odds, started_network
from sspl.training.feature_settings import parse_features
from sspl.training.feature_source import open_extractor
from sspl.training.inheriting import finetune_settings
from sspl.training.stage_settings import FinetuneSettings, ProbeSettings, preset

OURS = "sspl"
FORMS = {"exported": "float32", "int8": "int8"}
ALIKE = (
    "scratch", "sspl", "builtin", "builtin+faces", "builtin+self", "builtin+taught",
    "builtin+faces+taught",
)  # fmt: skip
KINDS = dict.fromkeys(ALIKE, OURS)
"""Methods of studies that cost the same: the name of their network here."""

BESIDE = "+peers"
PEERS = "faceres+dlib"
"""What `BESIDE` in a method's name stands for."""

APART: Final = 1.05
"""Methods of the same cost are drawn so far beside one another."""


@dataclass(frozen=True)
class Cost:
    """Of one model, on one core.

    Args:
        network, jpeg_to_csv: faces a second.
        decode_and_crop: milliseconds a face, the same for all that see equal canvases.
        peak_mb: of memory.
        disk_mb: of its files.
    """

    name: str
    network: float
    jpeg_to_csv: float
    decode_and_crop: float
    peak_mb: float
    disk_mb: float

    @property
    def milliseconds(self) -> float:
        """Of a face, from JPEG to CSV."""
        return 1000 / self.jpeg_to_csv


def of_stage2(settings: FinetuneSettings) -> AttributeModel:
    schema = celeba_schema()
    bias = log_odds(np.full(len(schema), 0.5))
    network, _ = started_network(settings, schema, bias)
    return model_of(network, settings.canvas, settings.input_size)


def model_of(network: AnyNetwork, canvas: int, input_size: int) -> AttributeModel:
    schema = celeba_schema()
    ones = np.ones(len(schema))
    return AttributeModel(
        network.eval(), schema, CELEBA_BOX, canvas, input_size, True, ones / 2, ones
    )


def models(networks: Sequence[tuple[str, str]]) -> dict[str, AttributeModel]:
    """Return the models by their names, those in torch alone."""
    torch.manual_seed(0)
    built_in = finetune_settings("small", {"pretrained": "builtin"})
    branches = merge(
        preset("small", "finetune"), {"architecture": "splnet", "head": {"pooling": "average"}}
    )
    found = {OURS: of_stage2(built_in), "splnet": of_stage2(build(FinetuneSettings, branches))}
    for name in dict.fromkeys(name for name, _ in networks):
        words = [parse_features(word) for other, word in networks if other == name]
        extractors = [open_extractor(f) for f in build(ProbeSettings, {"features": words}).features]
        side = canvas_for(extractors)
        network = FrozenNetwork(extractors, len(celeba_schema()))
        found[name] = model_of(network, side, side)
    return found


def saved(found: Mapping[str, AttributeModel], folder: Path, faces: FaceSet) -> dict[str, Path]:
    """Write the models; return where each lies, and ours exported too."""
    places = {}
    for name, model in found.items():
        places[name] = folder / name
        save_model(places[name], model)
    for form in FORMS:
        places[f"{OURS} {form}"] = folder / f"{form}{ONNX_SUFFIX}"
        calibration = faces if form == "int8" else None
        export_onnx(found[OURS], places[f"{OURS} {form}"], calibration=calibration)
    return places


def costs(
    places: Mapping[str, Path], faces: FaceSet, batch_size: int, rounds: int, folder: Path
) -> list[Cost]:
    scorers = {name: load_scorer(place) for name, place in places.items()}
    how, out = PredictSettings(batch_size=batch_size), folder / "out.csv"

    def canvases(name: str) -> list[np.ndarray]:
        scorer = scorers[name]
        return list(stream_canvases(faces, scorer.box, scorer.canvas, batch_size))

    given = {name: canvases(name) for name in scorers}

    def network(name: str) -> Work:
        return lambda: [scorers[name].probabilities(some) for some in given[name]]

    def whole(name: str) -> Work:
        return lambda: predict(scorers[name], [Stills.of(faces)], out, how, Skipped("fail"))

    works = {f"{name}/network": network(name) for name in scorers}
    works |= {f"{name}/whole": whole(name) for name in scorers}
    works |= {f"{name}/decode": lambda name=name: canvases(name) for name in scorers}
    seconds, n = timed(works, rounds), len(faces)
    return [
        Cost(
            name,
            n / seconds[f"{name}/network"],
            n / seconds[f"{name}/whole"],
            1000 * seconds[f"{name}/decode"] / n,
            peak_mb(place, faces),
            sum(f.stat().st_size for f in [place, *place.rglob("*")] if f.is_file()) / 2**20,
        )
        for name, place in places.items()
    ]


def peak_mb(place: Path, faces: FaceSet) -> float:
    """Return the peak memory of a process that predicts some faces."""
    code = (
        "import sys, PIL.Image, sspl\n"
        "model = sspl.load(sys.argv[1])\n"
        "model.predict([PIL.Image.open(path) for path in sys.argv[2:]])\n"
        # What rusage says of a child begins with its parent's.
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(*(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
    )
    pictures = [str(path) for path in faces.images[:32]]
    command = [sys.executable, "-c", code, str(place), *pictures]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(said.split()[-1]) / 1024


def table(found: Sequence[Cost]) -> str:
    first = found[0]
    head = ("network", "ratio", "jpeg to csv", "ratio", "decode ms", "peak MB", "disk MB")
    lines = [f"{'faces/s of one core':<24}" + "".join(f"{title:>12}" for title in head)]
    for cost in found:
        values = (
            f"{cost.network:.1f}",
            f"{cost.network / first.network:.2f}",
            f"{cost.jpeg_to_csv:.1f}",
            f"{cost.jpeg_to_csv / first.jpeg_to_csv:.2f}",
            f"{cost.decode_and_crop:.2f}",
            f"{cost.peak_mb:.0f}",
            f"{cost.disk_mb:.1f}",
        )
        lines.append(f"{cost.name:<24}" + "".join(f"{value:>12}" for value in values))
    return "\n".join(lines)


def points(
    table_file: Path, found: Mapping[str, Cost]
) -> dict[str, dict[int, tuple[float, float]]]:
    """Return (milliseconds a face, accuracy in percent) by method and label count.

    Methods whose network was not measured have none.
    """
    drawn: dict[str, dict[int, tuple[float, float]]] = {}
    for group in group_rows(read_results_csv(table_file)):
        alone = group.method.removesuffix(BESIDE)
        names = [KINDS.get(alone, alone), *([PEERS] if alone != group.method else [])]
        accuracy = group.mean("accuracy")
        if accuracy is not None and all(name in found for name in names):
            spent = sum(found[name].milliseconds for name in names)
            drawn.setdefault(group.method, {})[group.labels] = (spent, 100 * accuracy)
    return drawn


def read_costs(file: Path) -> dict[str, Cost]:
    """Return the costs that `measure` wrote, by name."""
    return {row["name"]: Cost(**row) for row in json.loads(file.read_text())["costs"]}


@click.group()
def main() -> None:
    """Measure what models cost, and draw it beside what they are worth."""


@main.command()
@click.argument("images")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--network", "networks", nargs=2, multiple=True, help="NAME PATH[,key=value...]")
@click.option("--faces", "count", type=click.IntRange(10), default=128, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def measure(
    images: str,
    out: Path,
    networks: tuple[tuple[str, str], ...],
    count: int,
    batch_size: int,
    rounds: int,
) -> None:
    faces = parse_data_spec(images).open()
    faces = faces.select(range(min(count, len(faces))))
    with tempfile.TemporaryDirectory() as folder:
        places = saved(models(networks), Path(folder), faces)
        found = costs(places, faces, batch_size, rounds, Path(folder))
    about = {"faces": len(faces), "batch_size": batch_size, "rounds": rounds}
    about |= {"machine": machine("cpu"), "threads": torch.get_num_threads()}
    write_json(out, about | {"costs": [asdict(cost) for cost in found]})
    click.echo(f"{about['machine']}, {about['threads']} threads, {len(faces)} faces")
    click.echo(table(found))


@main.command()
@click.argument("costs_file", type=click.Path(path_type=Path, exists=True))
@click.argument("study", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def draw(costs_file: Path, study: Path, out: Path) -> None:
    from matplotlib.figure import Figure

    drawn = points(study, read_costs(costs_file))
    counts = sorted({count for found in drawn.values() for count in found})
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    taken: Counter[float] = Counter()
    for number, (method, found) in enumerate(drawn.items()):
        x, ys = next(iter(found.values()))[0], [y for _, y in found.values()]
        xs = [x * APART ** taken[x]] * len(ys)
        taken[x] += 1
        axes.plot(xs, ys, color="#c3c6ca", linewidth=1, zorder=1)
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKS[(number + number // len(COLOURS)) % len(MARKS)],
        }
        if method == "scratch":
            style = {"color": "#60656b", "marker": "x"}
        axes.scatter(xs, ys, 22, label=method, zorder=2, **style)
        for count, place in zip(found, zip(xs, ys, strict=True), strict=True):
            axes.annotate(f"{count:,}", place, (4, -3), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which("{x:g}")
    axes.set_xlabel("milliseconds a face on one core, JPEG to CSV")
    axes.set_ylabel(f"accuracy, %, by {counts[0]:,} to {counts[-1]:,} labels")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
