"""How fast a model predicts: torch in three ways against its exported files, in one run.

    python benchmarks/prediction.py RUN FORMAT:FACES [--faces 512] [--batch-size 64] [--rounds 3]

`network` is from decoded canvases to probabilities, `jpeg to csv` the whole of `sspl predict`.
Every figure is the median over rounds in which all take their turn, so that other work on the
machine hits all alike. int8 is calibrated on some of the same faces.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from timing import Work, timed

from sspl.data.records import FaceSet
from sspl.data.settings import parse_data_spec
from sspl.data.skipping import Skipped
from sspl.data.streams import stream_canvases
from sspl.data.transforms import normalise
from sspl.device import Precision, usable_cores
from sspl.inference.export import export_onnx
from sspl.inference.portable import load_portable
from sspl.inference.predict import PredictSettings, predict
from sspl.inference.scorers import load_scorer
from sspl.inference.sources import Stills
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.scoring import logits_of


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("images")
@click.option("--faces", "count", type=click.IntRange(10), default=512, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def main(run: Path, images: str, count: int, batch_size: int, rounds: int) -> None:
    faces = parse_data_spec(images).open()
    faces = faces.select(range(min(count, len(faces))))
    model = load_model(run)
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        export_onnx(model, plain)
        export_onnx(model, small, calibration=faces)
        alone = network_work(model, faces, batch_size, plain, small)
        whole = whole_work(run, faces, batch_size, plain, small, Path(folder) / "out.csv")
        click.echo(f"{len(faces)} faces, batches of {batch_size}, {usable_cores()} cores")
        click.echo(table(len(faces), timed(alone, rounds), timed(whole, rounds)))


def network_work(
    model: AttributeModel, faces: FaceSet, batch_size: int, plain: Path, small: Path
) -> dict[str, Work]:
    arrays = list(stream_canvases(faces, model.box, model.canvas, batch_size))
    tensors = [torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in arrays]
    network, size, flip = model.network, model.input_size, model.flip_average

    @torch.inference_mode()
    def contiguous() -> None:
        for canvas in tensors:
            view = normalise(
                torch.nn.functional.interpolate(canvas.float(), (size, size), mode="bilinear")
            )
            logits = network(view)
            if flip:
                logits = (logits + network(view.flip(3))) / 2

    def eager(precision: str) -> Work:
        return lambda: [logits_of(network, t, size, flip, precision) for t in tensors]

    def portable(file: Path) -> Work:
        loaded = load_portable(file)
        return lambda: np.concatenate([loaded.probabilities(a) for a in arrays])

    return {
        "torch fp32, contiguous": contiguous,
        "torch fp32, channels last": eager("fp32"),
        "torch bf16, channels last": eager("bf16"),
        "onnxruntime float32": portable(plain),
        "onnxruntime int8": portable(small),
    }


def whole_work(
    run: Path, faces: FaceSet, batch_size: int, plain: Path, small: Path, out: Path
) -> dict[str, Work]:
    settings = PredictSettings(batch_size=batch_size)

    def work(model: Path, precision: Precision = "auto") -> Work:
        return lambda: predict(
            load_scorer(model, "cpu", precision), [Stills.of(faces)], out, settings, Skipped("fail")
        )

    return {
        "torch fp32, channels last": work(run, "fp32"),
        "torch bf16, channels last": work(run, "bf16"),
        "onnxruntime float32": work(plain),
        "onnxruntime int8": work(small),
    }


def table(faces: int, alone: dict[str, float], whole: dict[str, float]) -> str:
    first = "torch fp32, channels last"
    lines = [f"{'faces/s':<28}{'network':>10}{'ratio':>8}{'jpeg to csv':>14}{'ratio':>8}"]
    for name, seconds in alone.items():
        line = f"{name:<28}{faces / seconds:>10.0f}{alone[first] / seconds:>8.2f}"
        if name in whole:
            line += f"{faces / whole[name]:>14.0f}{whole[first] / whole[name]:>8.2f}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
