"""Trouble on the way: a full disk, folders that vanish, losses that are no numbers."""

import csv
import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.robustness.kills import Process, damage, differences
from tests.shared import TINIER, draw_faces, refused, sspl
from torch import Tensor, nn

from sspl.data.canvases import Canvases
from sspl.errors import TrainingError
from sspl.io import weights
from sspl.io.weights import load_tensors
from sspl.optim.optimiser import Guard, back_propagate, update
from sspl.parsing import training as parser_training_code
from sspl.tasks.pct import PatchClassification
from sspl.training import finetune


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("trouble"), 24, seed=2, size=40)


def pretraining(faces: Path, out: Path) -> tuple[Any, ...]:
    data = f"celeba:{faces},masks={faces / 'masks'}"
    return (
        "pretrain",
        "--preset",
        "demo",
        "--data",
        data,
        "--out",
        out,
        *TINIER,
        "tasks=[pct]",
        "optim.epochs=3",
    )


def finetuning(faces: Path, out: Path) -> tuple[Any, ...]:
    return (
        "finetune",
        "--preset",
        "demo",
        "--data",
        f"celeba:{faces}",
        "--from",
        "none",
        "--labels",
        12,
        "--out",
        out,
        *TINIER,
        "optim.epochs=4",
        "evaluate_every=1",
        "head.pooling=average",
    )


def parser_training(faces: Path, out: Path) -> tuple[Any, ...]:
    return (
        "parser",
        "train",
        faces / "img_align_celeba",
        faces / "masks",
        "--out",
        out,
        "--pairs",
        12,
        "size=64",
        "view=32",
        "steps=8",
        "batch_size=4",
        "model.width=0.125",
        "precision=fp32",
        "save_every=2",
    )


COMMANDS = {"pretrain": pretraining, "finetune": finetuning, "parser train": parser_training}
MODELS = {"pretrained.safetensors", "model.safetensors", "parser.safetensors"}


