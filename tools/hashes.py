"""The hashes of every file of the versions in constraints.txt, which `make` has pip insist on.

    pip install uv
    python tools/hashes.py                  # when constraints.txt changes: a test asks for it
    python tools/hashes.py torch-*.whl      # adds files of other indexes, torch's CPU builds say
    python tools/hashes.py --check REPORT   # what pip says (--report) that it has installed

asks the index that uv is set up with for the hashes of all files, those of other platforms and
versions of Python too, and writes constraints-hashed.txt. Hashes that stand there already for the
same version are kept, since indexes may have other builds of one version. Torch has a list of its
own, constraints-hashed-torch.txt: where pip insists on hashes it takes builds whose hash the index
tells before others, and the CPU's come from places that tell none.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONSTRAINTS: Final = ROOT / "constraints.txt"
HASHED: Final = ROOT / "constraints-hashed.txt"
TORCH: Final = ROOT / "constraints-hashed-torch.txt"
LEFT_OUT: Final = "timm"
"""Pinned for its extra; the tests do without, since it needs a torchvision that fits torch."""

OLDEST_PYTHON: Final = "3.11.5"
"""The oldest that all pins install on; some want more than `sspl` itself."""

Hashes = Mapping[str, set[str]]


def plain(pin: str) -> str:
    """Return `name==version` as indexes compare it, without a build's own part (`+cpu`)."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version.partition('+')[0]}"


def read(text: str) -> dict[str, set[str]]:
    """Return `name==version` to hashes of a requirements file."""
    lines = "\n".join(line.partition("#")[0] for line in text.splitlines())
    found: dict[str, set[str]] = {}
    for words in map(str.split, lines.replace("\\\n", " ").splitlines()):
        if words:
            found[plain(words[0])] = {w.removeprefix("--hash=") for w in words if "--hash=" in w}
    return found


def of_files(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Return the hashes of wheels and source archives.

    Raises `ValueError` for a file whose name is none of either.
    """
    found: dict[str, set[str]] = {}
    for path in paths:
        parts = re.match(r"(.+?)-([0-9][^-]*?)(-.*\.whl|\.tar\.gz|\.zip)$", path.name)
        if parts is None:
            raise ValueError(f"{path.name} is no wheel or source archive")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.setdefault(plain(f"{parts[1]}=={parts[2]}"), set()).add(f"sha256:{digest}")
    return found


def merged(pins: Iterable[str], sources: Iterable[Hashes]) -> str:
    """Return the requirements file that has the hashes of all sources for these pins."""
    known = list(sources)
    blocks = []
    for pin in pins:
        hashes = sorted(set().union(*(source.get(plain(pin), set()) for source in known)))
        blocks.append(" \\\n    ".join([pin, *(f"--hash={found}" for found in hashes)]))
    return "\n".join(["# Made by tools/hashes.py.", *blocks]) + "\n"


def from_index() -> dict[str, set[str]]:
    """Return the hashes that the index gives for the files of all pins."""
    command = [
        "uv", "pip", "compile", str(CONSTRAINTS), "--generate-hashes", "--no-deps", "--universal",
        "--python-version", OLDEST_PYTHON, "--no-header", "--no-annotate", "--quiet",
    ]  # fmt: skip
    return read(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def unknown(report: Mapping[str, Any], allowed: Hashes) -> list[str]:
    """Return the packages of pip's report whose file has none of the allowed hashes.

    What is installed from a folder, the project itself, has none and is passed over.
    """
    found = []
    for entry in report["install"]:
        if "dir_info" in entry["download_info"]:
            continue
        pin = f"{entry['metadata']['name']}=={entry['metadata']['version']}"
        digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        if f"sha256:{digest}" not in allowed.get(plain(pin), set()):
            found.append(f"{pin} (sha256:{digest})")
    return found


def check(report: Path) -> None:
    """Exit with a sentence when pip has installed a file that is not listed."""
    allowed = read(HASHED.read_text()) | read(TORCH.read_text())
    if strange := unknown(json.loads(report.read_text()), allowed):
        sys.exit(f"{', '.join(strange)} is not among the listed hashes; see tools/hashes.py.")


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--check"]:
        check(Path(arguments[1]))
        return
    lines = (line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    pins = [line for line in lines if line and not line.startswith(f"{LEFT_OUT}==")]
    index, given = from_index(), of_files(map(Path, arguments))
    for path, is_torch in ((HASHED, False), (TORCH, True)):
        mine = [pin for pin in pins if pin.startswith("torch==") == is_torch]
        before = read(path.read_text()) if path.exists() else {}
        path.write_text(merged(mine, (index, given, before)))


if __name__ == "__main__":
    main(sys.argv[1:])
