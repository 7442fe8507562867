"""Takes an assert apart: the calls to make inside the wall, the comparison to make outside.

Each call of a name that the reference defines becomes a hole. Its source goes to the child and its value
comes back; what is left of the assert is evaluated here, over those values, by a small interpreter that
knows literals, operators and a list of harmless functions. Nothing that came back is ever executed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sandbox.guest.protocol import Call
from sandbox.guest.values import Iterated, Value

_MAX_SEQUENCE = 100_000
_MAX_POWER_BITS = 100_000
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


class Unsupported(Exception):
    """The expression is none that is evaluated on the trusted side."""


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


class _Hole(ast.expr):
    """Stands for a value from inside: that of call `index`, or of aside `index`."""

    _fields = ("index", "aside")

    def __init__(self, index: int, *, aside: bool = False) -> None:
        super().__init__()
        self.index = index
        self.aside = aside


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
        _check(test)
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

    def _cut(self, node: ast.AST, *, iterate: bool) -> _Hole:
        self.calls.append(Call(ast.unparse(node), iterate))
        return _Hole(len(self.calls) - 1)

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
    return any(isinstance(part, _Hole) for part in ast.walk(node))


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
    if isinstance(test, _Hole):
        return "a true value"
    if isinstance(test, ast.UnaryOp) and isinstance(test.operand, _Hole):
        return "a false value"
    return ast.unparse(condition) if not _holes(condition) else "the assert to hold"


class _Asides(ast.NodeTransformer):
    """Replaces what only the sandbox's own interpreter can answer by holes, without the candidate in them."""

    def __init__(self, asides: list[str]) -> None:
        self._asides = asides

    def visit(self, node: ast.AST) -> Value:
        if isinstance(node, ast.Call) and not _holes(node):
            try:
                _check(node)
            except Unsupported:
                self._asides.append(ast.unparse(node))
                return _Hole(len(self._asides) - 1, aside=True)
        return self.generic_visit(node)


# ------------------------------------------------------------------------------------- evaluation

_COMPARE: dict[type[ast.cmpop], Callable[[Value, Value], Value]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
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
_UNARY: dict[type[ast.unaryop], Callable[[Value], Value]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (int, float, str, bool, list, tuple, dict, set, frozenset, complex, bytes)
}
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    **{name: t for name, t in _TYPES.items() if name not in ("bytes",)},
    "abs": abs,
    "all": all,
    "any": any,
    "isinstance": isinstance,
    "len": len,
    "max": max,
    "min": min,
    "round": round,
    "sorted": sorted,
    "sum": sum,
    "type": type,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.isclose": math.isclose,
    "math.isnan": math.isnan,
    "math.sqrt": math.sqrt,
}
_CONSTANTS: dict[str, Value] = {
    **_TYPES,
    "math.pi": math.pi,
    "math.e": math.e,
    "math.inf": math.inf,
    "math.nan": math.nan,
}


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None


def _check(node: ast.AST) -> None:
    """Raise Unsupported unless `evaluate` knows every part of the expression."""
    match node:
        case _Hole() | ast.Constant():
            return
        case ast.Name() | ast.Attribute() if _name(node) in _CONSTANTS:
            return
        case ast.Call() if _name(node.func) in _FUNCTIONS and all(k.arg for k in node.keywords):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        case ast.Compare():
            parts = [node.left, *node.comparators]
            for operation, right in zip(node.ops, node.comparators, strict=True):
                # Identity means something only for the singletons: other values are copies here.
                if isinstance(operation, ast.Is | ast.IsNot) and not (
                    isinstance(right, ast.Constant) and right.value in (None, True, False)
                ):
                    raise Unsupported
        case ast.BoolOp():
            parts = node.values
        case ast.UnaryOp():
            parts = [node.operand]
        case ast.BinOp() if type(node.op) in _BINARY:
            parts = [node.left, node.right]
        case ast.List() | ast.Tuple() | ast.Set():
            parts = node.elts
        case ast.Dict() if all(key is not None for key in node.keys):
            parts = [*(key for key in node.keys if key is not None), *node.values]
        case ast.Subscript():
            parts = [node.value, node.slice]
        case ast.Slice():
            parts = [part for part in (node.lower, node.upper, node.step) if part is not None]
        case ast.IfExp():
            parts = [node.test, node.body, node.orelse]
        case _:
            raise Unsupported
    for part in parts:
        _check(part)


