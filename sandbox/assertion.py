"""Takes an assert apart: the calls to make inside the wall, the comparison to make outside.

Each call of a name that the reference defines becomes a hole. Its source goes to the child and its value
comes back; what is left of the assert is evaluated on this side over those values (sandbox/evaluation.py).
Nothing that came back is ever executed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache

from sandbox.evaluation import Hole, Unsupported, check
from sandbox.guest.protocol import Call
from sandbox.guest.values import Value

_ITERATES = {
    "set",
    "frozenset",
    "list",
    "tuple",
    "sorted",
    "sum",
    "min",
    "max",
    "dict",
    "any",
    "all",
}


@dataclass(frozen=True)
class Assertion:
    """One assert, ready to be judged."""

    source: str
    calls: tuple[Call, ...]
    """What the child evaluates, in order."""
    test: ast.expr | None
    """What is left, with holes; None where the whole condition must be evaluated inside."""
    asides: tuple[str, ...] = ()
    """Sources that need the sandbox's interpreter but not the candidate, e.g. `sys.getsizeof((1, 2))`."""
    expected: str = ""
    """What the assert asks for, as text."""

    @property
    def trusted(self) -> bool:
        """Whether the verdict is reached on this side of the wall."""
        return self.test is not None


@lru_cache(maxsize=8192)
def parse(source: str, callables: tuple[str, ...]) -> Assertion:
    """Return the assert taken apart.

    Raises:
        SyntaxError: not one assert statement; asserts are trusted data, so this is the data's fault.
    """
    try:
        tree = ast.parse(source.strip())
    except ValueError as error:  # NUL bytes, surrogates
        raise SyntaxError(str(error)) from error
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Assert):
        raise SyntaxError(f"an assert must be one assert statement, got {source[:200]!r}")
    condition = tree.body[0].test
    whole = Call(ast.unparse(condition))
    cutter = _Cutter(frozenset(callables))
    test = cutter.visit(condition)
    expected = _expected(condition, test)
    if not cutter.calls or not _has_trusted_side(test):
        return Assertion(source, (whole,), None, expected=expected)
    try:
        test = _Asides(cutter.asides).visit(test)
        check(test)
    except Unsupported:
        return Assertion(source, (whole,), None, expected=expected)
    return Assertion(source, tuple(cutter.calls), test, tuple(cutter.asides), expected)


class _Cutter(ast.NodeTransformer):
    """Cuts out calls of the candidate's functions, with whatever is called or looked up on their results."""

    def __init__(self, callables: frozenset[str]) -> None:
        self._callables = callables
        self.calls: list[Call] = []
        self.asides: list[str] = []

    def visit(self, node: ast.AST) -> Value:
        if isinstance(node, ast.Call | ast.Attribute) and self._is_rooted(node):
            return self._cut(node, iterate=False)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
            argument = node.args[0]
            if node.func.id in _ITERATES and self._is_rooted(argument):
                node.args[0] = self._cut(argument, iterate=True)
        return self.generic_visit(node)

    def _cut(self, node: ast.AST, *, iterate: bool) -> Hole:
        self.calls.append(Call(ast.unparse(node), iterate))
        return Hole(len(self.calls) - 1)

    def _is_rooted(self, node: ast.AST) -> bool:
        """Whether this is `f(...)`, or `f(...).attribute`, `f(...)[0].method(...)` and so on."""
        called = False
        while True:
            if isinstance(node, ast.Call):
                called, node = True, node.func
            elif isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            else:
                return called and isinstance(node, ast.Name) and node.id in self._callables


def _holes(node: ast.AST) -> bool:
    return any(isinstance(part, Hole) for part in ast.walk(node))


def _has_trusted_side(test: ast.expr) -> bool:
    """Whether no comparison is between the candidate's values alone, which any constant would pass."""
    comparisons = [part for part in ast.walk(test) if isinstance(part, ast.Compare)]
    return all(
        any(not _holes(side) for side in (part.left, *part.comparators)) for part in comparisons
    )


def _expected(condition: ast.expr, test: ast.expr) -> str:
    """What the assert asks for, in words of the assert itself."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and not _holes(test.comparators[0]):
        operation = test.ops[0]
        text = ast.unparse(test.comparators[0])
        if isinstance(operation, ast.Eq):
            return text
        return f"{_OPERATOR_TEXT[type(operation)]} {text}"
    if isinstance(test, Hole):
        return "a true value"
    if isinstance(test, ast.UnaryOp) and isinstance(test.operand, Hole):
        return "a false value"
    return ast.unparse(condition) if not _holes(condition) else "the assert to hold"


class _Asides(ast.NodeTransformer):
    """Replaces what only the sandbox's own interpreter can answer by holes, without the candidate in them."""

    def __init__(self, asides: list[str]) -> None:
        self._asides = asides

    def visit(self, node: ast.AST) -> Value:
        if isinstance(node, ast.Call) and not _holes(node):
            try:
                check(node)
            except Unsupported:
                self._asides.append(ast.unparse(node))
                return Hole(len(self._asides) - 1, aside=True)
        return self.generic_visit(node)


_OPERATOR_TEXT: dict[type[ast.cmpop], str] = {
    ast.NotEq: "other than",
    ast.Lt: "less than",
    ast.LtE: "at most",
    ast.Gt: "more than",
    ast.GtE: "at least",
    ast.Is: "exactly",
    ast.IsNot: "other than",
    ast.In: "one of",
    ast.NotIn: "none of",
}
