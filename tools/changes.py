"""Small changes to Python code, one at a time.

Changed are comparisons, operators, conditions, numbers, truth values and texts; left out are
keyword arguments, method calls without arguments and statements that are a call. Errors that are
raised, assertions, annotations, decorators, descriptions of settings and whether a zip is strict
stay as they are.
"""

import ast
from dataclasses import dataclass
from typing import Any, Final

SWAPS: Final[dict[type[ast.AST], tuple[type[ast.AST], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,), ast.BitOr: (ast.BitAnd,), ast.BitAnd: (ast.BitOr,),
    ast.And: (ast.Or,), ast.Or: (ast.And,), ast.MatMult: (ast.Mult,),
}  # fmt: skip
STAY: Final = {"description", "strict"}
TOLD_BY_OPERATOR: Final = (ast.Compare, ast.BoolOp, ast.UnaryOp)


@dataclass(frozen=True)
class Change:
    """One change.

    `text` is the line with `{old -> new}` in it; `function` the qualified name of the function
    that it is in, None for code that runs on import.
    """

    line: int
    text: str
    function: str | None


class _Changer(ast.NodeTransformer):
    """Make the change of number `wanted`; note all."""

    def __init__(self, source: str, wanted: int | None) -> None:
        self.lines = source.splitlines()
        self.wanted = wanted
        self.found: list[Change] = []
        self.scope: list[str] = []
        self.function: str | None = None

    def _takes(self, at: Any, new: str) -> bool:
        """Note a change of what stands at a node; return whether it is the wanted one."""
        line = self.lines[at.lineno - 1].encode()
        start, old, rest = line[: at.col_offset], ast.unparse(at), b""
        if at.end_lineno == at.lineno:
            rest = line[at.end_col_offset :]
            old = line[at.col_offset : at.end_col_offset].decode()
        text = f"{start.decode()}{{{old} -> {new}}}{rest.decode()}".strip()
        self.found.append(Change(at.lineno, text, self.function))
        return len(self.found) - 1 == self.wanted

    def _swap(self, old: ast.AST, *news: ast.AST) -> ast.AST:
        for new in news:
            if self._takes(old, ast.unparse(new)):
                return ast.copy_location(new, old)
        return old

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "Literal":
            return node
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return node if node.arg in STAY else self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(default) for default in node.defaults]
        node.kw_defaults = [d if d is None else self.visit(d) for d in node.kw_defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.args = self.visit(node.args)
        outer, self.function = self.function, ".".join([*self.scope, node.name])
        self.scope += [node.name, "<locals>"]
        node.body = [self.visit(statement) for statement in node.body]
        del self.scope[-2:]
        self.function = outer
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.scope.append(node.name)
        node.body = [self.visit(statement) for statement in node.body]
        self.scope.pop()
        return node

    def _negated(self, condition: ast.expr) -> Any:
        if isinstance(condition, TOLD_BY_OPERATOR):
            return condition
        return self._swap(condition, ast.UnaryOp(ast.Not(), condition))

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        node.test = self._negated(node.test)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.test = self._negated(node.test)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        self.generic_visit(node)
        node.test = self._negated(node.test)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs = [self._negated(condition) for condition in node.ifs]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node
        self.generic_visit(node)
        return self._swap(node, ast.Pass())

    def visit_Break(self, node: ast.Break) -> ast.AST:
        return self._swap(node, ast.Continue())

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        return self._swap(node, ast.Break())

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        news = []
        for i, operator in enumerate(node.ops):
            for swapped in SWAPS[type(operator)]:
                operators: list[Any] = [*node.ops[:i], swapped(), *node.ops[i + 1 :]]
                news.append(ast.Compare(node.left, operators, node.comparators))
        return self._swap(node, *news)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swaps: Any = SWAPS.get(type(node.op), ())
        return self._swap(node, *(ast.BinOp(node.left, new(), node.right) for new in swaps))

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        swaps: Any = SWAPS.get(type(node.op), ())
        return self._swap(node, *(ast.AugAssign(node.target, new(), node.value) for new in swaps))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        swaps: Any = SWAPS[type(node.op)]
        return self._swap(node, *(ast.BoolOp(new(), node.values) for new in swaps))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return self._swap(node, node.operand)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
            return node if _is_super(node.func.value) else self._swap(node, node.func.value)
        for given in tuple(node.keywords):
            if given.arg is None or given.arg in STAY or _is_truth_value(given.value):
                continue
            if self._takes(given, ""):
                node.keywords.remove(given)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return self._swap(node, ast.Constant("!"))

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if isinstance(value, bool):
            return self._swap(node, ast.Constant(not value))
        if isinstance(value, int | float):
            return self._swap(node, ast.Constant(value + 1))
        if isinstance(value, str):
            return self._swap(node, ast.Constant(value + "!"))
        return node


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super"


def _is_truth_value(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def changes(source: str) -> list[Change]:
    """Return every change there is to a source, in an order that stays."""
    changer = _Changer(source, None)
    changer.visit(ast.parse(source))
    return changer.found


def changed(source: str, number: int | None) -> ast.Module:
    """Return the tree of a source with one of its `changes` made; None makes none."""
    return ast.fix_missing_locations(_Changer(source, number).visit(ast.parse(source)))
