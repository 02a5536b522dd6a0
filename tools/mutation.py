"""Change the method's core files one place at a time; see whether their tests notice.

    python tools/mutation.py                                  # all, or: make mutation
    python tools/mutation.py --only domain/taxonomy.py

Every comparison, operator, number and truth value outside error messages and annotations is changed
by itself, and the tests of the file are run on it. A change that none notices is a survivor: a gap
in the tests, or a change that makes no difference. The score and the survivors go to
tests/robustness/mutation.txt. Processes are forked from one that has imported the heavy packages,
which is why this is no job for the usual tools: they start Python anew for every change.
"""

import ast
import importlib
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import click
import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
RECORD: Final = ROOT / "tests" / "robustness" / "mutation.txt"
TESTS: Final = {
    "tasks/pct.py": "test_pct.py",
    "tasks/pst.py": "test_pst.py",
    "tasks/prt.py": "test_prt.py",
    "tasks/criss_cross.py": "test_criss_cross.py",
    "training/losses.py": "test_losses.py",
    "data/subsets.py": "test_subsets.py",
    "domain/taxonomy.py": "test_taxonomy.py",
    "schedules.py": "test_schedules.py",
}
HEAVY: Final = ("torch", "numpy", "hypothesis", "pydantic", "PIL.Image", "scipy.special", "yaml")
CPU_SECONDS: Final = 120.0

SWAPS: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And, ast.MatMult: ast.Mult,
}  # fmt: skip


class Mutator(ast.NodeTransformer):
    """Change the place of number `wanted`; count all places."""

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.places = 0
        self.what = ""

    def _take(self, old: ast.AST, new: ast.AST) -> ast.AST:
        self.places += 1
        if self.places - 1 != self.wanted:
            return old
        line = getattr(old, "lineno", 0)
        self.what = f"line {line}: {ast.unparse(old)}  ->  {ast.unparse(new)}"
        return ast.copy_location(new, old)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(default) for default in node.defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.args = self.visit(node.args)
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        (first, *rest) = node.ops
        swapped = SWAPS[type(first)]()
        new = ast.Compare(node.left, [swapped, *rest], node.comparators)  # type: ignore[list-item]
        return self._take(node, new)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) not in SWAPS:
            return node
        swapped: Any = SWAPS[type(node.op)]()
        return self._take(node, ast.BinOp(node.left, swapped, node.right))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        swapped: Any = SWAPS[type(node.op)]()
        return self._take(node, ast.BoolOp(swapped, node.values))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return self._take(node, node.operand)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if isinstance(value, bool):
            return self._take(node, ast.Constant(not value))
        if isinstance(value, int | float):
            return self._take(node, ast.Constant(value + 1))
        return node


def mutated(source: str, wanted: int | None) -> tuple[ast.Module, Mutator]:
    """Return the changed tree of a source, and what was changed."""
    mutator = Mutator(wanted)
    tree = mutator.visit(ast.parse(source))
    return ast.fix_missing_locations(tree), mutator


class Loader(importlib.machinery.SourceFileLoader):
    """Load a module from code that is there already."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class Finder:
    """Let one module be loaded from changed code."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self.name, self.path, self.code = name, path, code

    def find_spec(self, name: str, _: Any, __: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        loader = Loader(name, str(self.path), self.code)
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def notices(file: str, wanted: int | None) -> bool:
    """Tell whether the tests of a file fail with its place of number `wanted` changed."""
    path = ROOT / "src" / "sspl" / file
    tree, _ = mutated(path.read_text(encoding="utf-8"), wanted)
    child = os.fork()
    if not child:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        name = "sspl." + file.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, Finder(name, path, compile(tree, str(path), "exec")))  # type: ignore[arg-type]
        tests = str(ROOT / "tests" / TESTS[file])
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", tests]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def survivors(file: str) -> Iterator[tuple[int, str | None]]:
    """Yield for each change its number and, where no test notices it, what it is."""
    source = (ROOT / "src" / "sspl" / file).read_text(encoding="utf-8")
    for number in range(mutated(source, None)[1].places):
        yield number, None if notices(file, number) else mutated(source, number)[1].what


def read_record() -> dict[str, dict[str, Any]]:
    """Return what the record says of each file."""
    if not RECORD.exists():
        return {}
    lines = RECORD.read_text(encoding="utf-8").splitlines()
    return {r["file"]: r for r in map(json.loads, (line for line in lines if line[:1] == "{"))}


def write_record(found: dict[str, dict[str, Any]]) -> None:
    """Write a line for each file, and the sum."""
    changes = sum(len(f["survivors"]) + f["noticed"] for f in found.values())
    noticed = sum(f["noticed"] for f in found.values())
    head = [
        "Made by tools/mutation.py: of each file how many changes its tests notice, and those they",
        "do not.",
        "",
        f"{noticed} of {changes} changes are noticed ({100 * noticed / max(1, changes):.1f} %).",
        "",
    ]
    rows = [json.dumps(found[file], ensure_ascii=False) for file in sorted(found)]
    RECORD.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


@click.command()
@click.option("--only", type=click.Choice(list(TESTS)), multiple=True, help="Files to change.")
def main(only: tuple[str, ...]) -> None:
    """Count the changes of the core files that their tests notice."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in HEAVY:
        importlib.import_module(name)
    for file in only or TESTS:
        if notices(file, None):
            raise SystemExit(f"the tests of {file} fail as it is")
        results = list(survivors(file))
        left = [what for _, what in results if what is not None]
        noticed = len(results) - len(left)
        # Read again: another run may have written its files meanwhile.
        found = read_record()
        found[file] = {"file": file, "noticed": noticed, "survivors": left}
        write_record(found)
        click.echo(f"{file}: {noticed} of {len(results)}")


if __name__ == "__main__":
    main()
