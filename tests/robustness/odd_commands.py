"""Odd command lines over all commands: each ends with one sentence, and writes nothing.

    python -m tests.robustness.odd_commands --count 1000
    python -m tests.robustness.odd_commands --count 1000 --record tests/robustness/odd_commands.txt
    python -m tests.robustness.odd_commands --case 471      # one line again, in the open

The lines are made from the commands themselves: every argument and option, with a value that its
type cannot take (or can, where that is known), settings that are not there or out of range, paths
that are folders, devices, pipes, sockets or nothing, words in other scripts, halves of characters.
A line ends with exit code 2, one sentence on stderr, no trace, nothing on stdout and nothing new in
any folder; the few whose value is fine may also end with 0. Lines are functions of seed and number.
"""

import hashlib
import importlib
import io
import json
import logging
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from PIL import Image

from sspl.cli import main as entry
from sspl.cli.values import FileOut, Finite, FolderOut, Host, Name, Text
from sspl.domain.attributes import AttributeSchema
from sspl.io.files import write_text
from sspl.io.runs import versions
from sspl.models.bundle import AttributeModel, save_model
from sspl.models.network_settings import BackboneSettings, HeadSettings
from sspl.models.splnet import build_attribute_network

SECONDS: Final = 60

BIDI, HALF, NUL = "\u202eabc", "a\udcffb", "a\0b"
HUGE: Final = str(10**30)
NO_NUMBERS: Final = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "x",
    "0x10",
    "٣x",
    BIDI,
    HALF,
    NUL,
    "1,5",
)
NO_WORDS: Final = ("", " ", HALF, NUL)
ODD_SETTINGS: Final = (
    "", "=", "=3", "seed", "seed.x=1", "nothing=1", "optim.nothing=1", "seed=", "seed=-1",
    "seed=1.5",
    f"seed={2**63}", f"seed={HUGE}", "seed=" + "9" * 5000, "seed=2001-99-99", "seed=!!int abc",
    "seed=!!float x", "seed=0b_", "seed=!!timestamp foo", "seed=0x", "seed=.nan", "seed=[",
    "seed={a: 1",
    "seed=!!python/object/apply:os.getcwd []", "seed=&a [*a]", "seed={a: 1, a: 2}", "seed=? [1]",
    "optim.lr=.nan", "optim.lr=.inf", "optim.lr=0", "optim.lr=-1", "optim.epochs=0",
    "optim.epochs=.inf",
    f"optim.epochs={HUGE}", "optim.batch_size=1", "optim=3", "optim=null", "canvas=24000",
    "canvas=-1",
    "steps=0", "steps=.nan", f"steps={HUGE}", "model.width=.nan", "size=65", "every=0",
    "every=.inf",
    "hosts=3", "rate=.nan", "rate=0", "max_bytes=.inf", "max_bytes=-1", f"seed={BIDI}",
    f"seed={HALF}",
    f"x{NUL}=1", "seed=" + "[" * 3000, "device=nowhere", "runtime.device=nowhere", "faces=5",
    "tasks=[]", "tasks=[prt,prt]", "tasks=[nothing]", "labels.count=0", "labels.fraction=.nan",
    "labels.fraction=2", "methods=3",
)  # fmt: skip
ODD_SPECS: Final = (
    "", " ", "nothing:x", "celeba:", ":", "celeba:{none}", "csv:{none}", "csv:{folder}",
    "packed:{folder}",
    "lfwa:{folder}", "maad:{folder}", "utkface:{empty}", "folder:{empty}", "folder:{file}",
    "folder:{images},crop=nan:0:1:1", "folder:{images},crop=1:0:0:1", "folder:{images},crop=inf",
    "folder:{images},masks={none}", "folder:{images},nothing=1", "folder:{images},crop", "{none}",
    "folder:{images},on_missing=perhaps", "csv:{junk}", "celeba:{folder},split_file={none}",
    BIDI, HALF,
    NUL, "folder:" + "x" * 5000, "csv:/dev/null", "csv:{pipeless}", "folder:/dev/null",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A command line, which value makes it odd, and whether it may succeed."""

    words: tuple[str, ...]
    about: str
    fine: bool = False


@dataclass(frozen=True)
class Place:
    """A folder of things that commands may be given, made once."""

    root: Path

    def words(self) -> dict[str, str]:
        """Return what stands for each thing."""
        names = (
            "none",
            "file",
            "folder",
            "empty",
            "images",
            "masks",
            "junk",
            "model",
            "pipe",
            "socket",
        )
        return {name: str(self.root / name) for name in names} | {
            "pipeless": str(self.root / "none" / "x.csv"),
            "readme": str(self.root / "file"),
        }


def make_place(root: Path) -> Place:
    """Make the folder."""
    # At once: threads of one line would import it while the next one does.
    importlib.import_module("torch._dynamo")
    for name in ("folder", "empty", "images", "masks", "model"):
        (root / name).mkdir(parents=True)
    (root / "folder" / "x.txt").write_text("x")
    (root / "file").write_text("nothing of this software\n")
    (root / "junk").write_bytes(b'\xff\xfe\0junk,\n"')
    for i in range(3):
        Image.new("RGB", (40, 40), (80 * i, 9, 9)).save(root / "images" / f"{i}.png")
        Image.new("L", (40, 40), i).save(root / "masks" / f"{i}.png")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket may have 107 bytes.
        here = Path.cwd()
        os.chdir(root)
        listener.bind("socket")
        os.chdir(here)
    schema = AttributeSchema(("Smiling", "Young"), ("whole", "whole"))
    network = build_attribute_network(
        "sspl", BackboneSettings(width=0.02, stem_stride=2), HeadSettings(), schema
    ).eval()
    ones = np.ones(2)
    save_model(
        root / "model", AttributeModel(network, schema, (0, 0, 1, 1), 40, 32, True, ones, ones)
    )
    return Place(root)


def commands(
    group: click.Group, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield the words and the command of every leaf of the tree."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


KINDS: Final = {
    "inputs": "{images}", "spec": "folder:{images}", "faces": "folder:{images}", "model": "{model}",
    "run": "{model}", "run_a": "{model}", "run_b": "{model}", "runs": "{model}",
    "images": "{images}",
    "masks": "{masks}", "parts": "{folder}", "photos": "{images}", "readme": "{file}",
    "source": "{model}",
    "tables": "{file}", "config": "celeba10k", "attributes": "Smiling",
}  # fmt: skip
SPECS: Final = frozenset({"spec", "specs", "faces", "labelled", "unlabelled"})


def plausible(parameter: click.Parameter) -> str:
    """Return a value that the parameter takes by its type."""
    if isinstance(parameter.type, FileOut):
        return "out/a.csv"
    if isinstance(parameter.type, FolderOut):
        return "out"
    return KINDS.get(str(parameter.name), "{none}")


def _beyond(least: float | None, most: float | None) -> list[str]:
    edges = ((least, -1), (most, 1))
    return [str(edge + step) for edge, step in edges if edge is not None]


UNUSED: Final = ((("data", "check"), "taxonomy"),)
"""Options that are not looked at where the rest of a line does not need them."""


def oddities(parameter: click.Parameter) -> list[tuple[str, bool]]:
    """Return odd values of a parameter, and whether a command may succeed with each."""
    kind, name = parameter.type, str(parameter.name)
    if name == "overrides":
        return [(text, False) for text in ODD_SETTINGS]
    if name in SPECS:
        return [(text, False) for text in ODD_SPECS]
    if isinstance(kind, FileOut):
        words = ("", " ", NUL, HALF, "{folder}", "{empty}", "/dev/null", "/dev/full", "{pipe}",
                 "{socket}", "{file}/x.csv", "/proc/none/x.csv", "x" * 5000)  # fmt: skip
        return [(word, False) for word in words]
    if isinstance(kind, FolderOut):
        words = ("", " ", NUL, HALF, "{file}", "/dev/null", "{pipe}", "{socket}", "{file}/x",
                 "/proc/none", "x" * 5000)  # fmt: skip
        return [(word, False) for word in words]
    if isinstance(kind, Name):
        # An empty file of settings is one: what is run then is none of these lines.
        empty = () if name == "settings_file" else ("/dev/null",)
        words = (*NO_WORDS, BIDI, "{none}", *empty, "{pipeless}", "{junk}", "x" * 5000)
        return [(word, False) for word in words]
    if isinstance(kind, click.IntRange):
        beyond = _beyond(kind.min, kind.max)
        return [(word, False) for word in (*NO_NUMBERS, HUGE, f"-{HUGE}", "1.5", *beyond)]
    if isinstance(kind, Finite):
        beyond = _beyond(kind.min, kind.max)
        return [(word, False) for word in (*NO_NUMBERS, f"-{HUGE}", *beyond)]
    if isinstance(kind, Host):
        words = (*NO_WORDS, BIDI, "a b", "a/b", "x" * 300, "a\nb", "ⓛocalhost")
        return [(word, False) for word in words]
    if isinstance(kind, click.Choice):
        return [(word, False) for word in (*NO_WORDS, "nothing", BIDI, HUGE)]
    if isinstance(kind, Text):
        odd = [(word, False) for word in NO_WORDS]
        more = {
            "device": ("nowhere", "cuda:x", BIDI),
            "preset": ("nothing", BIDI, "../small"),
            "taxonomy": ("{none}", "{junk}", "/dev/null"),
            "classes": ("{none}", "{junk}"),
        }
        return odd + [(word, False) for word in more.get(name, ())]
    return []


def lines_of(words: tuple[str, ...], command: click.Command) -> Iterator[Line]:
    """Yield every odd line of a command, one thing wrong in each."""
    needed, title = [p for p in command.params if p.required], " ".join(words)

    def line(odd: click.Parameter | None, value: str, *more: str) -> tuple[str, ...]:
        given: list[str] = []
        for parameter in needed:
            shown = value if parameter is odd else plausible(parameter)
            given += [parameter.opts[0], shown] if isinstance(parameter, click.Option) else []
        if odd is not None and odd not in needed and isinstance(odd, click.Option):
            given += [odd.opts[0], *[value] * odd.nargs]
        given += more
        # What begins with a dash is a value here, not an option.
        after = [
            value if p is odd else plausible(p) for p in needed if isinstance(p, click.Argument)
        ]
        if odd is not None and odd not in needed and isinstance(odd, click.Argument):
            after.append(value)
        return (*words, *given, "--", *after)

    for parameter in command.params:
        for value, fine in oddities(parameter):
            about = f"{title}: {parameter.name}={value[:60]!a}"
            yield Line(line(parameter, value), about, fine or (words, parameter.name) in UNUSED)
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            yield Line(
                (*words, parameter.opts[0]), f"{' '.join(words)}: {parameter.name} without a value"
            )
        if parameter.required:
            # A command that only lacks one thing says which.
            full = [p for p in needed if p is not parameter]
            given = [
                w for p in full if isinstance(p, click.Option) for w in (p.opts[0], plausible(p))
            ]
            rest = [plausible(p) for p in full if isinstance(p, click.Argument)]
            yield Line((*words, *given, *rest), f"{title}: no {parameter.name}")
    for option in (
        "--nothing",
        "--nothing=1",
        f"--{BIDI}",
        "-Z",
        "--json=1",
        "--quiet=no",
    ):
        yield Line(line(None, "", option), f"{' '.join(words)}: {option[:40]!a}")
    yield Line(
        (*line(None, ""), "{none}", "{none}", "{none}", "{none}"), f"{' '.join(words)}: too many"
    )


PAIRS: Final = (
    ("finetune --from none --data folder:{images} --out out --labels 3 --fraction 0.5",
    "two counts"),
    ("finetune --data folder:{images} --out out", "no --from"),
    ("finetune --from none --out out --settings {junk}", "settings that are junk"),
    ("finetune --from none --out out --settings {folder}", "settings that are a folder"),
    ("pretrain --data folder:{images} --out out", "no masks"),
    ("pretrain --out out", "no data"),
    ("export {model} --out out/a.onnx --int8", "int8 without faces"),
    ("export {model} --out out/a.onnx --calibrate folder:{images}", "faces without int8"),
    ("report {model} --out out/a.html --pair a b", "a pair of no study"),
    ("model decide {model} --split val", "a split without data"),
    ("model decide {model} Smiling", "no threshold"),
    ("model decide {model} Smiling=nan", "a threshold that is no number"),
    ("model decide {model} Smiling=inf --data folder:{images}", "an infinite threshold"),
    ("model decide {model} Smiling=0.5 Smiling=0.6", "a threshold twice"),
    ("model decide {model} Nothing=0.5 --data folder:{images} --split all", "no such attribute"),
    ("model decide {model} --data folder:{images} --split test", "a choice on test faces"),
    ("predict {model} {images} --out out/a.txt", "no kind of table"),
    ("predict {model} {none}/*.jpg --out out/a.csv", "a pattern that nothing fits"),
    ("predict {model} {none}.mp4 --out out/a.csv", "no such video"),
    ("predict {model} {junk} --out out/a.csv", "a file of another kind"),
    ("predict {model} {images} --out out/a.csv --annotate {images}", "drawings among pictures"),
    ("predict {file} {images} --out out/a.csv", "no model"),
    ("explain {model} {images} --out out --attributes Nothing", "no such attribute"),
    ("explain {file} {images} --out out", "no model"),
    ("data pack folder:{images},crop=celeba --out out", "a crop without a canvas"),
    ("data pack folder:{images} --out {folder}", "a folder of other things"),
    ("data synthetic {folder}", "a folder of other things"),
    ("faces detect {images} --out {images}/out", "crops among photographs"),
    ("faces detect {empty} --out out", "no photographs"),
    ("faces detect {images} --out out --min-score 2", "a score that no face has"),
    ("label folder:{images} --attributes image --out out/a.csv", "a name that is taken"),
    ("label folder:{images} --attributes =A --out out/a.csv", "a formula"),
    ("label folder:{images} --attributes A,A --out out/a.csv", "a name twice"),
    ("label folder:{images} --attributes A,,B --out out/a.csv", "no name"),
    ("benchmark --config nothing --out out", "no such study"),
    ("benchmark --config {junk} --out out", "a study that is junk"),
    ("compare {model} {model}", "no predictions"),
    ("evaluate {model}", "no data"),
    ("evaluate {model} --data folder:{images}", "no labels"),
    ("results {file} --from {file}", "no marks"),
    ("parser run {none} {images} --out out", "no parser"),
    ("parser run {none}.onnx {images} --out out", "no such graph"),
    ("parser run landmarks:{empty} {images} --out out", "no networks"),
    ("parser train {images} {images} --out out", "pictures as masks"),
    ("parser train {images} {empty} --out out", "no masks"),
    ("parser export {model} --out out/a.onnx", "no parser"),
    ("serve {file}", "no model"),
    ("serve {model} hosts=[]", "no hosts"),
    ("serve {model} hosts=['a*b']", "a pattern that is none"),
    ("tensorboard {empty} --out out", "no runs"),
    ("data merge-masks {empty} --out out", "no parts"),
    ("data check folder:{images} --on-error perhaps", "no such policy"),
    ("nothing", "no such command"),
    ("data nothing", "no such command"),
    ("--nothing", "no such option"),
)  # fmt: skip


def all_lines() -> list[Line]:
    """Return every line, in an order that mixes commands."""
    lines = [Line(tuple(text.split()), f"{text.split()[:2]}: {title}") for text, title in PAIRS]
    for words, command in commands(entry.cli):
        lines += lines_of(words, command)
    random.Random(0).shuffle(lines)
    return lines


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Return what lies below a folder: kind and content of each thing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = (mode, hashlib.sha256(path.read_bytes()).hexdigest() if plain else "")
    return found


class Hang(BaseException):
    """A line that does not come to an end; no handler of errors stops it."""


def _hang(*_: object) -> None:
    raise Hang


@dataclass(frozen=True)
class Ending:
    """How a line ended: exit code (1 for what was raised), what it said, and what it changed."""

    code: int
    out: str
    err: str
    raised: str
    changed: tuple[str, ...]

    def fault(self, line: Line) -> str | None:
        """Return what must not have happened, None where nothing of it did."""
        if self.raised:
            return f"raised {self.raised}"
        if self.code not in ((0, 2) if line.fine else (2,)):
            return f"exit code {self.code}"
        if self.changed and self.code:
            return f"changed {self.changed[0]}"
        if self.code == 0:
            return None
        if "Traceback" in self.err or self.out:
            return f"a trace, or words on stdout: {(self.out or self.err)[:200]!a}"
        said = [text for text in self.err.splitlines() if text.strip()]
        said = [text for text in said if not text.startswith(("Usage: ", "Try '"))]
        if len(said) != 1 or not said[0].startswith("Error: "):
            return f"no one sentence: {self.err[:300]!a}"
        return None


@contextmanager
def _at(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_line(line: Line, place: Place) -> Ending:
    """Run a line in an empty folder and in this process."""
    words = [_filled(word, place.words()) for word in line.words]
    here = Path(tempfile.mkdtemp(dir=place.root.parent))
    before = state(place.root)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    code, raised = 0, ""
    arguments, sys.argv = sys.argv, ["sspl", *words]
    signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with _at(here), redirect_stdout(out), redirect_stderr(err):
            entry.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except (Exception, Hang) as error:
        code, raised = 1, f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.argv = arguments
    new = [str(path.relative_to(here)) for path in here.rglob("*")]
    after = state(place.root)
    new += sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    new += [device for device in ("/dev/null", "/dev/full") if not Path(device).is_char_device()]
    shutil.rmtree(here, ignore_errors=True)
    said = [stream.buffer.getvalue().decode() for stream in (out, err) if not stream.flush()]  # type: ignore[attr-defined]
    return Ending(code, said[0], said[1], raised, tuple(new))


def _filled(word: str, words: dict[str, str]) -> str:
    for name, path in words.items():
        word = word.replace(f"{{{name}}}", path)
    return word


def run_lines(lines: Sequence[Line], root: Path) -> dict[str, dict[str, Any]]:
    """Run lines; return for each command how many there were, how they ended, and findings."""
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    found: dict[str, dict[str, Any]] = {}
    place = make_place(root / "place")
    for number, line in enumerate(lines):
        command = line.about.partition(":")[0]
        row = found.setdefault(command, {"lines": 0, "ended": Counter(), "findings": []})
        ending = run_line(line, place)
        row["lines"] += 1
        row["ended"][str(ending.code)] += 1
        fault = ending.fault(line)
        if fault is not None:
            row["findings"].append({"case": number, "line": line.about, "what": fault})
            print(number, line.about, fault, file=sys.stderr, flush=True)
    logging.disable(logging.NOTSET)
    return found


def record_text(found: dict[str, dict[str, Any]], seconds: float) -> str:
    """Return the record."""
    lines = sum(row["lines"] for row in found.values())
    findings = sum(len(row["findings"]) for row in found.values())
    head = [
        "Made by tests/robustness/odd_commands.py: of each command how many odd command lines it",
        "was given, their exit codes, and what must not have happened.",
        "",
        f"{lines:,} lines, {findings} findings, {seconds:.0f} s.",
        json.dumps(versions()),
        "",
    ]
    rows = [
        json.dumps({"command": name, **found[name]}, ensure_ascii=True) for name in sorted(found)
    ]
    return "\n".join([*head, *rows]) + "\n"


@click.command()
@click.option("--count", type=click.IntRange(1), help="So many lines; all unless given.")
@click.option("--case", "number", type=click.IntRange(0), help="Run this line alone, in the open.")
@click.option("--record", type=click.Path(path_type=Path), help="File to note the results in.")
def main(count: int | None, number: int | None, record: Path | None) -> None:
    """Give every command odd command lines; print a record."""
    lines = all_lines()
    root = Path(tempfile.mkdtemp())
    try:
        if number is not None:
            ending = run_line(lines[number], make_place(root / "place"))
            click.echo(f"{lines[number]}\n{ending}\n{ending.fault(lines[number])}")
            return
        begun = time.monotonic()
        found = run_lines(lines[:count], root)
        text = record_text(found, time.monotonic() - begun)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if record is not None:
        write_text(record, text)
    click.echo(text)
    sys.exit(1 if any(row["findings"] for row in found.values()) else 0)


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    main()
