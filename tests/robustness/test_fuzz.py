"""A few damaged inputs for every reader, and that the fuzzer sees what it looks for.

`python -m tests.robustness.fuzz --cases 1000000` makes more.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.robustness import fuzz
from tests.robustness.fuzz import READERS, Reader, Record, WrongError, run_batch

ROOT = Path(__file__).resolve().parents[2]


def test_damaged_input_is_read_or_refused() -> None:
    command = [sys.executable, "-m", "tests.robustness.fuzz", "--cases", str(30 * len(READERS))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    record = json.loads(result.stdout)
    assert not record["findings"]
    assert record["by_reader"].keys() == READERS.keys()
    # The first cases are the valid files; no reader refuses all of its own.
    assert all(counts.get("read") for counts in record["by_reader"].values())


def wrong(_: bytes, __: Path) -> None:
    raise WrongError("label 1 where the file says 0")


def crash(_: bytes, __: Path) -> None:
    raise KeyError("backbone")


def die(_: bytes, __: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_: bytes, __: Path) -> None:
    while True:
        time.monotonic()


def swell(_: bytes, __: Path) -> None:
    bytearray(fuzz.MORE_MEMORY + 2**30)


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (wrong, "WrongError: label 1 where the file says 0"),
        (crash, "KeyError: 'backbone'"),
        (die, "the process ended with -9"),
        (hang, "TimeoutError: more than 0.2 s of CPU"),
        (swell, "MemoryError: "),
    ],
)
def test_what_must_not_happen_is_found(
    read: object, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "CPU_SECONDS", 0.2)
    record = Record()
    reader = Reader([b"seed"], read)  # type: ignore[arg-type]
    assert run_batch(reader, "x", 0, range(3, 4), record) == 1
    assert record.findings == [{"reader": "x", "case": 3, "what": what, "times": 1}]


def test_a_wrong_label_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sspl.data.adapters import table

    reader = READERS["csv"]()
    reader.read(reader.seeds[0], tmp_path)
    monkeypatch.setitem(table._CODES, "1", 0)
    with pytest.raises(WrongError, match="but the file says"):
        reader.read(reader.seeds[0], tmp_path)
