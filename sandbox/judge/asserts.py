"""Splits an assert: the calls to run inside the container, and the comparison to make outside.

Each call of a name that the reference defines becomes a hole. Its source goes to the child and its value
comes back; what is left of the assert is evaluated on this side over those values (sandbox/judge/evaluate.py).
Nothing that came back is ever executed.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from sandbox import syntax
from sandbox.guest.protocol import Call
from sandbox.guest.values import Value
from sandbox.judge.evaluate import CLOSE, Hole, Test, Unsupported, bound_names, is_admitted

_ITERATES = set(
    "set frozenset list tuple dict sorted sum min max any all enumerate zip map filter iter bytes bytearray "
    "reversed Counter deque OrderedDict".split()
)
"""Functions that iterate over what they are given, as methods may."""
_OF_THE_OBJECT = {"type", "repr", "str", "ascii", "format", "iter", "next", "hash"}
"""Functions whose answer only the object itself can give: a copy of it has another type, text and place."""


@dataclass(frozen=True)
class Assertion:
    """One assert, ready to be judged."""

    source: str
    calls: tuple[Call, ...]
    """What the child evaluates, in order."""
    test: Test | None
    """What is left, with holes; None where the whole condition must be evaluated inside."""
    asides: tuple[str, ...] = ()
    """Sources that need the sandbox's interpreter but not the candidate, e.g. `sys.getsizeof((1, 2))`."""
    expected: str = ""
    """What the assert asks for, as text."""
    callables: tuple[str, ...] = ()
    """The names that were cut out, so that another process can take the assert apart alike."""
    reason: str = ""
    """Why it must be evaluated inside, where it must."""

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
        tree = syntax.parse(source.strip())
    except ValueError as error:  # NUL bytes, surrogates
        raise SyntaxError(str(error)) from error
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Assert):
        raise SyntaxError(f"an assert must be one assert statement, got {source[:200]!r}")
    condition = tree.body[0].test
    whole = Call(ast.unparse(condition))
    expected = ""
    try:
        cutter = _Cutter(frozenset(callables), bound_names(condition))
        rest = cutter.visit(condition)
        expected = _expected(condition, rest)
        if not cutter.calls:
            asked = ", ".join(callables[:5]) or "none is named"
            raise Unsupported(f"it calls no function that is asked for ({asked})")
        if not _has_trusted_side(rest):
            raise Unsupported("it compares the solution's values with each other alone")
        asides: list[str] = []
        test = Test(_Asides(asides, cutter.bound).visit(rest))
    except Unsupported as unsupported:
        reason = str(unsupported)
        return Assertion(source, (whole,), None, expected=expected, reason=reason)
    return Assertion(source, tuple(cutter.calls), test, tuple(asides), expected, callables)


