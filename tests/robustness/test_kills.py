"""Signals and kills: a clean sentence, whole files, and the same result after going on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.robustness.kills import damage, differences

from sspl.cli.main import cli, main
from sspl.errors import DataError
from sspl.io.files import remove_leftovers
from sspl.io.weights import save_tensors

ROOT = Path(__file__).resolve().parents[2]


QUICK = ("pretrain", "pack", "labelling")


def test_killed_commands_go_on_to_the_same_result() -> None:
    """One kill of each quick command; `python -m tests.robustness.kills` makes more, and of all.

    On a machine that is very quick or busy some come too late, but hardly all of them.
    """
    command = [sys.executable, "-m", "tests.robustness.kills", "--kills", str(len(QUICK))]
    command += ["--together", "1", *(part for name in QUICK for part in ("--command", name))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    record = json.loads(result.stdout)
    assert 1 <= record["kills"] <= len(QUICK) <= record["trials"]
    assert record["trials"] == record["kills"] + record["finished_before_the_kill"]


def test_a_file_that_differs_or_is_not_whole_would_be_seen(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, value in ((one, 1.0), (other, 1.0 + 2**-23)):
        save_tensors(folder / "w.safetensors", {"a": torch.full((3,), value)}, {})
        (folder / "run.json").write_text(json.dumps({"started": str(folder), "seed": 1}))
        (folder / "rows.csv").write_text("a,b\n1,2\n")
    assert differences(one, other) == ["w.safetensors differs"]
    (one / "more.txt").write_text("x\n")
    assert differences(one, other) == [
        "more.txt is there in one run alone",
        "w.safetensors differs",
    ]
    assert not damage(one)
    content = (one / "w.safetensors").read_bytes()
    (one / "w.safetensors").write_bytes(content[:-1] + b"\x01")
    (one / "rows.csv").write_text("a,b\n1\n")
    (one / "run.json").write_text('{"a"')
    assert len(damage(one)) == 3


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (DataError("a.jpg: no such image."), 2, "Error: a.jpg: no such image."),
        (KeyboardInterrupt(), 130, "Interrupted; what was finished is kept."),
        (MemoryError(), 2, "Error: there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 B"), 2, "not enough memory"),
        (PermissionError(13, "Permission denied", "x.csv"), 2, "Error: x.csv: Permission denied."),
        (OSError(28, "No space left on device"), 2, "Error: No space left on device."),
    ],
)  # fmt: skip
def test_what_stops_a_command_is_one_sentence(
    raised: BaseException,
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(**_: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "main", stopped)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_mistake_in_the_software_still_shows_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a tensor of the wrong size")

    monkeypatch.setattr(cli, "main", broken)
    with pytest.raises(RuntimeError, match="wrong size"):
        main()


def test_a_request_to_end_is_taken_like_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(**_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(cli, "main", asked)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 143
    assert "Interrupted; what was finished is kept." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".state.safetensors.abc.tmp").write_bytes(b"half")
    (tmp_path / "mine.tmp").write_bytes(b"whole")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.tmp"]