def epochs(out: Path) -> list[str]:
    return [row["epoch"] for row in csv.DictReader((out / "metrics.csv").open())]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_leaves_whole_files_and_a_run_that_goes_on(
    faces: Path, tmp_path: Path, command: str
) -> None:
    """The disk is full from the fourth file of weights on, half of which is written."""
    original = weights.save_file
    saved = 0

    def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        nonlocal saved
        saved += 1
        if saved < 4:
            original(tensors, path, metadata)
            return
        path.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    make = COMMANDS[command]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "save_file", save)
        sentence = refused(*make(faces, out))
    assert "No space left on device; free some space" in sentence
    assert not damage(out)
    assert not list(out.glob(".*"))
    sspl(*make(faces, out), "--resume")
    sspl(*make(faces, undisturbed))
    (name,) = MODELS & {p.name for p in out.iterdir()}
    one, other = load_file(out / name), load_file(undisturbed / name)
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
    assert (out / "metrics.csv").read_text() == (undisturbed / "metrics.csv").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written_is_named(faces: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("x")
    sentence = refused(*COMMANDS[command](faces, tmp_path / "file" / "out"))
    assert f"cannot write {tmp_path / 'file' / 'out'}" in sentence


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_can_only_be_read_is_named(
    faces: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    sentence = refused(*COMMANDS[command](faces, tmp_path / "out"))
    assert sentence.startswith(f"cannot write {tmp_path / 'out'}")
    assert "Read-only file system" in sentence
    assert not (tmp_path / "out").exists()


def parser_run(faces: Path, out: Path) -> tuple[Any, ...]:
    model = out.parent / "parser"
    if not model.exists():
        sspl(*parser_training(faces, model))
    return ("parser", "run", model, faces / "img_align_celeba", "--out", out)


def packing(faces: Path, out: Path) -> tuple[Any, ...]:
    return ("data", "pack", f"celeba:{faces}", "--out", out, "--shard-faces", 4)


@pytest.mark.parametrize(
    ("make", "limit"), [(parser_run, 600), (parser_run, 20_000), (packing, 2000), (packing, 12_000)]
)
def test_a_file_that_the_system_cuts_short_is_not_left(
    faces: Path, tmp_path: Path, make: Callable[[Path, Path], tuple[Any, ...]], limit: int
) -> None:
    """No file may become larger than so many bytes: the system itself ends the writing."""
    out = tmp_path / "out"
    arguments = [str(a) for a in make(faces, out)]
    process = Process(arguments, tmp_path / "log.txt", largest_file=limit)
    assert process.wait() == 2
    said = process.said().splitlines()[-1]
    assert said.startswith(f"Error: cannot write {out}")
    assert "File too large; free some space" in said
    assert not damage(out)
    assert not list(out.glob(".*.tmp"))
    sspl(*arguments)
    sspl(*[tmp_path / "other" if a == str(out) else a for a in arguments])
    assert not differences(out, tmp_path / "other")


@pytest.mark.parametrize(
    ("kill", "sentence"), [(False, "there is not enough memory"), (True, "data workers died")]
)
def test_a_data_worker_without_memory_ends_the_run_and_keeps_what_is_done(
    faces: Path, tmp_path: Path, kill: bool, sentence: str
) -> None:
    """In the second epoch: it raises, or the system kills it."""
    out = tmp_path / "out"
    more = ("runtime.cache_gb=0", "runtime.workers=1")
    command = [str(a) for a in (*pretraining(faces, out), *more)]
    decode = Canvases.decode

    def starved(self: Canvases, index: int) -> Any:
        if (out / "metrics.csv").exists():
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError
        return decode(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Canvases, "decode", starved)
        process = Process(command, tmp_path / "log.txt")
        assert process.wait() == 2
    said = process.said().splitlines()[-1]
    assert said.startswith("Error: ")
    assert sentence in said
    assert "Traceback" not in process.said()
    assert epochs(out) == ["1"]
    assert not damage(out)
    # As many threads as the part before had, which a forked process has.
    whole = [str(a) for a in pretraining(faces, tmp_path / "undisturbed")]
    for number, each in enumerate(([*command, "--resume"], whole)):
        assert Process(each, tmp_path / f"log-{number}.txt").wait() == 0
    one, other = (load_file(f / "pretrained.safetensors") for f in (out, tmp_path / "undisturbed"))
    assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_pictures_that_vanish_on_the_way_end_the_run_and_keep_what_is_done(
    faces: Path, tmp_path: Path
) -> None:
    mine, out = tmp_path / "faces", tmp_path / "out"
    shutil.copytree(faces, mine)
    command = (*pretraining(mine, out), "runtime.cache_gb=0")
    from sspl.training import pretrain

    original = pretrain.write_metrics

    def vanish(*arguments: Any) -> None:
        original(*arguments)
        shutil.rmtree(mine / "img_align_celeba", ignore_errors=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "write_metrics", vanish)
        assert "no such image" in refused(*command)
    assert epochs(out) == ["1"]
    assert not damage(out)
    shutil.copytree(faces / "img_align_celeba", mine / "img_align_celeba")
    sspl(*command, "--resume")
    assert epochs(out) == ["1", "2", "3"]


def poisoned(original: Callable[..., Any], call: int, spoil: Callable[[Any], Any]) -> Any:
    """Return a function like `original` whose result is spoilt at one call, counted from 1."""
    calls = 0

    def function(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(*arguments, **options)
        return spoil(result) if calls == call else result

    return function


def test_a_loss_that_is_no_number_names_the_task_and_the_step(faces: Path, tmp_path: Path) -> None:
    """24 drawn faces have some 16 to train on, two steps an epoch; the fourth step is spoilt."""

    def spoil(result: Any) -> Any:
        object.__setattr__(result, "loss", result.loss * torch.nan)
        return result

    command = (*pretraining(faces, tmp_path / "out")[:-2], "tasks=[pct,pst]", "optim.epochs=3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PatchClassification, "forward", poisoned(PatchClassification.forward, 4, spoil)
        )
        sentence = refused(*command)
    assert sentence.startswith("the loss of pct is nan in epoch 2, step ")
    assert "the last checkpoint is kept" in sentence
    assert epochs(tmp_path / "out") == ["1"]
    assert not damage(tmp_path / "out")


def test_a_loss_of_stage_two_that_is_no_number_keeps_the_checkpoint(
    faces: Path, tmp_path: Path
) -> None:
    spoilt = poisoned(finetune.attribute_loss, 4, lambda loss: loss * torch.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "attribute_loss", spoilt)
        sentence = refused(*finetuning(faces, tmp_path / "out"))
    assert sentence.startswith("the loss of labelled faces is inf in epoch 2, step ")
    assert not damage(tmp_path / "out")
    assert epochs(tmp_path / "out") == ["1"]


def test_a_parsers_loss_that_is_no_number_keeps_the_checkpoint(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        spoilt = poisoned(parser_training_code.parser_loss, 6, lambda loss: loss * torch.nan)
        patch.setattr(parser_training_code, "parser_loss", spoilt)
        sentence = refused(*parser_training(faces, out))
    assert sentence == (
        "the loss is nan in step 6; the last checkpoint is kept: lower lr (now 0.002)."
    )
    assert load_tensors(out / "state.safetensors")[1]["steps"] == 4
    assert not damage(out)


def test_a_gradient_that_is_no_number_changes_nothing() -> None:
    layer = nn.Linear(1, 1, bias=False)
    before = layer.weight.detach().clone()
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    # The slope of the square root at 0 is infinite, though the loss, 0, is a number.
    guard = Guard()
    back_propagate((layer.weight * 0).abs().sqrt().sum(), "step 1", guard)
    with pytest.raises(TrainingError, match="the norm of the gradient is nan in step 1"):
        update(optimiser, 5.0, "step 1", guard)
    assert torch.equal(layer.weight, before)