class _Cutter(ast.NodeTransformer):
    """Cuts out calls of the candidate's functions, with whatever is called or looked up on their results."""

    def __init__(self, callables: frozenset[str], bound: set[str]) -> None:
        self._callables = callables
        self.bound = bound
        """Names that the assert binds itself: what depends on them is nothing outside its loop."""
        self.calls: list[Call] = []
        self._iterated: set[int] = set()
        self._loop: list[ast.comprehension] | None = None
        """The loop around the part that is visited, if each of its turns evaluates that part once."""

    def visit(self, node: ast.AST) -> Value:
        if not self._has_calls(node):
            return node
        if self._is_rooted(node) or self._is_about_the_object(node):
            return self._cut(node)
        self._iterated.update(id(part) for part in _iterated_parts(node))
        before = self._loop
        if isinstance(node, _COMPREHENSIONS):
            loop = copy.deepcopy(node.generators)
            self._loop = None
            node.generators = [
                cast("ast.comprehension", self.visit(part)) for part in node.generators
            ]
            self._loop = loop if before is None else None
        elif isinstance(node, _SOMETIMES) or isinstance(node, ast.Compare) and len(node.ops) > 1:
            self._loop = None
        try:
            return self.generic_visit(node)
        finally:
            self._loop = before

    def _cut(self, node: Value) -> Hole:
        free = (_names(node) - bound_names(node)) & self.bound
        if not free:
            self.calls.append(Call(ast.unparse(node), id(node) in self._iterated))
            return Hole(len(self.calls) - 1)
        # What a loop's turns need, as a list; outside, each turn takes the next of it.
        turns = ast.ListComp(node, self._loop or [])
        if self._loop is None or _names(turns) & self.bound - bound_names(turns):
            raise Unsupported(f"a call depends on {', '.join(sorted(free))}")
        self.calls.append(Call(ast.unparse(turns)))
        return Hole(len(self.calls) - 1, in_turn=True)

    def _has_calls(self, node: ast.AST) -> bool:
        return any(
            isinstance(part, ast.Call)
            and isinstance(part.func, ast.Name)
            and part.func.id in self._callables
            for part in ast.walk(node)
        )

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

    def _is_about_the_object(self, node: ast.AST) -> bool:
        """Whether this is `type(f(...))`, `"%s" % f(...)` and the like, without a comparison in it."""
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *others], keywords=[]):
                return (
                    name in _OF_THE_OBJECT - self.bound
                    and (self._is_rooted(first) or self._is_about_the_object(first))
                    and not any(self._has_calls(other) for other in others)
                )
        return _is_formatting(node) and not any(
            isinstance(part, ast.Compare) for part in ast.walk(node)
        )


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SOMETIMES = (ast.BoolOp, ast.IfExp, ast.Lambda)
"""What does not evaluate all of its parts, or not once."""


def _is_formatting(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()) | ast.JoinedStr():
            return True
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="format")):
            return True
        case _:
            return False


def _iterated_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Parts over which a node iterates, or may."""
    match node:
        case ast.Call(args=arguments):
            if isinstance(node.func, ast.Name):
                iterates = node.func.id in _ITERATES
            else:  # "".join, set.union, collections.Counter
                iterates = isinstance(node.func, ast.Attribute) and _names(node.func) != {"math"}
            if iterates:
                yield from arguments
        case ast.Starred(value=value):
            yield value
        case ast.comprehension(iter=iterable):
            yield iterable
        case ast.Compare(ops=operations, comparators=comparators):
            for operation, right in zip(operations, comparators, strict=True):
                if isinstance(operation, ast.In | ast.NotIn):
                    yield right


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


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
    match test:
        case ast.Call(func=ast.Attribute(), args=[Hole(), wanted, *_]) if ast.unparse(
            test.func
        ) == CLOSE and not _holes(wanted):
            return f"about {ast.unparse(wanted)}"
    if isinstance(test, Hole):
        return "a true value"
    if isinstance(test, ast.UnaryOp) and isinstance(test.operand, Hole):
        return "a false value"
    return ast.unparse(condition) if not _holes(condition) else "the assert to hold"


class _Asides(ast.NodeTransformer):
    """Replaces what only the sandbox's own interpreter can answer by holes, without the candidate in them."""

    def __init__(self, asides: list[str], bound: set[str]) -> None:
        self._asides = asides
        self._bound = bound

    def visit(self, node: ast.AST) -> Value:
        # Most of a long literal: no walk for each of its parts.
        if isinstance(node, ast.Constant | ast.expr_context):
            return node
        free = _names(node) - bound_names(node)
        if not _holes(node) and not free & self._bound and self._needs_interpreter(node):
            self._asides.append(ast.unparse(node))
            return Hole(len(self._asides) - 1, aside=True)
        return self.generic_visit(node)

    def _needs_interpreter(self, node: ast.AST) -> bool:
        """Whether this is no part of what is evaluated here, or text that depends on Python's version."""
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _OF_THE_OBJECT:
                return True
            case ast.Call() | ast.Attribute():
                return _is_formatting(node) or not is_admitted(copy.deepcopy(node))
            case _:
                return _is_formatting(node)


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
