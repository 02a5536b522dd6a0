"""What must hold on a GPU, on drawn faces; without pytest, for machines that lack it.

    python -m tests.gpu.checks [--device cuda] [--only NAME]...

prints one JSON: by check `ok`, or what is wrong. `--device emulated` needs no GPU (`emulated.py`).
`tests/gpu/test_gpu.py` runs the same on a GPU, `test_emulated.py` everywhere else.
"""

import argparse
import csv
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from tests.gpu import emulated
from torch import Tensor, nn

from sspl.data.data_settings import DataSettings
from sspl.data.synthetic import write_synthetic
from sspl.data.synthetic.render import render_face
from sspl.device import autocast, seed_everything
from sspl.domain.taxonomy import load_taxonomy
from sspl.errors import TrainingError, first_line
from sspl.inference.attribution import explain_canvases
from sspl.inference.scorers import TorchScorer, load_scorer
from sspl.io.run_files import METRICS_CSV, PRETRAINED_FILE
from sspl.io.weights import load_tensors
from sspl.models.extractors import RunExtractor
from sspl.models.feature_cache import extractor_features
from sspl.optim.optim_settings import OptimSettings
from sspl.optim.optimiser import back_propagate, make_optimiser
from sspl.parsing.model import ParserModel
from sspl.parsing.network_parser import NetworkParser
from sspl.parsing.parser_settings import ParserSettings
from sspl.parsing.training import train_parser
from sspl.settings import build, merge
from sspl.training import loop
from sspl.training.finetune import finetune
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

FACES: Final = 32
SIZE: Final = 40
TINY: Final = (
    "canvas=40", "input_size=32", "backbone.width=0.05", "backbone.stem_stride=2",
    "segmentation.maps=2", "segmentation.width=8", "optim.batch_size=8", "optim.epochs=1",
    "optim.lr=0.0003", "runtime.precision=fp32",
)  # fmt: skip
PATCHES: Final = ("task.prt.patch_size=32", "task.prt.grid=2")
OTHER_TASKS: Final = ("rotnet", "location", "colourise", "simclr", "byol", "masked", "attributes")
ARCHITECTURES: Final = ("sspl", "splnet")

LOSS: Final = 0.02
"""Largest relative difference of a loss from the CPU's within an epoch of two steps."""

FIGURE: Final = 2e-3
"""Largest difference of a probability or a feature from the CPU's, same weights."""

NOT_RUN: Final = "not run: "

Check = Callable[["Bench"], None]


