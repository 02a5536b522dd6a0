"""Files and folders that one process writes at a time, and what killed ones leave."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sspl.io.files import LOCK_FILE, atomic_path, holds_nothing, remove_leftovers, write_text
from sspl.io.locks import ClaimedError, claimed, is_locked, lock_of, locked

HOLD = """
import sys, time
from pathlib import Path
from sspl.io.locks import claimed
with claimed(Path(sys.argv[1]), folder=sys.argv[2] == "folder"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def other_process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_another_process_writes_is_refused_at_once_and_free_after_a_kill(
    tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "new" / "out"
    with other_process(HOLD, out, kind) as process:
        assert is_locked(lock_of(out, kind == "folder"))
        with (
            pytest.raises(ClaimedError, match=f"another process .process {process.pid} on"),
            claimed(out, folder=kind == "folder"),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with claimed(out, folder=kind == "folder"):
            pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with claimed(tmp_path / "other" / "out", folder=kind == "folder"):
        pass
    assert not (tmp_path / "other").exists(), "a claim that wrote nothing leaves nothing"


def test_a_claim_may_be_repeated_inside_and_ends_with_the_outer_one(tmp_path: Path) -> None:
    with claimed(tmp_path, folder=True):
        with claimed(tmp_path, folder=True):
            pass
        assert (tmp_path / LOCK_FILE).exists()
    with claimed(tmp_path, folder=True):
        write_text(tmp_path / "a.txt", "a\n")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_forked_process_does_not_hold_the_lock_of_its_parent(tmp_path: Path) -> None:
    ready, go = os.pipe()
    with locked(tmp_path / LOCK_FILE) as free:
        assert free
        child = os.fork()
        if not child:
            os.read(ready, 1)
            os._exit(0)
    try:
        with locked(tmp_path / LOCK_FILE) as free:
            assert free
    finally:
        os.write(go, b"x")
        os.waitpid(child, 0)


def test_a_lock_that_was_removed_meanwhile_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    with locked(path) as one:
        path.unlink()
        with locked(path) as other:  # of the new file of that name
            assert (one, other) == (True, True)
            with locked(path) as third:
                assert not third


def test_unfinished_files_of_killed_writers_go_and_those_of_living_ones_stay(
    tmp_path: Path,
) -> None:
    writer = (
        "import sys, time\nfrom pathlib import Path\nfrom sspl.io.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with other_process(writer, tmp_path / "a.txt") as process:
        (left,) = tmp_path.iterdir()
        remove_leftovers(tmp_path)
        assert left.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_leftovers_are_swept_where_they_belong_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    names = (
        ".a.csv.abcd1234.tmp",
        ".b.csv.abcd1234.tmp",
        "deep/.c.jpg.x_y.tmp",
        "mine.tmp",
        ".a.tmp",
        ".a.csv.UPPER.tmp",
        "deep/.hidden/.d.png.abcd.tmp",
    )
    for name in names:
        (tmp_path / name).write_text("x")

    def left() -> set[str]:
        return {n for n in names if (tmp_path / n).exists()}

    remove_leftovers(tmp_path, "a.csv")
    assert left() == set(names[1:])
    remove_leftovers(tmp_path)
    assert left() == set(names[2:])
    remove_leftovers(tmp_path, deep=True)
    assert left() == set(names[3:])


def test_a_folder_of_leftovers_holds_nothing(tmp_path: Path) -> None:
    assert holds_nothing(tmp_path / "absent")
    (tmp_path / ".pack.json.abcd1234.tmp").write_text("")
    (tmp_path / LOCK_FILE).write_text("")
    assert holds_nothing(tmp_path)
    (tmp_path / ".mine").write_text("")
    assert not holds_nothing(tmp_path)


def test_where_locks_cannot_tell_only_old_leftovers_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sspl.io.files._LOCKS_TELL", False)
    old, new = tmp_path / ".a.abcd1234.tmp", tmp_path / ".b.abcd1234.tmp"
    for path in (old, new):
        path.write_text("x")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [new]
    with atomic_path(tmp_path / "c") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "c").read_text() == "whole"


def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to remove a file that this process has open, and to sync one that it only reads."""
    unlink, fsync = Path.unlink, os.fsync

    def removed(path: Path, missing_ok: bool = False) -> None:
        held = Path("/proc/self/fd").iterdir()
        if path.exists() and any(f.exists() and f.samefile(path) for f in held):
            raise PermissionError(13, "it is open", str(path))
        unlink(path, missing_ok)

    def synced(handle: int) -> None:
        os.write(handle, b"")  # an error where it is open for reading alone
        fsync(handle)

    monkeypatch.setattr("sspl.io.files._LOCKS_TELL", False)
    monkeypatch.setattr(Path, "unlink", removed)
    monkeypatch.setattr(os, "fsync", synced)


def test_files_are_written_and_swept_where_open_ones_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs a list of the files that are open")
    as_on_windows(monkeypatch)
    with atomic_path(tmp_path / "whole") as temporary:
        temporary.write_text("whole")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "half") as temporary:
        temporary.write_text(str(1 / 0))
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    left = tmp_path / ".a.abcd1234.tmp"
    left.write_text("x")
    os.utime(left, (0, 0))
    with claimed(tmp_path, folder=True):
        assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", LOCK_FILE}
    with claimed(tmp_path, folder=True):
        pass
