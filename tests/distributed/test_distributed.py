"""Several processes learn what one does."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import sspl
from processes import in_processes
from shared import TINIER
from sspl.cli import main as command_line
from sspl.data.synthetic import write_synthetic
from sspl.distributed.dropout import drop_by_face
from sspl.distributed.group import agreed, gathered, process_rank, shared_count
from sspl.distributed.norms import BatchNormOverProcesses, synchronise_norms
from sspl.distributed.random import generator_of_rows, rand, randint
from sspl.distributed.sampler import MicroBatches, RankSampler, micro_batches_of
from sspl.errors import DataError, ReportedElsewhereError, SettingsError, SsplError, TrainingError
from sspl.models.backbones import build_backbone
from sspl.models.backbones.base import Backbone
from sspl.models.network_settings import BackboneSettings
from sspl.settings import build
from sspl.training.consistency import seen_rows
from sspl.training.distillation import taught_sources, taught_targets
from sspl.training.finetune import finetune
from sspl.training.partition import partition
from sspl.training.pretrain import pretrain
from sspl.training.stage_settings import FinetuneSettings, PretrainSettings, preset

PACKAGE = str(Path(sspl.__file__).parent)
JIGSAW = Path(__file__).resolve().parents[2] / "examples" / "jigsaw.py"


def test_a_share_of_the_draws_is_the_same_rows_of_all_draws() -> None:
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(4)

    whole = generator()
    numbers, places = rand((6, 2), whole), randint(9, (6,), whole)
    own = generator_of_rows(generator(), slice(2, 4), 6)
    assert torch.equal(rand((2, 2), own), numbers[2:4])
    assert torch.equal(randint(9, (2,), own), places[2:4])


def test_a_batch_is_dealt_out_part_after_part_and_process_after_process() -> None:
    """Twelve faces in two parts for three processes: two faces each time."""
    order = list(range(100, 126))
    first, last = MicroBatches(12, 2, 0, 3), MicroBatches(12, 2, 2, 3)
    assert [first.rows(0), first.rows(1)] == [slice(0, 2), slice(6, 8)]
    assert [last.rows(0), last.rows(1)] == [slice(4, 6), slice(10, 12)]
    own = RankSampler(order, last)
    assert own[:] == [104, 105, 110, 111, 116, 117, 122, 123]
    assert len(own) == 8
    assert own[4:6] == [116, 117]
    assert own[-1] == 123


@pytest.mark.parametrize(("batch", "faces", "parts", "share"), [(8, 100, 2, 4), (8, 7, 3, 2)])
def test_shares_of_one_process(batch: int, faces: int, parts: int, share: int) -> None:
    if batch % parts:
        with pytest.raises(SettingsError, match=r"optim\.batch_size: 8 .* a multiple of 3"):
            micro_batches_of(batch, faces, parts)
        return
    assert micro_batches_of(batch, faces, parts).size == share


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.BatchNorm1d])
def test_batchnorm_over_processes_is_batchnorm_of_the_whole_batch(
    kind: type[_BatchNorm], tmp_path: Path
) -> None:
    draw, places = torch.Generator().manual_seed(0), (4, 4) if kind is nn.BatchNorm2d else ()
    x, weight = torch.randn(5, 3, *places, generator=draw) * 3 + 2, torch.tensor([0.5, 1.0, 2.0])
    shares, last = (x[:2], x[2:]), torch.arange(1.0, x.shape[-1] + 1)

    def made() -> _BatchNorm:
        norm = kind(3, affine=kind is nn.BatchNorm2d)
        if norm.affine:
            norm.weight.data.copy_(weight)
        return norm

    def work() -> list[Tensor]:
        network = nn.Sequential(made())
        synchronise_norms(network)
        assert isinstance(network[0], BatchNormOverProcesses)
        mine = shares[process_rank()].clone().requires_grad_()
        y = network(mine)
        (y**3 * last).sum().backward()
        return [y.detach(), mine.grad, network[0].running_mean, network[0].running_var]

    one, other = in_processes(2, work, tmp_path)
    norm = made()
    whole = x.clone().requires_grad_()
    expected = norm(whole)
    (expected**3 * last).sum().backward()
    torch.testing.assert_close(torch.cat([one[0], other[0]]), expected.detach())
    torch.testing.assert_close(torch.cat([one[1], other[1]]), whole.grad, rtol=1e-4, atol=1e-4)
    for averages in (one[2:], other[2:]):
        torch.testing.assert_close(averages, [norm.running_mean, norm.running_var])


def test_counts_are_shared_and_one_error_is_everyones(tmp_path: Path) -> None:
    def work() -> list[Any]:
        count = shared_count(torch.tensor(3 + 2 * process_rank()))

        def fails() -> None:
            if process_rank() == 1:
                raise DataError("no such picture")

        try:
            agreed(fails)
        except SsplError as error:
            said = error
        return [float(count), gathered(process_rank()), said]

    one, other = in_processes(2, work, tmp_path)
    # 3 and 5 terms are 8, divided by two processes.
    assert one[:2] == other[:2] == [4.0, [0, 1]]
    assert isinstance(one[2], ReportedElsewhereError)
    assert str(other[2]) == "no such picture"


class DropPath(nn.Module):
    """timm's stochastic depth, as it is looked at."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob


