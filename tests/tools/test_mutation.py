"""The tools that change code to try the tests."""

import ast
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tools.changes import Change, changed, changes

from tools import mutation

SOURCE = '''
def f(x: int = 3, y: float | None = None) -> bool:
    """Say 1 + 1."""
    if x < 0:
        raise ValueError(f"{x + 1} is less than {0}")
    return not x and y is None or x % 2 == 1
'''

CALLS = """
class A(Base):
    size: int = Field(2, ge=1, description="in px")

    def g(self, kind: Literal["a"] = "b"):
        if self.ready:
            super().__init__()
            assert self.name == "a"
            self.run(deep=True, name=self.name)
        return [v.sum() for v in self if v]
"""


def test_what_is_changed_and_what_is_not() -> None:
    """Neither annotations, docstrings nor errors."""
    assert sorted(c.text for c in changes(SOURCE)) == sorted(
        [
            "def f(x: int = {3 -> 4}, y: float | None = None) -> bool:",
            "if {x < 0 -> x <= 0}:",
            "if {x < 0 -> x >= 0}:",
            "if x < {0 -> 1}:",
            "return {not x -> x} and y is None or x % 2 == 1",
            "return not x and {y is None -> y is not None} or x % 2 == 1",
            "return {not x and y is None -> not x or y is None} or x % 2 == 1",
            "return not x and y is None or {x % 2 -> x * 2} == 1",
            "return not x and y is None or x % {2 -> 3} == 1",
            "return not x and y is None or x % 2 == {1 -> 2}",
            "return not x and y is None or {x % 2 == 1 -> x % 2 != 1}",
            "return {not x and y is None or x % 2 == 1 -> (not x and y is None) and x % 2 == 1}",
        ]
    )
    assert {(c.line, c.function) for c in changes(SOURCE)} == {(2, None), (4, "f"), (6, "f")}


def test_conditions_calls_and_arguments_are_changed() -> None:
    assert sorted((c.text, c.function) for c in changes(CALLS)) == sorted(
        [
            ('size: int = Field({2 -> 3}, ge=1, description="in px")', None),
            ('size: int = Field(2, ge={1 -> 2}, description="in px")', None),
            ('size: int = Field(2, {ge=1 -> }, description="in px")', None),
            ("""def g(self, kind: Literal["a"] = {"b" -> 'b!'}):""", None),
            ("if {self.ready -> not self.ready}:", "A.g"),
            ("{super().__init__() -> pass}", "A.g"),
            ("{self.run(deep=True, name=self.name) -> pass}", "A.g"),
            ("self.run(deep={True -> False}, name=self.name)", "A.g"),
            ("self.run(deep=True, {name=self.name -> })", "A.g"),
            ("return [{v.sum() -> v} for v in self if v]", "A.g"),
            ("return [v.sum() for v in self if {v -> not v}]", "A.g"),
        ]
    )


@pytest.mark.parametrize("source", [SOURCE, CALLS, "a = 1 + 2\nb = 1 + 2\nbreak\n"])
def test_only_the_wanted_place_is_changed(source: str) -> None:
    plain = ast.unparse(ast.parse(source))
    assert ast.unparse(changed(source, None)) == plain
    found = {ast.unparse(changed(source, number)) for number in range(len(changes(source)))}
    assert plain not in found
    assert len(found) == len(changes(source))


def test_the_change_that_is_told_is_the_one_that_is_made() -> None:
    for number, change in enumerate(changes(SOURCE)):
        before, _, after = change.text.rpartition("{")[2].rpartition("}")[0].partition(" -> ")
        line = SOURCE.splitlines()[change.line - 1]
        made = SOURCE.replace(line, line.replace(f"{before}", f"({after})", 1))
        if line.count(before) == 1:
            assert ast.unparse(changed(SOURCE, number)) == ast.unparse(ast.parse(made))


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


def test_forgotten_is_whatever_imports_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = {
        "sspl.one": "",
        "sspl.two": "from sspl import one",
        "sspl.three": "",
        "sspl.four": "def f():\n    import sspl.two\n",
        "elsewhere": "from sspl import one",
    }
    package = ModuleType("sspl")
    loaded = {"sspl": package}
    for name, text in code.items():
        loaded[name] = ModuleType(name)
        loaded[name].__file__ = str(tmp_path / f"{name}.py")
        Path(loaded[name].__file__).write_text(text)
        setattr(package, name.rpartition(".")[2], loaded[name])
    monkeypatch.setattr(mutation.sys, "modules", loaded)
    mutation.forget("sspl.one")
    assert set(loaded) == {"sspl", "sspl.three", "elsewhere"}
    # Else `from sspl import one` would find the old one.
    assert [hasattr(package, name) for name in ("one", "two", "three")] == [False, False, True]


def test_a_change_is_tried_by_the_tests_that_enter_its_function() -> None:
    watch = mutation.Watch(Path("some.py"))
    watch.seconds = {"a.py::one": 0.2, "a.py::two": 0.1, "b.py::three": 0.3}
    watch.entered |= {"a.py::one": {"f"}, "a.py": {"g"}, "b.py::three": {"A.h"}}
    chosen = {f: sorted(watch.tests_of(Change(1, "", f))) for f in ("f", "g", "A.h", "x", None)}
    assert chosen == {
        "f": ["a.py::one"],
        "g": ["a.py::one", "a.py::two"],
        "A.h": ["b.py::three"],
        "x": [],
        None: ["a.py::one", "a.py::two", "b.py::three"],
    }


def test_tests_of_what_is_logged_are_left_out() -> None:
    watch = mutation.Watch(Path("some.py"))
    plain, logs, other = (SimpleNamespace(fixturenames=f) for f in (["a"], ["caplog", "a"], []))
    items: Any = [plain, logs, other]
    watch.pytest_collection_modifyitems(items)
    assert items == [plain, other]


def test_what_is_said_to_make_no_difference_is_still_there() -> None:
    for file, reasons in mutation.read_equivalent().items():
        there = {change.text for change in changes(mutation.source_of(file).read_text())}
        assert set(reasons) <= there, file
        assert all(reason.strip() for reason in reasons.values())


def test_the_tests_of_each_file_are_there() -> None:
    for tests in mutation.TESTS.values():
        assert all((mutation.ROOT / "tests" / test.partition("::")[0]).is_file() for test in tests)


def test_the_record_leaves_no_survivor() -> None:
    record = mutation.read_record()
    assert set(record) == set(mutation.TESTS)
    for file, row in record.items():
        assert row["survivors"] == [], file
        if row["source"] != mutation.digest_of(mutation.source_of(file).read_text()):
            continue  # It speaks of an earlier source, until `make mutation` is run again.
        assert row["equivalent"] == len(mutation.read_equivalent().get(file, {}))
