"""How fast a model predicts: torch in three ways against its exported files, in one run.

    python benchmarks/prediction.py RUN FORMAT:FACES [--faces 512] [--batch-size 64] [--rounds 3]

`network` is from decoded canvases to probabilities, and its ratio to what a plain forward pass of
torch gives: fp32, contiguous, memory as the C library hands it out. `jpeg to csv` is the whole of
`sspl predict`, and its ratio to torch in fp32 as the package runs it. Every figure is the median
over rounds in which all take their turn, so that other work on the machine hits all alike. int8 is
calibrated on some of the same faces. Where the package openvino is installed, the same two files
are run by it, too, the float one also in bf16, and the largest difference in probability is said.

Below stand which operators onnxruntime spends its time on in both files, by its own profiler, and
how near the network's arithmetic comes to what products of large matrices reach here.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from timing import Work, timed
from torch.utils.flop_counter import FlopCounterMode

from sspl.data.data_settings import parse_data_spec
from sspl.data.records import FaceSet
from sspl.data.skipping import Skipped
from sspl.data.streams import stream_canvases
from sspl.data.transforms import normalise
from sspl.inference.export import export_onnx
from sspl.inference.portable import INPUT, load_portable, run_session
from sspl.inference.predict import PredictSettings, predict
from sspl.inference.scorers import load_scorer
from sspl.inference.sources import Stills
from sspl.io.cores import usable_cores
from sspl.models.bundle import AttributeModel, load_model
from sspl.models.scoring import logits_of
from sspl.settings import Precision

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

PRODUCT = 2048
"""Side of the square matrices whose product is timed."""


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
        seconds = timed(alone, rounds)
        click.echo(
            f"{len(faces)} faces, batches of {batch_size}, {usable_cores()} cores, "
            f"{torch.get_num_threads()} threads of torch"
        )
        click.echo(table(len(faces), seconds, timed(whole, rounds)))
        images = next(stream_canvases(faces, model.box, model.canvas, batch_size))
        for title, file in (("float32", plain), ("int8", small)):
            click.echo(f"onnxruntime {title}: {operators(file, images, Path(folder))}")
        for name, apart in apart_from_onnxruntime(plain, small, images).items():
            click.echo(f"{name}: probabilities up to {apart:.4f} from onnxruntime's")
        click.echo(arithmetic(model, images, {n: len(faces) / s for n, s in seconds.items()}))


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

    openvino = {
        name: lambda run=run: [run(a) for a in arrays]
        for name, run in openvinos(plain, small).items()
    }
    return {
        "torch fp32, contiguous": contiguous,
        "torch fp32, channels last": eager("fp32"),
        "torch bf16, channels last": eager("bf16"),
        "onnxruntime float32": portable(plain),
        "onnxruntime int8": portable(small),
        **openvino,
    }


def openvinos(plain: Path, small: Path) -> dict[str, Callable[[Pixels], Probabilities]]:
    """Return the exported files as openvino runs them, none where it is not installed."""
    try:
        import openvino
    except ImportError:
        return {}
    core, threads = openvino.Core(), {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    threads |= {"NUM_STREAMS": 1}

    def compiled(file: Path, kind: str) -> Callable[[Pixels], Probabilities]:
        how = threads | {"INFERENCE_PRECISION_HINT": kind}
        model = core.compile_model(core.read_model(file), "CPU", how)
        return lambda images: np.array(model({INPUT: images})[0])

    return {
        "openvino float32": compiled(plain, "f32"),
        "openvino bf16": compiled(plain, "bf16"),
        "openvino int8": compiled(small, "f32"),
    }


def apart_from_onnxruntime(plain: Path, small: Path, images: Pixels) -> dict[str, float]:
    """Return the largest difference in probability of each of `openvinos`."""
    said = {file: load_portable(file).probabilities(images) for file in (plain, small)}
    return {
        name: float(np.abs(run(images) - said[small if "int8" in name else plain]).max())
        for name, run in openvinos(plain, small).items()
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


def operators(file: Path, images: NDArray[np.uint8], folder: Path) -> str:
    """Return the shares of an exported file's time that its operators take, the largest first."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_profiling, options.log_severity_level = True, 3
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for _ in range(6):
        run_session(session, images)
    events = json.loads(Path(session.end_profiling()).read_text())
    taken: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            taken[f"{kind} of PReLU" if "prelu" in event["name"] else kind] += event["dur"]
    return ", ".join(f"{n} {100 * t / taken.total():.0f} %" for n, t in taken.most_common(8))


def arithmetic(model: AttributeModel, images: NDArray[np.uint8], rates: dict[str, float]) -> str:
    """Return operations a face, and a second, beside those of a product of matrices."""
    canvas = torch.from_numpy(images).permute(0, 3, 1, 2)
    with FlopCounterMode(display=False) as counter:
        logits_of(model.network, canvas, model.input_size, model.flip_average, "fp32")
    flops = counter.get_total_flops() / len(images)
    lines = [f"counted: {flops / 1e9:.2f} GFLOP a face, mirror image included"]
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.rand(PRODUCT, PRODUCT).to(kind)
        seconds = timed({"": lambda matrix=matrix: matrix @ matrix}, 5)[""]  # type: ignore[misc]
        reached = 2 * PRODUCT**3 / seconds
        lines.append(
            f"matrix products in {name} reach {reached / 1e9:.0f} GFLOP/s here, "
            f"{reached / flops:.0f} faces/s were there nothing else"
        )
    lines += [f"{name}: {rate * flops / 1e9:.0f} GFLOP/s" for name, rate in rates.items()]
    return "\n".join(lines)


def table(faces: int, alone: dict[str, float], whole: dict[str, float]) -> str:
    plain, first = alone["torch fp32, contiguous"], whole["torch fp32, channels last"]
    lines = [f"{'faces/s':<28}{'network':>10}{'ratio':>8}{'jpeg to csv':>14}{'ratio':>8}"]
    for name, seconds in alone.items():
        line = f"{name:<28}{faces / seconds:>10.0f}{plain / seconds:>8.2f}"
        if name in whole:
            line += f"{faces / whole[name]:>14.0f}{first / whole[name]:>8.2f}"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