def test_dropout_of_a_share_is_the_same_rows_of_all_dropout() -> None:
    """Of four faces a process has the second and last; in the end there are two rows a face."""
    network = nn.ModuleDict(
        {"numbers": nn.Dropout(0.5), "channels": nn.Dropout2d(0.5), "branches": DropPath(0.5)}
    )
    draws = drop_by_face(network)
    x = torch.ones(4, 6, 3, 3)

    def dropped(rows: list[int]) -> list[Tensor]:
        draws.generator = generator_of_rows(torch.Generator().manual_seed(3), rows, 4)
        twice = x[rows].repeat_interleave(2, 0)
        return [*(network[name](x[rows]) for name in network), network["numbers"](twice)]

    whole, own = dropped([0, 1, 2, 3]), dropped([1, 3])
    for all_faces, mine in zip(whole[:3], own[:3], strict=True):
        assert torch.equal(mine, all_faces[[1, 3]])
    assert torch.equal(own[3], whole[3][[2, 3, 6, 7]])
    assert set(whole[0].unique().tolist()) == {0.0, 2.0}
    assert len(whole[0][0, 0].unique()) == 2
    channels, branches = whole[1].flatten(2), whole[2].flatten(1)
    assert torch.equal(channels, channels[..., :1].expand_as(channels))
    assert len(channels[0].unique()) == 2
    assert torch.equal(branches, branches[:, :1].expand_as(branches))
    assert torch.equal(network.eval()["numbers"](x), x)


def test_dropout_by_face_draws_as_torch_does_for_a_whole_batch() -> None:
    for layer in (nn.Dropout(0.2), nn.Dropout2d(0.2)):
        network, x = nn.Sequential(layer), torch.randn(5, 7, 2, 2)
        torch.manual_seed(8)
        expected = layer(x)
        draws = drop_by_face(network)
        draws.generator = torch.Generator().manual_seed(8)
        assert torch.equal(network(x), expected)


def test_the_death_of_a_process_is_one_sentence(tmp_path: Path) -> None:
    def work() -> None:
        gathered(0)
        if process_rank() == 1:
            os._exit(0)
        gathered(1)

    (survivor, _) = in_processes(2, work, tmp_path)
    assert isinstance(survivor, TrainingError)
    assert "another process of this run stopped" in str(survivor)
    assert "\n" not in str(survivor)


def test_what_another_process_reports_is_not_said_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise ReportedElsewhereError

    monkeypatch.setattr(command_line, "cli", SimpleNamespace(main=fails))
    with pytest.raises(SystemExit) as left:
        command_line.main()
    assert left.value.code == 2
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distributed") / "faces"
    write_synthetic(out, 48, 1, 48)
    return out


def settings(faces: Path, *overrides: str) -> PretrainSettings:
    tiny = (
        "canvas=48", "input_size=32", "backbone.width=0.125", "backbone.stem_stride=2",
        "splits=[train]", "optim.batch_size=16", "optim.epochs=2", "optim.lr=0.001",
        "task.prt.patch_size=16", "segmentation.width=16", "runtime.device=cpu",
        "runtime.precision=fp32",
    )  # fmt: skip
    data = {"format": "celeba", "root": str(faces), "masks": str(faces / "masks")}
    content = preset("demo", "pretrain") | {"data": [data]}
    return build(PretrainSettings, content, (*tiny, *overrides))