class Bench:
    """Drawn faces and a device, with what several checks need."""

    def __init__(self, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.runs: dict[str, Mapping[str, Any]] = {}

    @cached_property
    def faces(self) -> Path:
        write_synthetic(self.folder / "faces", FACES, 3, SIZE)
        return self.folder / "faces"

    @cached_property
    def canvases(self) -> np.ndarray:
        return np.stack([render_face(9, i, SIZE).image for i in range(6)])

    def data(self, masks: bool) -> DataSettings:
        where = self.faces / "masks" if masks else None
        return DataSettings(format="celeba", root=self.faces, masks=where)

    def stage1(self, device: str, name: str, *more: str) -> tuple[Path, Mapping[str, Any]]:
        """Return a run of stage 1 and its last row; it is made once."""
        out = self.folder / f"{name}-{device}"
        if str(out) not in self.runs:
            settings = self.stage1_settings(device, *more)
            self.runs[str(out)] = pretrain(settings, out)
        return out, self.runs[str(out)]

    def stage1_settings(self, device: str, *more: str) -> PretrainSettings:
        given = merge(
            preset("demo", "pretrain"), {"data": [self.data(True).model_dump(mode="json")]}
        )
        return build(PretrainSettings, given, (*TINY, f"runtime.device={device}", *more))

    def paper(self, device: str, architecture: str) -> tuple[Path, Mapping[str, Any]]:
        """Return stage 1 with the paper's tasks."""
        more = (f"architecture={architecture}", *PATCHES)
        return self.stage1(device, f"pre-{architecture}", *more)

    def stage2(
        self, device: str, start: Path, name: str, *more: str
    ) -> tuple[Path, Mapping[str, Any]]:
        """Return a run of stage 2 from weights of stage 1, and its best row."""
        out = self.folder / f"{name}-{device}"
        if str(out) not in self.runs:
            data = {"data": self.data(False).model_dump(mode="json"), "pretrained": str(start)}
            given = merge(preset("demo", "finetune"), data)
            chosen = ("labels.count=16", "evaluate_every=1", f"runtime.device={device}")
            self.runs[str(out)] = finetune(
                build(FinetuneSettings, given, (*TINY, *chosen, *more)), out
            )
        return out, self.runs[str(out)]

    def tuned(self, architecture: str) -> Path:
        """Return a fine-tuned model."""
        start, _ = self.paper("cpu", architecture)
        return self.stage2("cpu", start, f"fine-{architecture}", *_stage2_of(architecture))[0]


def _stage2_of(architecture: str) -> tuple[str, ...]:
    pooling = "regions" if architecture == "sspl" else "average"
    return (f"architecture={architecture}", f"head.pooling={pooling}")


def near(found: Any, wanted: Any, most: float, what: str) -> None:
    """Refuse figures that lie farther apart than `most`."""
    apart = float(np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)).max())
    # Written so that a NaN fails too.
    if not apart <= most:
        raise AssertionError(f"{what} differs from the CPU's by {apart:.3g}, more than {most:g}")


