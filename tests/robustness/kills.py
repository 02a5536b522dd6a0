"""Commands killed at random moments, resumed, and compared with undisturbed runs.

    python -m tests.robustness.kills --kills 50

Each trial starts a command on a few drawn faces, waits until it has written something, ends it at a
random moment after that with SIGKILL, SIGTERM or SIGINT, up to `--together` times, and lets it
finish. Kills of commands that had ended already do not count; such a command is tried again, and
killed earlier. After every kill each file under a final name must be whole; in the end all weights
must be bit-equal and all tables equal to those of a run that nobody disturbed. The labelling page
is answered all the while, and must have kept every answer that it has acknowledged. Prints a record
as JSON; exits with 1 when something was not as it should be.
"""

import csv
import importlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import click
import torch
from PIL import Image
from tests.shared import post

from sspl.cli.main import main as command_line
from sspl.domain.taxonomy import built_in_taxonomy
from sspl.io.runs import versions
from sspl.io.weights import read_tensors
from sspl.parsing.model import ParserModel, save_parser
from sspl.parsing.network import ParserNetwork
from sspl.parsing.parser_settings import ParserModelSettings

# Imported here, so that the processes that are forked off have it all at once.
for module in (
    "data.packs.write",
    "data.synthetic",
    "faces.photographs",
    "inference.predict",
    "apps.labelling.app",
    "apps.labelling.start",
    "parsing.commands",
    "parsing.masks",
    "study.estimate",
    "study.runner",
    "training.finetune",
    "training.pretrain",
):
    importlib.import_module(f"sspl.{module}")

SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXITS: Final = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
CLOCKS: Final = ("started", "seconds", "train_seconds")
"""What runs note that is of their time alone."""

OWN: Final = ("state.previous.safetensors", "seconds.json")
"""Files that tell how a run came about, and may differ."""

MOST_WAITED: Final = 0.8
"""Share of the time that a command works after which it is killed at the latest."""

MOST_TRIES: Final = 4
"""Trials, at most, until a command is killed before it ends; each one waits a third as long."""

ASKED: Final = "Smiling,Wearing_Hat"
TINY: Final = (
    "canvas=40",
    "input_size=32",
    "backbone.width=0.05",
    "backbone.stem_stride=2",
    "optim.batch_size=8",
    "runtime.precision=fp32",
)


@dataclass
class Record:
    """What happened."""

    kills: int = 0
    trials: int = 0
    by_signal: Counter[str] = field(default_factory=Counter)
    by_command: Counter[str] = field(default_factory=Counter)
    finished_before_the_kill: int = 0
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=versions)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(self.__dict__, indent=2)


@dataclass(frozen=True)
class Work:
    """A command that is killed.

    Args:
        arguments: without `--out`.
        out: what `--out` is, within the folder of a trial.
        client: talks to the command until nothing is left to do, for one that does not end by
            itself.
        after: the command whose undisturbed run it reads.
    """

    arguments: tuple[Any, ...]
    out: str = "."
    client: Callable[["Process"], None] | None = None
    after: str | None = None


def progress(folder: Path) -> set[tuple[str, int, int]]:
    """Return what stands in a folder, but for locks; it differs when something was written."""
    found = set()
    for place, _, files in os.walk(folder):
        for name in files:
            path = Path(place, name)
            with suppress(FileNotFoundError):
                status = path.stat()
                found.add((str(path), status.st_mtime_ns, status.st_size))
    return {entry for entry in found if not entry[0].endswith(".lock")}


