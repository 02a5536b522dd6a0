"""Commands killed at random moments, resumed, and compared with undisturbed runs.

    python -m tests.robustness.kills --kills 50

Each trial starts a command on a few drawn faces, ends it at a random moment with SIGKILL, SIGTERM
or SIGINT, up to `--together` times, and lets it finish. After every kill each file under a final
name must be whole; in the end all weights must be bit-equal and all tables equal to those of a run
that nobody disturbed. Prints a record as JSON; exits with 1 when something was not as it should be.
"""

import csv
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import torch
from PIL import Image

from sspl.cli.main import main as command_line
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.parsing.model import ParserModel, save_parser
from sspl.parsing.network import ParserModelSettings, ParserNetwork
from sspl.weights import read_tensors

# Imported here, so that the processes that are forked off have it all at once.
for module in ("parsing.commands", "parsing.masks", "training.finetune", "training.pretrain"):
    importlib.import_module(f"sspl.{module}")
importlib.import_module("sspl.data.synthetic")

SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXITS: Final = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
CLOCKS: Final = ("started", "seconds")
"""What runs note that is of their time alone."""

KEPT_BEFORE: Final = "state.previous.safetensors"
TINY: Final = (
    "canvas=40", "input_size=32", "trunk.width=0.05", "trunk.stem_stride=2",
    "optim.batch_size=8", "runtime.precision=fp32",
)  # fmt: skip


@dataclass
class Record:
    """What happened."""

    kills: int = 0
    trials: int = 0
    by_signal: Counter[str] = field(default_factory=Counter)
    by_command: Counter[str] = field(default_factory=Counter)
    finished_before_the_kill: int = 0
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(self.__dict__, indent=2)