def evaluate(node: ast.AST, values: Sequence[Value], asides: Sequence[Value]) -> Value:
    """Return the value of what is left of an assert, with the holes filled.

    Raises:
        Exception: whatever the operators raise for these values: TypeError, ValueError, ArithmeticError,
            LookupError; the assert would have raised it too.
    """

    def value(part: ast.AST) -> Value:
        return evaluate(part, values, asides)

    match node:
        case _Hole(index=index, aside=aside):
            return (asides if aside else values)[index]
        case ast.Constant():
            return node.value
        case ast.Name() | ast.Attribute():
            return _CONSTANTS[_name(node) or ""]
        case ast.Call():
            keywords = {keyword.arg or "": value(keyword.value) for keyword in node.keywords}
            return _call(_name(node.func) or "", [value(part) for part in node.args], keywords)
        case ast.Compare():
            left: Value = value(node.left)
            result: Value = True
            for operation, part in zip(node.ops, node.comparators, strict=True):
                right = value(part)
                result = _COMPARE[type(operation)](left, right)
                if not result:
                    return result
                left = right
            return result
        case ast.BoolOp():
            is_and = isinstance(node.op, ast.And)
            for part in node.values:
                result = value(part)
                if bool(result) != is_and:
                    return result
            return result
        case ast.UnaryOp():
            return _UNARY[type(node.op)](value(node.operand))
        case ast.BinOp():
            return _BINARY[type(node.op)](value(node.left), value(node.right))
        case ast.List():
            return [value(part) for part in node.elts]
        case ast.Tuple():
            return tuple(value(part) for part in node.elts)
        case ast.Set():
            return {value(part) for part in node.elts}
        case ast.Dict():
            return {value(k): value(v) for k, v in zip(node.keys, node.values, strict=True) if k}
        case ast.Subscript():
            return value(node.value)[value(node.slice)]
        case ast.Slice():
            bounds = (node.lower, node.upper, node.step)
            return slice(*(None if bound is None else value(bound) for bound in bounds))
        case ast.IfExp():
            return value(node.body) if value(node.test) else value(node.orelse)
        case _:
            raise Unsupported


def _call(name: str, arguments: list[Value], keywords: Mapping[str, Value]) -> Value:
    if name == "type" and len(arguments) != 1:
        raise TypeError("type() takes one argument here")
    if name in _TYPES and arguments and isinstance(arguments[0], Iterated):
        arguments = [arguments[0].items, *arguments[1:]]
    return _FUNCTIONS[name](*arguments, **keywords)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float | complex)


def _multiply(left: Value, right: Value) -> Value:
    """Multiply, but build no sequence or number that the value's author could make huge."""
    for sequence, n in ((left, right), (right, left)):
        if isinstance(sequence, str | bytes | list | tuple) and isinstance(n, int):
            if len(sequence) * n > _MAX_SEQUENCE:
                raise ValueError("a repeated sequence must be small")
    return left * right


def _power(left: Value, right: Value) -> Value:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() * abs(right) > _MAX_POWER_BITS:
            raise ValueError("a power must be small")
    elif not (_is_number(left) and _is_number(right)):
        raise TypeError("a power must be of numbers")
    return left**right


def _modulo(left: Value, right: Value) -> Value:
    if not _is_number(left):  # "%999999999d" % 1 takes a gigabyte
        raise TypeError("a remainder must be of numbers")
    return left % right


_BINARY: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _modulo,
    ast.Pow: _power,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
