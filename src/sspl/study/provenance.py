"""What a figure depends on beside its settings: the code, and facts of the machine."""

import hashlib
import platform
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from sspl.io.cores import usable_cores

LEARNS: Final = (
    "data", "device.py", "distributed", "domain", "evaluation", "metrics", "models", "onnx",
    "optim", "study", "tasks", "training",
)  # fmt: skip
"""Parts of the package that have a say in what a cell finds."""

DRAWING: Final = "synthetic"
"""A part of `data` that no study needs."""


@cache
def code_hash() -> str:
    """Return what tells this code from any that might find other figures, twelve hex digits.

    Of each module, and each list in YAML, of the parts that learn and judge: its path and content.
    """
    package = Path(str(resources.files("sspl")))
    digest = hashlib.sha256()
    for part in LEARNS:
        place = package / part
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        for file in files:
            if file.suffix in (".py", ".yaml") and DRAWING not in file.parts:
                name = file.relative_to(package).as_posix()
                digest.update(f"{name}\n".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def machine(device: str) -> str:
    """Return the facts of a machine on which figures depend to their last digits, in one line.

    Args:
        device: as in the settings.
    """
    # Tables of results are read without torch.
    from sspl.device import has_fast_bf16, pick_device
    from sspl.io.runs import versions

    place = pick_device(device)
    bf16 = "bf16" if has_fast_bf16(place) else "fp32"
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in ("torch", "numpy", "scikit-learn"))
    threads = f"{usable_cores()} cores" if place.type == "cpu" else place.type
    return f"{processor()}, {threads}, {bf16}, Python {found['python']}, {packages}"


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
