"""The licences of everything in constraints.txt, as a page of the documentation.

    python tools/licences.py

reads what the installed packages say of themselves and writes docs/licences.md. A package of
constraints.txt that is not installed keeps the line that it has, if its version is the same. Run it
when constraints.txt changes: a test holds the page to it. pip-licenses, the usual tool, knows only
what is installed where it runs, and not which extra of `sspl` asks for a package.
"""

import re
import sys
import tomllib
from importlib import metadata as installed
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
CONSTRAINTS: Final = ROOT / "constraints.txt"
PAGE: Final = ROOT / "docs" / "licences.md"
LONGEST: Final = 60

INTRODUCTION: Final = """# Licences of what it uses

`sspl` itself is under Apache-2.0. These are the packages that its tests run with
(`constraints.txt`), and the licences that they name in their own metadata; wheels may hold more
code under further licences, which they list in their `dist-info` folders. "Needed by" says which
part of `sspl` asks for a package: `sspl` is always installed, the others are extras, and the rest
comes along with them. Made by `python tools/licences.py`.

| Package | Version | Licence | Needed by |
|---|---|---|---|
"""


def plain(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Return package to version of a constraints file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return dict(line.split("==", 1) for line in lines if line)


def licence(name: str) -> str:
    """Return the licence that an installed package names."""
    metadata = installed.metadata(name)
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    given = metadata.get("License") or ""
    # Some put a whole licence there, of which the first line says little.
    first = given.strip() if "\n" not in given.strip() else ""
    known = [
        value.split(" :: ")[-1]
        for value in metadata.get_all("Classifier") or []
        if value.startswith("License ::") and value != "License :: OSI Approved"
    ]
    if first and len(first) <= LONGEST and first.upper() != "UNKNOWN":
        return first
    return ", ".join(known) or "see its LICENSE file"


def needs(project: dict[str, object]) -> dict[str, list[str]]:
    """Return package to the parts of this project that ask for it by name."""
    extras = dict(project["optional-dependencies"])  # type: ignore[call-overload]
    found: dict[str, list[str]] = {}
    for part, wanted in {"sspl": project["dependencies"], **extras}.items():
        for requirement in wanted:
            name = plain(re.split(r"[\[<>=!~; ]", requirement)[0])
            if name != "sspl":
                found.setdefault(name, []).append(part)
    return found


def lines(text: str) -> dict[tuple[str, str], str]:
    """Return (package, version) to licence of a page."""
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(row[0][2:], row[1]): row[2] for row in cells if len(row) == 4}


def page(before: str) -> str:
    """Return the page; `before` is the one that there is."""
    kept = lines(before)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = needs(project)
    rows = []
    for name, version in pins(CONSTRAINTS.read_text(encoding="utf-8")).items():
        parts = ", ".join(wanted.get(plain(name), []))
        try:
            named = licence(name)
        except installed.PackageNotFoundError:
            if (name, version) not in kept:
                raise
            named = kept[name, version]
        rows.append(f"| {name} | {version} | {named} | {parts} |\n")
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    try:
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(page(before), encoding="utf-8")
    except installed.PackageNotFoundError as missing:
        sys.exit(f"{missing.name} is not installed; run pip install -c constraints.txt '.[dev]'.")
