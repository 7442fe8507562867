"""Evaluates what is left of an assert over decoded values: literals, operators, harmless functions.

A small interpreter instead of `eval`: it knows the expressions it lists and no other, and none of its operators
can be made expensive by the value that came back.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence

from sandbox.decoding import Iterated
from sandbox.guest.values import Value

_MAX_SEQUENCE = 100_000
_MAX_POWER_BITS = 100_000


class Unsupported(Exception):
    """The expression is none that is evaluated on the trusted side."""


class Hole(ast.expr):
    """Stands for a value from inside: that of call `index`, or of aside `index`."""

    _fields = ("index", "aside")

    def __init__(self, index: int, *, aside: bool = False) -> None:
        super().__init__()
        self.index = index
        self.aside = aside


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


def check(node: ast.AST) -> None:
    """Raise Unsupported unless `evaluate` knows every part of the expression."""
    match node:
        case Hole() | ast.Constant():
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
        check(part)


def evaluate(node: ast.AST, values: Sequence[Value], asides: Sequence[Value]) -> Value:
    """Return the value of what is left of an assert, with the holes filled.

    Raises:
        Exception: whatever the operators raise for these values: TypeError, ValueError, ArithmeticError,
            LookupError; the assert would have raised it too.
    """

    def value(part: ast.AST) -> Value:
        return evaluate(part, values, asides)

    match node:
        case Hole(index=index, aside=aside):
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
