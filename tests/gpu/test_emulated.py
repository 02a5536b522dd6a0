"""Everything that the checks of a GPU run, on a device that refuses what a GPU refuses.

In a process of its own: torch keeps the device, and would take it for `auto` in other tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gpu import emulated
from tests.gpu.checks import failed, names

from shared import import_file

ROOT = Path(__file__).resolve().parents[2]
SCALE_PAGE = ROOT / "docs" / "scale.md"
pytestmark = pytest.mark.skipif(
    not emulated.can_install(), reason="this torch has no device that is written in Python"
)


def test_everything_computes_on_the_device_and_as_on_the_cpu() -> None:
    command = [sys.executable, "-m", "tests.gpu.checks", "--device", emulated.NAME]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert failed(checks) == {}
    assert set(checks) == set(names(emulated.NAME))


def test_a_record_becomes_rows() -> None:
    benchmark = import_file(ROOT / "benchmarks" / "gpu.py")
    machine = {"device": "Card", "torch": "2.11", "cores": 16, "precision": "bf16"}
    row = {"stage": 1, "architecture": "sspl", "batch": 64, "from": "memory"}
    figures = {
        "faces_per_second": 3210.4, "ms": 19.9, "gflop_per_face": 22.4, "share_of_peak": 0.0726,
        "waiting_ms": 0.31, "memory_gb": None,
    }  # fmt: skip
    record = {
        "machine": machine, "size": 224,
        "speed": [row | figures, row | {"batch": 512, "error": "out of memory"}],
    }  # fmt: skip
    assert benchmark.table(record).splitlines()[2:] == [
        "| Stage | Preset | Batch | Faces from | faces/s | GFLOP a face | of the peak | "
        "waiting, ms a step | memory, GB |",
        "|---|---|---|---|---|---|---|---|---|",
        "| 1 | `paper-sspl` | 64 | memory | 3,210 | 22.4 | 7% | 0.3 |  |",
        "| 1 | `paper-sspl` | 512 | memory | out of memory | | | | |",
    ]


def test_the_page_holds_the_record_that_is_there() -> None:
    """No figure of a GPU is on it that none has given."""
    benchmark = import_file(ROOT / "benchmarks" / "gpu.py")
    file = ROOT / "benchmarks" / "results" / "gpu.json"
    record = json.loads(file.read_text()) if file.exists() else None
    assert benchmark.table(record) in SCALE_PAGE.read_text()
