"""Processes that do work of their own: what is said of their ends, and that none outlives."""

import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from sspl.distributed.side_by_side import side_by_side, some_cores
from sspl.errors import SsplError


def write(path: Path) -> None:
    path.write_text(str(os.getpid()))


def sleep(path: Path) -> None:
    write(path)
    time.sleep(600)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(after: Path) -> None:
    while not after.exists():
        time.sleep(0.02)
    raise SsplError("faces.csv: line 3 has no name.")


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    about = Path(f"/proc/{process}/stat")
    # A process that has ended may wait for somebody to ask how.
    return not about.exists() or about.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_dies_is_one_sentence_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = tmp_path / "done"
    with caplog.at_level(logging.WARNING):
        assert side_by_side([("cuda:0", die), ("cuda:1", partial(write, done))]) == ["cuda:0"]
    assert caplog.messages == [
        "the process on cuda:0 ended by SIGKILL; what it worked on is free again, and the others "
        "go on."
    ]
    assert done.exists()


def test_an_error_is_that_of_the_whole_and_ends_the_others(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    works = [("one", partial(sleep, begun)), ("two", partial(refuse, begun))]
    with pytest.raises(SsplError, match=r"^faces\.csv: line 3 has no name\.$"):
        side_by_side(works)
    assert not is_there(int(begun.read_text()))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    """Neither on Ctrl-C nor where it is killed outright."""
    begun = [tmp_path / name for name in "ab"]
    code = (
        "import signal, sys\nfrom functools import partial\nfrom pathlib import Path\n"
        # Started in the background of a script, processes are born deaf to Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sspl.distributed.side_by_side import side_by_side\n"
        "from test_side_by_side import sleep\n"
        "if __name__ == '__main__':\n"
        "    side_by_side([(p, partial(sleep, Path(p))) for p in sys.argv[1:]])\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, script, *begun], env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        while not all(p.exists() and p.read_text() for p in begun):
            assert parent.poll() is None
            time.sleep(0.02)
        parent.send_signal(how)
        parent.wait()
    workers = [int(p.read_text()) for p in begun]
    for _ in range(10_000):
        if not any(map(is_there, workers)):
            break
        time.sleep(0.02)
    else:
        pytest.fail("a process is still there")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be told here")
def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    every, asked = {0, 1, 2, 3, 4, 5, 6}, []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: every)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: asked.append(set(cores)))
    for part in range(3):
        with some_cores(part, 3):
            pass
    assert asked == [{0, 1}, every, {2, 3}, every, {4, 5, 6}, every]
    asked.clear()
    with some_cores(7, 8):
        pass
    assert asked == [every, every]
