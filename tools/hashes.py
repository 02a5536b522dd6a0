"""Turn the output of `pip hash` into requirements that pip checks file by file.

pip hash wheels/* | python tools/hashes.py > requirements-hashed.txt
"""

import re
import sys
from collections.abc import Iterable
from pathlib import PurePath


def requirements(lines: Iterable[str]) -> list[str]:
    """Return `name==version --hash=...` for each file; several files of one version share a line.

    Raises `ValueError` for a file whose name is none of a wheel or source archive.
    """
    hashes: dict[str, list[str]] = {}
    pin = ""
    for line in lines:
        text = line.strip()
        if text.startswith("--hash="):
            hashes.setdefault(pin, []).append(text)
        elif text.endswith(":"):
            pin = _pin(PurePath(text[:-1]).name)
    return [f"{name} {' '.join(sorted(found))}" for name, found in sorted(hashes.items())]


def _pin(file: str) -> str:
    found = re.match(r"(.+?)-([0-9][^-]*?)(-.*\.whl|\.tar\.gz|\.zip)$", file)
    if found is None:
        raise ValueError(f"{file} is no wheel or source archive")
    return f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print("\n".join(requirements(sys.stdin)))