class Process:
    """A command in a process of its own, forked from this one, which has imported everything."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        ready, started = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(ready)
            self._run(arguments, log, started)
        os.close(started)
        os.read(ready, 1)
        os.close(ready)

    @staticmethod
    def _run(arguments: list[str], log: Path, started: int) -> None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), write_through=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["sspl", *arguments]
        code: object = 1
        try:
            os.write(started, b"x")
            command_line()
            code = 0
        except SystemExit as request:
            code = request.code or 0
        except BaseException as error:
            print(f"Traceback: {error!r}", file=sys.stderr)
        finally:
            os._exit(code if isinstance(code, int) else 1)

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def damage(folder: Path) -> list[str]:
    """Return what is wrong with the files that stand under a final name."""
    found = []
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.startswith("."):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".csv":
                rows = list(csv.reader(path.open(newline="")))
                assert len({len(row) for row in rows}) == 1
            elif path.suffix == ".safetensors":
                read_tensors(path)
            elif path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix in {".txt", ".yaml"}:
                assert path.read_text().endswith("\n")
        except Exception as error:
            found.append(f"{path.name} is not whole: {error!r}")
    return found


def content(path: Path) -> object:
    """Return what two runs must have in common of a file."""
    if path.suffix == ".safetensors":
        tensors, facts = read_tensors(path)
        return facts, {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in tensors.items()}
    if path.suffix == ".json":
        facts = json.loads(path.read_text())
        return {k: v for k, v in facts.items() if k not in CLOCKS}
    return path.read_bytes()


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """Return the files in which two run folders differ."""

    def files(root: Path) -> dict[str, Path]:
        paths = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
        return {str(p.relative_to(root)): p for p in paths if p.name != KEPT_BEFORE}

    mine, other = files(folder), files(undisturbed)
    found = [f"{name} is there in one run alone" for name in sorted(mine.keys() ^ other.keys())]
    both = sorted(mine.keys() & other.keys())
    return found + [f"{n} differs" for n in both if content(mine[n]) != content(other[n])]


class Trials:
    """Commands on drawn faces, and their undisturbed runs to compare with."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.record = Record()
        faces = folder / "faces"
        self._must("data", "synthetic", faces, "--count", 40, "--seed", 5, "--size", 40)
        self._make_parser()
        pictures, masks = faces / "img_align_celeba", faces / "masks"
        pre = (
            "pretrain", "--preset", "demo", "--data", f"celeba:{faces},masks={masks}", *TINY,
            "prt.patch_size=32", "prt.grid=2", "optim.epochs=3", "save_every=2", "--resume",
        )  # fmt: skip
        fine = (
            "finetune", "--preset", "demo", "--data", f"celeba:{faces}", "--from",
            folder / "undisturbed-pretrain", "--labels", 16, *TINY, "optim.epochs=6",
            "evaluate_every=1", "--resume",
        )  # fmt: skip
        run = ("parser", "run", folder / "parser", pictures, "--short-side", 32, "--batch-size", 4)
        self.commands: Mapping[str, tuple[Any, ...]] = {
            "pretrain": pre, "finetune": fine, "parser run": run
        }  # fmt: skip
        self.seconds = {name: self._undisturbed(name) for name in self.commands}

    def _make_parser(self) -> None:
        torch.manual_seed(0)
        taxonomy, size = built_in_taxonomy("celebamask19"), ParserModelSettings(width=0.125)
        network = ParserNetwork(len(taxonomy), size).eval()
        save_parser(self.folder / "parser", ParserModel(network, taxonomy, 64), size)

    def _start(self, name: str, out: Path) -> Process:
        arguments = [str(a) for a in (*self.commands[name], "--out", out)]
        return Process(arguments, self.folder / "log.txt")

    def _must(self, *arguments: object) -> None:
        process = Process([str(a) for a in arguments], self.folder / "log.txt")
        if process.wait():
            raise SystemExit(f"{arguments} failed: {process.said()}")

    def _undisturbed(self, name: str) -> float:
        begun = time.monotonic()
        self._must(*self.commands[name], "--out", self.folder / self._slug(name))
        return time.monotonic() - begun

    @staticmethod
    def _slug(name: str) -> str:
        return f"undisturbed-{name.replace(' ', '-')}"

    def trial(self, name: str, kills: int) -> None:
        """Start a command, kill it up to so many times, let it finish and compare."""
        record, out = self.record, self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        record.trials += 1
        for _ in range(kills):
            number = self.random.choice(SIGNALS)
            process = self._start(name, out)
            time.sleep(0.005 + self.random.random() * self.seconds[name])
            process.kill(number)
            code = process.wait()
            record.kills += 1
            record.by_signal[number.name] += 1
            record.by_command[name] += 1
            self._judge(name, number, code, process.said())
            self.record.problems += [f"{name}: {d}" for d in damage(out)]
        process = self._start(name, out)
        if process.wait():
            record.problems.append(f"{name}: cannot go on: {process.said()[-500:]}")
            return
        found = differences(out, self.folder / self._slug(name))
        record.problems += [f"{name}: {d}" for d in found]

    def _judge(self, name: str, number: signal.Signals, code: int, said: str) -> None:
        if code == 0:
            self.record.finished_before_the_kill += 1
        elif code != EXITS[number]:
            self.record.problems.append(f"{name}: {number.name} exits with {code}: {said[-500:]}")
        elif number != signal.SIGKILL and ("Traceback" in said or "Interrupted;" not in said):
            self.record.problems.append(f"{name}: {number.name} says {said[-500:]}")

    def run(self, kills: int, together: int) -> Record:
        """Kill so many times, in trials of up to `together`; the commands take turns."""
        names = list(self.commands)
        while self.record.kills < kills:
            most = min(together, kills - self.record.kills)
            name = names[self.record.trials % len(names)]
            self.trial(name, self.random.randint(1, most))
        return self.record


@click.command()
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True)
@click.option("--together", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(kills: int, together: int, seed: int) -> None:
    """Kill commands at random moments; print a record."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record = Trials(Path(folder), seed).run(kills, together)
    click.echo(record.text())
    sys.exit(1 if record.problems else 0)


if __name__ == "__main__":
    main()