def assert_same_run(one: Path, other: Path) -> None:
    """On average: Adam begins with a gradient's sign, so that rounding shows where it is near 0."""
    a, b = (load_file(run / "pretrained.safetensors") for run in (one, other))
    assert a.keys() == b.keys()
    for name, value in a.items():
        apart = np.abs(value - b[name]).mean()
        assert apart <= 3e-4 + 0.01 * np.abs(value).mean(), name


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optim.accumulate=2"],
        ["architecture=splnet", f"tasks=[pct,'{JIGSAW}:Jigsaw']", "adversarial.every=1"],
    ],
)
def test_two_processes_learn_what_one_does(
    overrides: list[str], faces: Path, tmp_path: Path
) -> None:
    chosen = settings(faces, *overrides)
    alone = pretrain(chosen, tmp_path / "one")
    one, other = in_processes(2, lambda: pretrain(chosen, tmp_path / "two"), tmp_path / "results")
    assert one == other
    assert one.keys() == alone.keys()
    for name, value in alone.items():
        # Rounding turns a decision or two of the 32.
        tolerance = 2e-3 if name.endswith("loss") else 0.1
        assert one[name] == pytest.approx(value, abs=tolerance), name
    assert_same_run(tmp_path / "two", tmp_path / "one")


def test_two_processes_drop_what_one_does_in_stage_1(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels of the backbone's stem, as a backbone of timm may drop them."""

    def dropping(chosen: BackboneSettings) -> Backbone:
        backbone = build_backbone(chosen)
        backbone.stem = nn.Sequential(backbone.stem, nn.Dropout2d(0.4))
        return backbone

    monkeypatch.setattr("sspl.training.pretext_network.build_backbone", dropping)
    chosen = settings(faces, "tasks=[pct]", "optim.epochs=1")
    alone = pretrain(chosen, tmp_path / "one")
    one, _ = in_processes(2, lambda: pretrain(chosen, tmp_path / "two"), tmp_path / "results")
    assert one["loss"] == pytest.approx(alone["loss"], abs=2e-4)


def test_what_cannot_be_dealt_out_is_refused_once_and_leaves_nothing(
    faces: Path, tmp_path: Path
) -> None:
    chosen = settings(faces, "optim.batch_size=15")
    one, other = in_processes(2, lambda: pretrain(chosen, tmp_path / "run"), tmp_path / "results")
    assert isinstance(one, SettingsError)
    assert "optim.batch_size: 15 faces cannot be dealt out to 2 processes" in str(one)
    assert isinstance(other, ReportedElsewhereError)
    assert not (tmp_path / "run").exists()


def test_labelled_and_unlabelled_faces_have_rows_of_their_own() -> None:
    """A step of four labelled and eight unlabelled faces in two parts, for two processes."""
    unlabelled = SimpleNamespace(micro=MicroBatches(8, 2, 1, 2))
    assert seen_rows(MicroBatches(4, 2, 1, 2), None, 1) == ([3], 4)
    assert seen_rows(MicroBatches(4, 2, 1, 2), unlabelled, 0) == ([1, 6, 7], 12)
    assert seen_rows(MicroBatches(4, 2, 1, 2), unlabelled, 1) == ([3, 10, 11], 12)


def test_two_processes_finetune_as_one_does(faces: Path, tmp_path: Path) -> None:
    """The last batch of an epoch is smaller: 28 faces in batches of 16."""
    chosen = build(
        FinetuneSettings,
        preset("demo", "finetune") | {"data": {"format": "celeba", "root": str(faces)}},
        (
            "canvas=48",
            "input_size=32",
            "backbone.width=0.125",
            "backbone.stem_stride=2",
            "labels.count=28",
            "optim.batch_size=16",
            "optim.epochs=2",
            "evaluate_every=1",
            "runtime.precision=fp32",
            "runtime.device=cpu",
            "head.dropout=0",
            "ema=0.9",
            "segmentation.width=16",
            "consistency.weight=1",
            "consistency.threshold=0.5",
            f"consistency.data=[{{format: folder, root: {faces / 'img_align_celeba'}}}]",
        ),
    )
    finetune(chosen, tmp_path / "one")
    one, other = in_processes(2, lambda: finetune(chosen, tmp_path / "two"), tmp_path / "results")
    assert one == other
    assert one["labelled"] == 28
    logs = [csv.DictReader((tmp_path / run / "metrics.csv").open()) for run in ("one", "two")]
    for expected, row in zip(*logs, strict=True):
        for name in ("loss", "consistency_loss", "val/accuracy"):
            assert float(row[name]) == pytest.approx(float(expected[name]), abs=2e-3), name


def test_a_teacher_tells_two_processes_what_it_tells_one(faces: Path, tmp_path: Path) -> None:
    """Each asks about a part of the faces."""
    given = preset("demo", "finetune") | {"data": {"format": "celeba", "root": str(faces)}}
    common = (*TINIER, "labels.count=9", "optim.epochs=1", "head.pooling=average")
    finetune(build(FinetuneSettings, given, common), tmp_path / "teacher")
    taught = build(
        FinetuneSettings, given, (*common, f"distillation.teachers=[{tmp_path / 'teacher'}]")
    )

    def targets() -> list[list[float]]:
        parts = partition(taught)
        found = taught_targets(taught, parts, taught_sources(taught, parts), tmp_path / "kept")
        return [[round(float(x), 5) for x in row] for row in found]

    one, other = in_processes(2, targets, tmp_path / "results")
    assert one == other == targets()
    assert len(one) > 9


def test_dropout_depends_neither_on_processes_nor_on_parts_of_a_step(
    faces: Path, tmp_path: Path
) -> None:
    """With frozen BatchNorm, the one layer that sees a part and not the batch."""

    def losses(name: str, parts: int) -> list[float]:
        chosen = build(
            FinetuneSettings,
            preset("demo", "finetune") | {"data": {"format": "celeba", "root": str(faces)}},
            (
                "canvas=48",
                "input_size=32",
                "backbone.width=0.125",
                "backbone.stem_stride=2",
                "labels.count=28",
                "optim.batch_size=16",
                "optim.epochs=2",
                "freeze=5",
                "head={pooling: average, dropout: 0.5}",
                "head_lr=50",
                "runtime.precision=fp32",
                "runtime.device=cpu",
                f"optim.accumulate={parts}",
            ),
        )
        finetune(chosen, tmp_path / name)
        log = csv.DictReader((tmp_path / name / "metrics.csv").open())
        return [float(row["loss"]) for row in log]

    alone = losses("one", 1)
    assert losses("parts", 2) == pytest.approx(alone, abs=1e-5)
    found, _ = in_processes(2, lambda: losses("two", 1), tmp_path / "results")
    assert found == pytest.approx(alone, abs=1e-5)


def test_a_run_whose_process_was_killed_goes_on_with_another_number_of_them(
    faces: Path, tmp_path: Path
) -> None:
    """Started by torchrun in two processes, killed inside an epoch, ended in one."""
    chosen = settings(faces, "optim.epochs=6", "save_every=1")
    pretrain(chosen, tmp_path / "whole")
    out = tmp_path / "killed"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "sspl", "pretrain", "--settings", tmp_path / "whole" / "settings.yaml", "--out", out,
    ]  # fmt: skip
    launcher = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        while not (out / "state.safetensors").exists():
            assert launcher.poll() is None, launcher.stderr and launcher.stderr.read()
            time.sleep(0.01)
        os.kill(workers(launcher.pid)[1], signal.SIGKILL)
        _, said = launcher.communicate(timeout=120)
    finally:
        launcher.kill()
        launcher.wait()
    assert launcher.returncode == 1
    assert PACKAGE not in said  # no traceback and no warning of ours or about our code
    assert not (out / "pretrained.safetensors").exists()
    pretrain(chosen, out, resume=True)
    assert_same_run(out, tmp_path / "whole")
    assert json.loads((out / "metrics.json").read_text())["finished"]
    logs = [next(csv.DictReader((run / "metrics.csv").open())) for run in (out, tmp_path / "whole")]
    assert float(logs[0]["loss"]) == pytest.approx(float(logs[1]["loss"]), abs=2e-3)
    assert float(logs[0]["pst/miou"]) == pytest.approx(float(logs[1]["pst/miou"]), abs=0.02)


def workers(launcher: int) -> list[int]:
    """Return the processes that a launcher has started, in the order of their numbers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and b"sspl" in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return sorted(found)
