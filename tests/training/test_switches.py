"""Switches that all commands share: --quiet, --json, and completion by the shell."""

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from shared import make_model
from shared import sspl as command
from sspl.cli.main import cli, main
from sspl.models.bundle import save_model


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "faces"
    command("data", "synthetic", out, "--count", 20, "--size", 48)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_model(folder, make_model("sspl", flip_average=True))
    return folder


class Said(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run a command whose stderr is a terminal, in this process: another takes seconds to start."""

    def run(*arguments: object) -> Said:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 100))
        said = bytearray()

        def listen() -> None:
            # Linux ends a terminal whose other end is closed with an error.
            with contextlib.suppress(OSError):
                while chunk := os.read(ours, 4096):
                    said.extend(chunk)

        listener = threading.Thread(target=listen)
        listener.start()
        monkeypatch.setattr(sys, "argv", ["sspl", *map(str, arguments)])
        monkeypatch.setenv("TQDM_DISABLE", "0")  # which --quiet sets
        code, stdout = 0, io.StringIO()
        with (
            os.fdopen(theirs, "w") as terminal,
            contextlib.redirect_stderr(terminal),
            contextlib.redirect_stdout(stdout),
        ):
            try:
                main()
            except SystemExit as left:
                code = int(left.code or 0)
        listener.join()
        os.close(ours)
        return Said(code, stdout.getvalue(), said.decode())

    return run


def commands(group: click.Group, path: str = "sspl") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, below in group.commands.items():
        if isinstance(below, click.Group):
            yield from commands(below, f"{path} {name}")
        else:
            yield f"{path} {name}", below


def test_every_command_takes_quiet_once() -> None:
    found = dict(commands(cli))
    assert {"sspl", "sspl predict", "sspl faces detect", "sspl parser run"} <= set(found)
    for path, one in found.items():
        switches = [o for p in one.params for o in p.opts]
        assert switches.count("--quiet") == switches.count("-q") == 1, path
        assert len(switches) == len(set(switches)), path


def test_every_command_that_ends_with_a_result_takes_json_once() -> None:
    found = dict(commands(cli))
    groups = {path for path, one in found.items() if isinstance(one, click.Group)}
    lacking = set()
    for path in found.keys() - groups:
        switches = [o for p in found[path].params for o in p.opts]
        assert switches.count("--json") <= 1
        if "--json" not in switches:
            lacking.add(path)
    assert lacking == {"sspl label", "sspl serve"}  # servers


def test_quiet_wins_over_bars_that_only_the_first_process_shows(
    on_a_terminal: Callable[..., Said], run: Path, faces: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    arguments = ["evaluate", tmp_path / "run", "--data", f"celeba:{faces}", "--split", "all",
                 "--resamples", "0"]  # fmt: skip
    assert "face/s" in on_a_terminal(*arguments).stderr
    quiet = on_a_terminal(*arguments, "--quiet")
    assert (quiet.code, quiet.stderr) == (0, "")
    assert quiet.stdout.startswith("attribute ")


def test_quiet_leaves_the_result_and_the_errors(
    on_a_terminal: Callable[..., Said], run: Path, faces: Path, tmp_path: Path
) -> None:
    pictures, out = faces / "img_align_celeba", tmp_path / "p.csv"
    arguments = ["predict", run, pictures, "--out", out]
    assert command(*arguments).stderr == ""
    out.unlink()
    assert "picture/s" in on_a_terminal(*arguments).stderr
    out.unlink()
    quiet = on_a_terminal(*arguments, "--quiet")
    assert (quiet.code, quiet.stderr) == (0, "")
    assert quiet.stdout == f"20 faces in {out}\n"
    wrong = on_a_terminal("--quiet", "data", "check", "nowhere")
    assert (wrong.code, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Error: nowhere")


def test_results_as_json(run: Path, faces: Path, tmp_path: Path) -> None:
    pictures = faces / "img_align_celeba"
    found = json.loads(command("data", "check", faces, "--json").stdout)
    assert found["faces"] == sum(found["splits"].values()) == 20
    assert set(found["attributes"]["Smiling"]) == {"positive", "negative", "missing"}
    assert sum(found["attributes"]["Smiling"].values()) == 20
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    (tmp_path / "broken" / "b.jpg").write_bytes((pictures / "000001.jpg").read_bytes())
    listed = command("data", "check", tmp_path / "broken", "--on-error", "skip", "--json").stdout
    assert [row["image"] for row in json.loads(listed)["skipped"]] == ["a.png"]
    out = tmp_path / "p.csv"
    counts = json.loads(command("predict", run, pictures, "--out", out, "--json").stdout)
    assert counts == {
        "faces": 20, "pictures": 20, "without": 0, "skipped": 0, "answers": 60, "unsure": 0,
        "out": str(out),
    }  # fmt: skip
    spec, means = f"celeba:{faces}", {}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    judged = command(
        "evaluate", tmp_path / "run", "--data", spec, "--split", "all", "--json", "--resamples", 0
    )
    means = json.loads(judged.stdout)["mean"]
    kept = json.loads((tmp_path / "run" / "evaluation-all.json").read_text())["mean"]
    assert means == kept


def test_results_of_commands_that_make_files_as_json(
    run: Path, faces: Path, tmp_path: Path
) -> None:
    def result(*arguments: object) -> dict[str, object]:
        found: dict[str, object] = json.loads(command(*arguments, "--json").stdout)
        return found

    def out(name: str) -> tuple[str, Path]:
        return "--out", tmp_path / name

    pictures, masks = faces / "img_align_celeba", faces / "masks"
    drawn = result("data", "synthetic", tmp_path / "drawn", "--count", 3, "--size", 40)
    assert drawn == {"faces": 3, "out": str(tmp_path / "drawn")}
    packed = result("data", "pack", f"celeba:{faces}", *out("pack"))
    assert packed["bytes"] == sum(p.stat().st_size for p in (tmp_path / "pack").glob("*.tar"))
    assert (packed["faces"], packed["skipped"]) == (20, 0)
    tiny = ("size=64", "view=64", "steps=2", "batch_size=2", "model.width=0.125")
    trained = result("parser", "train", pictures, masks, *out("parser"), *tiny)
    assert 0 <= float(str(trained["mean_iou"])) <= 1
    tested = result("parser", "test", tmp_path / "parser", pictures, masks)
    assert tested["iou"] == trained["iou"]
    made = result("parser", "run", tmp_path / "parser", pictures, *out("masks"))
    assert made == {
        **json.loads((tmp_path / "masks/summary.json").read_text()),
        "out": str(tmp_path / "masks"),
    }
    listed = result("suggest", pictures, "--from", run, "--count", 4, *out("next.csv"))
    assert listed == {"faces": 4, "out": str(tmp_path / "next.csv")}
    card = result("model", "pack", run, *out("model"))["card"]
    assert card == str(tmp_path / "model" / "MODEL_CARD.md")


def test_the_shell_completes_commands_and_options() -> None:
    def completed(*words: str) -> list[str]:
        variables = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        output = subprocess.run(
            [sys.executable, "-m", "sspl"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | variables | {"_SSPL_COMPLETE": "bash_complete"},
        )
        return output.stdout.split()

    assert "plain,predict" in completed("sspl", "pre")
    assert "plain,--annotate" in completed("sspl", "predict", "--ann")
