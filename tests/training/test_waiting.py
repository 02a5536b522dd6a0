"""A training step does not wait for the device: run on one that has no values to wait for.

A tensor of the meta device has a shape and no values. Whatever would read one (`.item()`, a
condition, a mask as an index, `nonzero`) raises, and so does an operation on tensors of two
devices. What is left that waits are copies to it from memory that is not pinned.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sspl.data.canvases import CanvasBatch, ahead
from sspl.data.synthetic import write_synthetic
from sspl.device import use_fixed_order
from sspl.distributed.random import sent
from sspl.distributed.sampler import MicroBatches
from sspl.metrics.tallies import Mean
from sspl.settings import build
from sspl.tasks.loading import TASKS
from sspl.training.finetune import Finetuning
from sspl.training.loop import Loop, Place
from sspl.training.pretrain import Pretraining
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

ELSEWHERE = torch.device("meta")

# What `torch.use_deterministic_algorithms` says raises on a CUDA device. Bilinear interpolation is
# not among it: torch takes another way there when asked for a fixed order.
NO_FIXED_ORDER = {
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "max_unpool2d",
    "fractional_max_pool3d_backward", "max_pool3d_with_indices_backward", "max_unpool3d",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward",
    "upsample_linear1d_backward", "upsample_bicubic2d_backward", "upsample_trilinear3d_backward",
    "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward", "nll_loss2d_forward",
    "nll_loss2d_backward", "_ctc_loss", "_ctc_loss_backward", "_embedding_bag", "put", "put_",
    "histc", "kthvalue", "median", "grid_sampler_2d_backward", "grid_sampler_3d_backward",
    "cumsum", "scatter_reduce", "scatter_reduce_",
}  # fmt: skip
SMALL = (
    "canvas=64", "input_size=32", "backbone.width=0.125", "segmentation.width=8",
    "optim.batch_size=4", "runtime.device=meta", "runtime.precision=fp32",
    "runtime.deterministic=true",
)  # fmt: skip


class Waits(TorchDispatchMode):
    """Notes copies from the CPU to another device that wait until they have been made.

    And the names of all operations, which it sees forward and backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), options: Any = None
    ) -> Any:
        options = options or {}
        result = function(*given, **options)
        name = function.overloadpacket.__name__
        self.names.add(name)
        if name == "_to_copy" and result.is_meta and not given[0].is_meta:
            waits = not options.get("non_blocking")
        elif name == "copy_" and given[0].is_meta and not given[1].is_meta:
            waits = not (options.get("non_blocking") or given[2:] == (True,))
        else:
            waits = False
        if waits:
            self.found.append(f"{name} of {tuple(result.shape)}")
        return result


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch has no autocast for the meta device, not even to switch it off."""
    real = torch.autocast

    def autocast(kind: str, *given: Any, **options: Any) -> Any:
        return nullcontext() if kind == "meta" else real(kind, *given, **options)

    monkeypatch.setattr(torch, "autocast", autocast)
    yield
    use_fixed_order(False)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("waiting") / "faces"
    write_synthetic(out, 48, 3, 40)
    return out


def batch() -> CanvasBatch:
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    return CanvasBatch(torch.arange(4), images, images[:, 0])


def waits_of(run: Any, steps: int = 2) -> tuple[Waits, Loop[Any]]:
    """Make some steps; return what was seen of them, and the loop."""
    run.start()
    run.network.train()
    loop, micro = Loop(run, Path()), MicroBatches(4)
    with Waits() as waits:
        for step in range(steps):
            loop.step(Place(0, step, steps, 0, micro), iter([batch()]))
    assert "convolution_backward" in waits.names
    return waits, loop


@pytest.mark.parametrize("architecture", ["sspl", "splnet"])
@pytest.mark.parametrize("name", ["paper", "small"])
def test_stage_1_never_waits(architecture: str, name: str) -> None:
    content = preset(f"paper-{architecture}" if name == "paper" else name, "pretrain")
    options = (f"architecture={architecture}", "tasks=[prt,pst,pct]")
    settings = build(PretrainSettings, content, (*SMALL, *options))
    run = Pretraining(settings)
    waits, loop = waits_of(run)
    assert (waits.found, waits.names & NO_FIXED_ORDER) == ([], set())
    figures = {"loss", "prt/which_accuracy", "pst/miou", "pct/accuracy"}
    assert figures <= loop.progress.tallies.keys()


@pytest.mark.parametrize("task", [task.name for task in TASKS[3:]])
def test_the_other_tasks_never_wait(task: str) -> None:
    options = (f"tasks=[{task}]", *(["task.attributes.names=[Bald]"] * (task == "attributes")))
    run = Pretraining(build(PretrainSettings, preset("small", "pretrain"), (*SMALL, *options)))
    if task == "attributes":
        run.labels = {"Bald": torch.ones(4, dtype=torch.int8)}
    waits, _ = waits_of(run)
    assert (waits.found, waits.names & NO_FIXED_ORDER) == ([], set())


@pytest.mark.parametrize(
    "options",
    [
        ("architecture=sspl", "head.dropout=0.2"),
        ("architecture=splnet", "head.pooling=average"),
        ("architecture=sspl", "head.pooling=regions", "ema=0.9"),
        ("architecture=sspl", "loss.name=asymmetric", "ema=0.9", "consistency.weight=1"),
    ],
)
def test_stage_2_never_waits(faces: Path, options: tuple[str, ...]) -> None:
    content = preset("small", "finetune") | {"data": {"format": "celeba", "root": str(faces)}}
    settings = build(FinetuneSettings, content, (*SMALL, "labels.count=24", *options))
    run = Finetuning(settings)
    run.unlabelled = None
    if settings.consistency.weight:
        run.unlabelled = run._unlabelled()
        run._more = ahead(run.unlabelled.batches(2, torch.Generator()), ELSEWHERE)
    run._drawn = torch.Generator(), torch.Generator()
    waits, _ = waits_of(run)
    assert (waits.found, waits.names & NO_FIXED_ORDER) == ([], set())


def test_what_waits_is_noticed() -> None:
    there = torch.zeros(2, device=ELSEWHERE)
    with Waits() as waits:
        torch.ones(2).to(ELSEWHERE)
        there.copy_(torch.ones(2))
        there.new_tensor([1.0])
        assert len(waits.found) >= 2
        before = len(waits.found)
        sent(torch.ones(2), ELSEWHERE)
        assert len(waits.found) == before
    for wait in (bool, float, Tensor.nonzero, Tensor.tolist, Tensor.cpu, lambda x: x[x > 0]):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait(there[0])  # type: ignore[operator]


def test_figures_are_those_of_python_floats() -> None:
    """Sums on a device have the bits that sums of Python floats had."""
    losses = torch.rand(50, generator=torch.Generator().manual_seed(1))
    tally, total = Mean(), 0.0
    for loss in losses:
        tally.merge(Mean.of(loss, 7))
        total += float(loss) * 7
    assert (tally.state(), tally.value()) == ({"total": total, "count": 350.0}, total / 350)
