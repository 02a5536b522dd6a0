"""The tool that changes code to try the tests."""

import ast
import sys
from pathlib import Path

from tests.shared import import_file

ROOT = Path(__file__).resolve().parents[1]
mutation = import_file(ROOT / "tools" / "mutation.py")

SOURCE = '''
def f(x: int = 3, y: float | None = None) -> bool:
    """Say 1 + 1."""
    if x < 0:
        raise ValueError(f"{x + 1} is less than {0}")
    return not x and y is None or x % 2 == 1
'''


def changes(source: str) -> list[str]:
    places = mutation.mutated(source, None)[1].places
    found = [mutation.mutated(source, number)[1].what for number in range(places)]
    return [what.split(": ", 1)[1] for what in found]


def test_what_is_changed_and_what_is_not() -> None:
    """Neither annotations, texts nor errors."""
    assert sorted(changes(SOURCE)) == sorted([
        "3  ->  4", "x < 0  ->  x <= 0", "0  ->  1", "not x  ->  x", "y is None  ->  y is not None",
        "not x and y is None  ->  not x or y is None", "x % 2  ->  x * 2", "2  ->  3", "1  ->  2",
        "x % 2 == 1  ->  x % 2 != 1",
        "not x and y is None or x % 2 == 1  ->  (not x and y is None) and x % 2 == 1",
    ])  # fmt: skip


def test_only_the_wanted_place_is_changed() -> None:
    tree, _ = mutation.mutated("a = 1 + 2\nb = 1 + 2\n", 0)
    assert ast.unparse(tree) == "a = 2 + 2\nb = 1 + 2"
    assert ast.unparse(mutation.mutated("a = 1\n", None)[0]) == "a = 1"


def test_a_changed_module_is_what_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "changed_module.py"
    path.write_text("value = 1\n")
    code = compile("value = 2", str(path), "exec")
    finder = mutation.Finder("changed_module", path, code)
    sys.meta_path.insert(0, finder)
    try:
        import changed_module  # type: ignore[import-not-found]
    finally:
        sys.meta_path.remove(finder)
    assert changed_module.value == 2