class Process:
    """A command in a process of its own, forked from this one, which has imported everything.

    With `largest_file` the system lets no file become larger than so many bytes.
    """

    def __init__(
        self, arguments: list[str], log: Path, largest_file: int = resource.RLIM_INFINITY
    ) -> None:
        self.log = log
        ready, started = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(ready)
            self._run(arguments, log, started, largest_file)
        os.close(started)
        os.read(ready, 1)
        os.close(ready)

    @staticmethod
    def _run(arguments: list[str], log: Path, started: int, largest_file: int) -> None:
        # A forked process has none of its parent's OpenMP threads and must not wait for them.
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
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

    def ended(self) -> bool:
        """Tell whether the process has ended, whether it was waited for or not."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

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
            elif path.suffix == ".tar":
                with tarfile.open(path) as archive:
                    assert all(archive.extractfile(m) for m in archive.getmembers())
            elif path.suffix == ".npz":
                assert zipfile.ZipFile(path).testzip() is None
            elif path.suffix in {".txt", ".yaml"}:
                assert path.read_text().endswith("\n")
        except Exception as error:
            found.append(f"{path.name} is not whole: {error!r}")
    return found


def content(path: Path) -> object:
    """Return what two runs must have in common of a file."""
    if path.suffix == ".safetensors":
        tensors, metadata = read_tensors(path)
        return metadata, {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in tensors.items()}
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        return {k: v for k, v in content.items() if k not in CLOCKS}
    if path.suffix == ".csv":
        rows = csv.DictReader(path.open(newline=""))
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
    return path.read_bytes()


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """Return the files in which two run folders differ."""

    def files(root: Path) -> dict[str, Path]:
        paths = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
        return {
            str(p.relative_to(root)): p for p in paths if p.name not in OWN and p.suffix != ".lock"
        }

    mine, other = files(folder), files(undisturbed)
    found = [f"{name} is there in one run alone" for name in sorted(mine.keys() ^ other.keys())]
    both = sorted(mine.keys() & other.keys())
    return found + [f"{n} differs" for n in both if content(mine[n]) != content(other[n])]


class Labeller:
    """Answers the labelling page; what is said of a face follows from its name.

    `acknowledged` holds the names of the faces whose answers were saved, as the page said.
    """

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()

    def __call__(self, process: Process) -> None:
        """Answer until every face is finished or the server is gone."""
        try:
            place = self._address(process)
            while place and (faces := post(*place, "v1/round", {"tab": "one"})["faces"]):
                for face in faces:
                    name = face["name"]
                    values = {a: len(name) * ord(name[-5]) // n % 2 for n, a in self._asked()}
                    told = {"tab": "one", "face": face["face"], "name": name, "values": values}
                    post(*place, "v1/answer", told)
                    self.acknowledged.add(name)
        except (OSError, HTTPException):
            return

    @staticmethod
    def _asked() -> list[tuple[int, str]]:
        return list(enumerate(ASKED.split(","), 1))

    @staticmethod
    def _address(process: Process) -> tuple[str, str] | None:
        """Return where the page is and its key, once it says so; None when it has ended first."""
        while not process.ended():
            said = [line for line in process.said().splitlines(True) if line.startswith("open ")]
            if said and said[0].endswith("\n"):
                address, _, key = said[0].split()[1].partition("#")
                return address, key
            time.sleep(0.01)
        return None


class Trials:
    """Commands on drawn faces, and their undisturbed runs to compare with.

    `commands` are those to kill; all of them unless given.
    """

    def __init__(self, folder: Path, seed: int, commands: Sequence[str] = ()) -> None:
        self.folder, self.out = folder, folder / "out"
        self.random = random.Random(seed)
        self.record = Record()
        self.labeller = Labeller()
        faces = folder / "faces"
        self._must("data", "synthetic", faces, "--count", 40, "--seed", 5, "--size", 40)
        self._make_parser()
        (folder / "study.json").write_text(json.dumps(study(faces)))
        self.works = self._works(faces, faces / "img_align_celeba", faces / "masks")
        self.commands = tuple(commands or self.works)
        self.seconds: dict[str, float] = {}
        """How long each works, from when it first writes something to its end."""
        for name in self.commands:
            self._prepare(name)

    def _prepare(self, name: str) -> None:
        """Keep the undisturbed run of a command, after that of the one which it needs."""
        if name not in self.seconds:
            if before := self.works[name].after:
                self._prepare(before)
            self.seconds[name] = self._undisturbed(name)

    def _works(self, faces: Path, pictures: Path, masks: Path) -> Mapping[str, Work]:
        train = (
            "parser", "train", pictures, masks, "--pairs", 12, "size=64", "view=32", "steps=24",
            "batch_size=4", "model.width=0.125", "precision=fp32", "save_every=5", "--resume",
        )  # fmt: skip
        run = (
            "parser",
            "run",
            self.folder / "parser",
            pictures,
            "--short-side",
            32,
            "--batch-size",
            4,
        )
        pre = (
            "pretrain", "--preset", "demo", "--data", f"celeba:{faces},masks={masks}", *TINY,
            "task.prt.patch_size=32", "task.prt.grid=2", "optim.epochs=3", "save_every=2",
            "--resume",
        )  # fmt: skip
        fine = (
            "finetune", "--preset", "demo", "--data", f"celeba:{faces}", "--from",
            self._kept("pretrain"), "--labels", 16, *TINY, "optim.epochs=6", "evaluate_every=1",
            "--resume",
        )  # fmt: skip
        benchmark = ("benchmark", "--config", self.folder / "study.json")
        pack = ("data", "pack", f"celeba:{faces},masks={masks}", "--canvas", 32, "--shard-faces", 4)
        predict = (
            "predict",
            self._kept("finetune"),
            pictures,
            "--batch-size",
            2,
            "--annotate",
            self.out / "drawn",
        )
        detect = (
            "faces", "detect", pictures, "--detector", "haar", "--min-score", 0, "--min-size", 8,
            "--format", "png",
        )  # fmt: skip
        label = ("label", pictures, "--attributes", ASKED, "--port", 0)
        return {
            "pretrain": Work(pre),
            "finetune": Work(fine, after="pretrain"),
            "parser train": Work(train),
            "parser run": Work(run),
            "benchmark": Work(benchmark),
            "pack": Work(pack),
            "labelling": Work(label, "labels.csv", self.labeller),
            "predict": Work(predict, "p.csv", after="finetune"),
            "faces detect": Work(detect, "crops"),
        }

    def _make_parser(self) -> None:
        torch.manual_seed(0)
        taxonomy, size = built_in_taxonomy("celebamask19"), ParserModelSettings(width=0.125)
        network = ParserNetwork(len(taxonomy), size).eval()
        save_parser(self.folder / "parser", ParserModel(network, taxonomy, 64), size)

    def _start(self, name: str) -> Process:
        work = self.works[name]
        self.out.mkdir(exist_ok=True)
        arguments = [str(a) for a in (*work.arguments, "--out", self.out / work.out)]
        return Process(arguments, self.folder / "log.txt")

    def _must(self, *arguments: object) -> None:
        process = Process([str(a) for a in arguments], self.folder / "log.txt")
        if process.wait():
            raise SystemExit(f"{arguments} failed: {process.said()}")

    def _finish(self, name: str) -> str:
        """Run a command to its end; return what it says when it fails."""
        return self._end(name, self._start(name))

    def _end(self, name: str, process: Process) -> str:
        client = self.works[name].client
        if client is None:
            return process.said() if process.wait() else ""
        client(process)
        process.kill(signal.SIGINT)
        return process.said() if process.wait() else ""

    def _undisturbed(self, name: str) -> float:
        """Run a command in the folder of all trials, for files name it; keep what it made."""
        self._clear()
        before, process = progress(self.out), self._start(name)
        self._await_progress(process, before)
        begun = time.monotonic()
        if failure := self._end(name, process):
            raise SystemExit(f"{name} failed: {failure}")
        seconds = time.monotonic() - begun
        self.out.rename(self._kept(name))
        return seconds

    def _await_progress(self, process: Process, before: set[tuple[str, int, int]]) -> None:
        """Wait until a command has written something, or has ended."""
        while progress(self.out) == before and not process.ended():
            time.sleep(0.002)

    def _kept(self, name: str) -> Path:
        return self.folder / f"undisturbed-{name.replace(' ', '-')}"

    def _clear(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.labeller.acknowledged.clear()

    def trial(self, name: str, kills: int, most_waited: float = MOST_WAITED) -> bool:
        """Start a command, kill it up to so many times, let it finish and compare.

        Returns whether one of the kills came before its end; `most_waited` is as `MOST_WAITED`.
        """
        record, before = self.record, self.record.kills
        self._clear()
        record.trials += 1
        for _ in range(kills):
            number = self.random.choice(SIGNALS)
            code, said = self._killed(name, number, most_waited)
            if self._interrupted(name, number, code, said):
                record.kills += 1
                record.by_signal[number.name] += 1
                record.by_command[name] += 1
            record.problems += [f"{name}: {d}" for d in damage(self.out)]
        if failure := self._finish(name):
            record.problems.append(f"{name}: cannot go on: {failure[-500:]}")
            return True
        left = [p.name for p in self.out.rglob(".*") if p.suffix in (".tmp", ".lock", ".partial")]
        record.problems += [f"{name}: {file} is left" for file in left]
        found = differences(self.out, self._kept(name))
        record.problems += [f"{name}: {d}" for d in found]
        return record.kills > before

    def _killed(self, name: str, number: signal.Signals, most_waited: float) -> tuple[int, str]:
        """Start a command and kill it at a random moment; return its exit code and last words."""
        before = progress(self.out)
        process, client = self._start(name), self.works[name].client
        talk = threading.Thread(target=client, args=(process,)) if client else None
        if talk:
            talk.start()
        self._await_progress(process, before)
        time.sleep(most_waited * self.random.random() * self.seconds[name])
        process.kill(number)
        code = process.wait()
        if talk:
            talk.join()
            self._require_answers(name)
        return code, process.said()

    def _require_answers(self, name: str) -> None:
        """Note the answers that were acknowledged and are not in the table."""
        table = self.out / self.works[name].out
        rows = csv.DictReader(table.open(newline="")) if table.exists() else ()
        lost = self.labeller.acknowledged - {row["image"] for row in rows}
        self.record.problems += [f"{name}: the answer for {face} is lost" for face in sorted(lost)]

    def _interrupted(self, name: str, number: signal.Signals, code: int, said: str) -> bool:
        """Tell whether a kill came before the end of the command; note what is wrong with it."""
        if code == 0 and self.works[name].client is not None and number != signal.SIGKILL:
            return True  # To be stopped is how a server ends.
        if code == 0:
            self.record.finished_before_the_kill += 1
            return False
        if code != EXITS[number]:
            self.record.problems.append(f"{name}: {number.name} exits with {code}: {said[-500:]}")
        elif number != signal.SIGKILL and ("Traceback" in said or "Interrupted;" not in said):
            self.record.problems.append(f"{name}: {number.name} says {said[-500:]}")
        return True

    def run(self, kills: int, together: int) -> Record:
        """Kill so many times, in trials of up to `together`; the commands take turns.

        Where the machine is too quick, or too busy to kill in time, there may be fewer.
        """
        begun = time.monotonic()
        for turn in range(kills):
            most = min(together, kills - self.record.kills)
            if most == 0:
                break
            name = self.commands[turn % len(self.commands)]
            count = self.random.randint(1, most)
            for attempt in range(MOST_TRIES):
                if self.trial(name, count, MOST_WAITED / 3**attempt):
                    break
        self.record.seconds = round(time.monotonic() - begun, 1)
        return self.record


def study(faces: Path) -> dict[str, Any]:
    """Return a study of two methods, one of them with a stage 1, over two label subsets."""
    tiny = {
        "canvas": 40,
        "input_size": 32,
        "backbone": {"width": 0.05, "stem_stride": 2},
        "optim": {"batch_size": 8, "epochs": 2},
        "runtime": {"precision": "fp32"},
    }
    head = {"head": {"pooling": "average"}, "evaluate_every": 1}
    return {
        "name": "toy",
        "data": f"celeba:{faces}",
        "preset": "demo",
        "unlabelled": [f"celeba:{faces},masks={faces / 'masks'}"],
        "pretrain": {**tiny, "save_every": 2},
        "finetune": {**tiny, **head},
        "methods": {"scratch": {}, "pct": {"pretrain": {"tasks": ["pct"]}}},
        "sections": [
            {"methods": ["scratch", "pct"], "labels": [12], "subsets": [0, 1]},
            {"methods": ["pct"], "labels": [12], "subsets": [0], "protocols": ["knn"]},
        ],
    }


@click.command()
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True)
@click.option("--together", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--command", "commands", multiple=True, help="One to kill; all unless given.")
def main(kills: int, together: int, seed: int, commands: tuple[str, ...]) -> None:
    """Kill commands at random moments; print a record."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record = Trials(Path(folder), seed, commands).run(kills, together)
    click.echo(record.text())
    sys.exit(1 if record.problems else 0)


if __name__ == "__main__":
    main()
