"""Every path, test and name that docs/method.md gives is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = ROOT / "src" / "sspl", ROOT / "tests"
FENCE = re.compile(r"^ *```.*?^ *```", re.M | re.S)
TEXT = FENCE.sub("", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"))
SPAN = r"`[^`\n]+`"
PLACES = re.compile(rf"`([\w/]+\.py)`: ({SPAN}(?:, {SPAN})*)")
PATH = re.compile(r"[\w/.-]+\.(?:py|yaml|csv|md)|[\w/]+/")
FILE = re.compile(r"\.(?:py|yaml|txt|toml|md)$")
NAME = re.compile(r"\.?([A-Za-z_][\w.]*)(?:(?:=|: )\S+)?")


def found(path: str) -> list[Path]:
    """Where a path of the page leads: from the repository, the package, or by its name alone."""
    given = [base / path for base in (ROOT, SOURCE) if (base / path).exists()]
    return given or [p for base in (SOURCE, TESTS) for p in base.rglob(path)]


def defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, arguments, variables, fields and keys."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def names_of(path: Path) -> set[str]:
    return set(defined(ast.parse(path.read_text(encoding="utf-8"))))


def strange(text: str) -> list[str]:
    """Return what a page names that is not there."""
    spans = set(re.findall(r"`([^`\n]+)`", text))
    wrong = [span for span in sorted(spans) if PATH.fullmatch(span) and not found(span)]
    for span in sorted(spans):
        if test := re.fullmatch(r"([\w/]+\.py)::(\w+)", span):
            named = [f for f in found(test[1]) if test[2] in names_of(f)]
            wrong += [] if named else [span]
    for path, names in PLACES.findall(text):
        known = set().union(*map(names_of, found(path)))
        for span in re.findall(r"`([^`]+)`", names):
            name = NAME.fullmatch(span)
            if name is None or not set(name[1].split(".")) <= known:
                wrong.append(f"{path}: {span}")
    return wrong


def test_the_page_of_the_method_names_what_is_there() -> None:
    assert len(PLACES.findall(TEXT)) > 20
    assert strange(TEXT) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`tasks/prt.py`: `PatchRotation`, `PatchRotation.gone`", ["tasks/prt.py: PatchRotation.gone"]),  # noqa: E501
        ("`tasks/gone.py`", ["tasks/gone.py"]),
        ("`domain/nowhere/`", ["domain/nowhere/"]),
        ("`test_prt.py::test_gone`", ["test_prt.py::test_gone"]),
    ],
)  # fmt: skip
def test_what_is_not_there_would_be_seen(text: str, wrong: list[str]) -> None:
    assert strange(text) == wrong


def test_every_name_of_the_page_is_one_of_the_code() -> None:
    """Names of settings, too; a word in backticks is at least some word of the code or presets."""
    files = [p for base in (SOURCE, TESTS) for p in base.rglob("*.*")]
    known = {"sspl", *(p.stem for p in files)}
    for path in SOURCE.rglob("*.py"):
        known |= names_of(path)
    known |= set(re.findall(r"\w+", "".join(p.read_text() for p in SOURCE.rglob("*.yaml"))))
    spans = set(re.findall(r"`([^`\n]+)`", TEXT))
    names = {s: m[1] for s in spans if not FILE.search(s) and (m := NAME.fullmatch(s))}
    assert {s for s, name in names.items() if not set(name.split(".")) <= known} == set()