def near_losses(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse losses of a row of the log that are not the CPU's."""
    names = [name for name in wanted if name.rpartition("/")[2] in ("loss", "consistency_loss")]
    assert names
    for name in names:
        near(found[name], wanted[name], LOSS * abs(wanted[name]), name)


def stage1_check(architecture: str) -> Check:
    def check(bench: Bench) -> None:
        near_losses(bench.paper(bench.device, architecture)[1], bench.paper("cpu", architecture)[1])

    return check


def other_tasks_check(bench: Bench) -> None:
    rows = [
        bench.stage1(device, "tasks", f"tasks=[{','.join(OTHER_TASKS)}]")[1]
        for device in (bench.device, "cpu")
    ]
    near_losses(*rows)


def stage2_check(architecture: str, *more: str) -> Check:
    def check(bench: Bench) -> None:
        start, _ = bench.paper("cpu", architecture)
        name = "-".join((f"tuned-{architecture}", *(m.partition("=")[0] for m in more)))
        settings = (*_stage2_of(architecture), *more)
        runs = [bench.stage2(device, start, name, *settings)[0] for device in (bench.device, "cpu")]
        near_losses(*map(_last_row, runs))

    return check


def taught_check(bench: Bench) -> None:
    """A teacher answers on the device, and its answers are learnt there."""
    asked = f"distillation.teachers=[{bench.tuned('sspl')}]"
    stage2_check("sspl", asked)(bench)


def _last_row(run: Path) -> dict[str, float]:
    """Return the losses of the last epoch of a run."""
    with (run / METRICS_CSV).open() as file:
        row = list(csv.DictReader(file))[-1]
    return {name: float(value) for name, value in row.items() if name.endswith("loss")}


def autocast_check(architecture: str) -> Check:
    """In bf16 a step's loss is about that of float32."""

    def check(bench: Bench) -> None:
        more = (f"architecture={architecture}", *PATCHES, "runtime.precision=bf16")
        _, half = bench.stage1(bench.device, f"half-{architecture}", *more)
        near(half["loss"], bench.paper("cpu", architecture)[1]["loss"], 0.3, "bf16 loss")
        _predicted(bench, bench.tuned(architecture), "bf16")

    return check


def predict_check(architecture: str) -> Check:
    def check(bench: Bench) -> None:
        run = bench.tuned(architecture)
        near(_predicted(bench, run, "fp32"), _scorer(run, "cpu").probabilities(bench.canvases),
             FIGURE, "a probability")  # fmt: skip

    return check


def _scorer(run: Path, device: str, precision: Any = "fp32") -> TorchScorer:
    scorer = load_scorer(run, device, precision)
    assert isinstance(scorer, TorchScorer)
    return scorer


def _predicted(bench: Bench, run: Path, precision: Any) -> np.ndarray:
    found = _scorer(run, bench.device, precision).probabilities(bench.canvases)
    assert np.isfinite(found).all()
    return found


def explain_check(architecture: str) -> Check:
    def check(bench: Bench) -> None:
        run = bench.tuned(architecture)
        parts = [
            explain_canvases(_scorer(run, device).model, bench.canvases)
            for device in (bench.device, "cpu")
        ]
        near(*(p.maps.cpu().numpy() for p in parts), FIGURE, "a map")
        near(*(p.logits().cpu().numpy() for p in parts), FIGURE, "a logit")

    return check


def features_check(bench: Bench) -> None:
    """Frozen features, and heads on them beside a network that is fine-tuned."""
    run = bench.tuned("sspl")
    found = []
    for device in (bench.device, "cpu"):
        model = _scorer(run, device).model
        extractor = RunExtractor.of(model.network, "own", SIZE, 32).to(device)
        found.append(
            extractor_features(
                extractor, bench.canvases, mirrored=True, device=torch.device(device)
            )
        )
    near(*found, FIGURE, "a feature")
    start, _ = bench.paper("cpu", "sspl")
    settings = (*_stage2_of("sspl"), f"features={start}")
    out, _ = bench.stage2(bench.device, start, "joined", *settings)
    _predicted(bench, out, "fp32")


def parser_check(bench: Bench) -> None:
    """A parser trained on either device finds the same classes of almost all pixels."""
    taxonomy = load_taxonomy("celebamask19")
    drawn = [render_face(4, i, 64) for i in range(4)]
    images = torch.from_numpy(np.stack([d.image for d in drawn])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([d.mask for d in drawn]))
    common = ("steps=2", "batch_size=4", "size=64", "view=64", "model.width=0.25", "precision=fp32")
    losses: list[float] = []
    pictures = [d.image for d in drawn]
    for device in (bench.device, "cpu"):
        settings = build(ParserSettings, {}, (*common, f"device={device}"))
        out = bench.folder / f"parser-{device}"
        training = train_parser(images, masks, taxonomy, settings, out)
        losses.append(training.log[-1]["loss"])
    near(losses[0], losses[1], LOSS * losses[1], "the parser's loss")
    # A parser moves its network, so one has been at work before the next is made.
    model = ParserModel(training.network, taxonomy, settings.size)
    there, here = (
        np.stack(NetworkParser(model, device=device, precision="fp32").parse(pictures))
        for device in (bench.device, "cpu")
    )
    assert (there == here).mean() > 0.999


def export_check(bench: Bench) -> None:
    """A graph exported from a model says what the model says on the device."""
    from sspl.inference.export import export_onnx

    for architecture in ARCHITECTURES:
        run, out = bench.tuned(architecture), bench.folder / f"{architecture}.onnx"
        export_onnx(_scorer(run, bench.device).model, out)
        near(load_scorer(out).probabilities(bench.canvases), _predicted(bench, run, "fp32"),
             FIGURE, "a probability of the exported graph")  # fmt: skip


def optimiser_check(bench: Bench) -> None:
    """Steps of the optimiser, fused where torch has that, are the CPU's."""
    for name in ("adam", "adamw"):
        moved = []
        for device in (bench.device, "cpu"):
            seed_everything(0)
            layer = nn.Linear(8, 4).to(device)
            optimiser = make_optimiser(
                [(list(layer.parameters()), 1.0)], OptimSettings(name=name, lr=0.1)
            )
            if device == "cuda":
                assert optimiser.param_groups[0]["fused"]
            for _ in range(3):
                layer(torch.ones(2, 8, device=device)).square().sum().backward()
                optimiser.step()
                optimiser.zero_grad()
            moved.append(layer.weight.detach().cpu().numpy())
        near(*moved, 1e-5, f"a weight after steps of {name}")


def resume_check(bench: Bench) -> None:
    """An interrupted and resumed run ends with the bits of an uninterrupted one."""
    more = (*PATCHES, "optim.epochs=2", "save_every=1", "runtime.deterministic=true")
    settings = bench.stage1_settings(bench.device, *more)
    whole, cut = bench.folder / "whole", bench.folder / "cut"
    pretrain(settings, whole)
    calls = 0

    def stopping(loss: Tensor, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise TrainingError("stopped")
        back_propagate(loss, *rest)

    with patch.object(loop, "back_propagate", stopping), suppress(TrainingError):
        pretrain(settings, cut)
    assert calls == 4
    pretrain(settings, cut, resume=True)
    torch.use_deterministic_algorithms(False)
    tensors = [load_tensors(run / PRETRAINED_FILE)[0] for run in (whole, cut)]
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name


@contextmanager
def alone_by_nccl() -> Iterator[None]:
    """Join a group of one process, as torchrun would start it."""
    import torch.distributed as dist

    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    with patch.dict(os.environ, place):
        torch.cuda.set_device(0)
        dist.init_process_group("nccl")
        try:
            yield
        finally:
            dist.destroy_process_group()


def nccl_check(bench: Bench) -> None:
    """Gradients of a network bound together by NCCL, SyncBatchNorm in it, are the plain ones."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    def gradients(network: nn.Module) -> list[np.ndarray]:
        seed_everything(0)
        network(torch.randn(4, 3, 16, 16).to("cuda")).square().mean().backward()
        return [p.grad.cpu().numpy() for p in network.parameters() if p.grad is not None]

    seed_everything(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4)).to("cuda")
    with alone_by_nccl():
        total = torch.ones(3, device="cuda")
        dist.all_reduce(total)
        near(total.cpu().numpy(), np.ones(3), 0, "a sum over one process")
        everyones: list[Any] = [None]
        dist.all_gather_object(everyones, {"loss": 1.5})
        assert everyones == [{"loss": 1.5}]
        wanted = gradients(plain)
        plain.zero_grad()
        shared = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
        for found, other in zip(gradients(DistributedDataParallel(shared)), wanted, strict=True):
            near(found, other, 1e-5, "a gradient")


def fast_bf16_check(bench: Bench) -> None:
    """Matrix work runs in bf16 by itself where the card is made for it."""
    with autocast(torch.device("cuda"), "auto"):
        kind = (torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")).dtype
    assert (kind == torch.bfloat16) == torch.cuda.is_bf16_supported(including_emulation=False)


def mistakes_check(bench: Bench) -> None:
    """The emulated device refuses what a GPU refuses, in the middle of a step too."""
    from sspl.training import finetune as stage2

    device = torch.device(bench.device)
    there, here = torch.randn(3, 4, device=device), torch.randn(3, 4)

    def penalised(logits: Tensor, *more: Any) -> Tensor:
        penalty = torch.ones(len(logits))  # the mistake: made on the CPU
        return (logits.square().mean(1) * penalty).sum()

    start, _ = bench.paper("cpu", "sspl")
    with patch.object(stage2, "attribute_loss", penalised):
        refused(lambda: bench.stage2(bench.device, start, "wrong", *_stage2_of("sspl")), "mul")
    refused(lambda: there + here, "add")
    refused(lambda: torch.cat([there, here]), "cat")
    refused(lambda: here[torch.zeros(1, dtype=torch.int64, device=device)], "index")
    refused(lambda: nn.functional.cross_entropy(there, torch.zeros(3, dtype=torch.int64)), "nll")
    refused(lambda: np.asarray(there), "numpy")
    half = torch.randn(2, 4, dtype=torch.bfloat16, device=device)
    refused(lambda: half @ there.T, "dtype")
    torch.use_deterministic_algorithms(True)
    grid = torch.zeros(1, 2, 2, 2, device=device, requires_grad=True)
    seen = nn.functional.grid_sample(
        torch.ones(1, 1, 4, 4, device=device), grid, align_corners=False
    )
    seen.sum().backward()
    torch.use_deterministic_algorithms(False)
    (fault,) = emulated.FAULTS
    assert "grid_sampler_2d_backward" in fault
    emulated.FAULTS.clear()
    # What a GPU allows: numbers, and places to take, from the CPU.
    near((there + torch.tensor(1.0)).cpu() - there.cpu(), 1.0, 1e-6, "a sum with a number")
    assert torch.equal(there[torch.tensor([1])].cpu(), there.cpu()[1:2])


def refused(work: Callable[[], object], word: str) -> None:
    """Refuse work that is not refused with an error that has the word in it."""
    try:
        work()
    except (RuntimeError, TypeError) as error:
        if word in str(error):
            return
        raise
    raise AssertionError(f"no error with the word {word}")


CHECKS: Final[dict[str, Check]] = {
    **{f"stage 1, {a}": stage1_check(a) for a in ARCHITECTURES},
    "stage 1, other tasks": other_tasks_check,
    **{f"stage 2, {a}": stage2_check(a) for a in ARCHITECTURES},
    "stage 2, averaged, with unlabelled faces": stage2_check(
        "sspl", "ema=0.9", "consistency.weight=1"
    ),
    "stage 2, taught": taught_check,
    **{f"autocast, {a}": autocast_check(a) for a in ARCHITECTURES},
    **{f"predict, {a}": predict_check(a) for a in ARCHITECTURES},
    **{f"explain, {a}": explain_check(a) for a in ARCHITECTURES},
    "features": features_check,
    "parser": parser_check,
    "export": export_check,
    "optimiser": optimiser_check,
    "resume": resume_check,
    "NCCL and SyncBatchNorm": nccl_check,
    "bf16 by capability": fast_bf16_check,
    "mistakes": mistakes_check,
}
OF_EMULATION: Final = (
    "mistakes", "stage 1, sspl", "stage 2, sspl", "predict, sspl", "explain, sspl", "parser",
    "optimiser", "resume",
)  # fmt: skip
"""Checks of the suite on the device that stands in for a GPU, the first of it alone.

The others pass there as well but those of CUDA; with `--only`, since they take minutes.
"""


def names(device: str) -> list[str]:
    """Return the checks of a device: some are of a GPU alone, some of what stands in for it."""
    if device == emulated.NAME:
        return list(OF_EMULATION)
    return [name for name in CHECKS if name != "mistakes"]


def run_checks(bench: Bench, only: list[str]) -> dict[str, str]:
    """Return by check `ok`, or what is wrong in one line and where."""
    found = {}
    for name in only or names(bench.device):
        try:
            emulated.FAULTS.clear()
            CHECKS[name](bench)
            found[name] = "; ".join(emulated.FAULTS) or "ok"
        except ImportError as error:
            found[name] = f"{NOT_RUN}{error}"
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [f for f in where if "sspl" in f.filename] or where
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            found[name] = f"{type(error).__name__}: {first_line(error)[:300]} at {place}"
    return found


def failed(found: Mapping[str, str]) -> dict[str, str]:
    """Return the checks that something is wrong with; one that lacks a package was not run."""
    return {n: text for n, text in found.items() if text != "ok" and not text.startswith(NOT_RUN)}


def use(device: str) -> None:
    """Make the emulated device known, or see that there is a GPU."""
    if device == emulated.NAME:
        emulated.install()
    elif not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device emulated needs none.")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--only", action="append", default=[], choices=list(CHECKS))
    given = arguments.parse_args()
    use(given.device)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run_checks(Bench(given.device, Path(folder)), given.only)
    print(json.dumps({"checks": found, "seconds": round(time.monotonic() - begun, 1)}, indent=1))
    if failed(found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
