"""Evaluates what is left of an assert over decoded values: literals, operators, harmless functions.

The source is the assert's, so it is trusted; the values are not, but they are plain data. `Test` admits the
expressions that name nothing else; what it admits is run by Python itself, so it means what Python says. Some
are cheap: they take time and memory in proportion to the size of the values. All others are to be evaluated
under limits (sandbox/judge/worker.py).
"""

from __future__ import annotations

import ast
import builtins
import collections
import datetime
import decimal
import fractions
import itertools
import math
from collections.abc import Sequence
from typing import Any

from sandbox.guest.values import Value
from sandbox.judge.close import close
from sandbox.judge.opaque import Opaque

CLOSE = "judge.close"
"""What asserts call `close`: no module of Python's, so that nobody takes it for one."""

MAX_CHEAP_NDIGITS = 20
"""Of round, where no limit runs: round(5, -10**9) computes that power of ten."""


class Unsupported(Exception):
    """The expression is none that is evaluated on the trusted side; the text says which part."""


class Hole(ast.expr):
    """Stands for a value from inside: that of call `index`, or of aside `index`."""

    _fields = ("index", "aside", "in_turn")

    def __init__(self, index: int, *, aside: bool = False, in_turn: bool = False) -> None:
        super().__init__()
        self.index = index
        self.aside = aside
        self.in_turn = in_turn
        """Whether the value is a list of which each turn of a loop takes the next."""


def _isinstance(value: Value, kinds: Value) -> bool:
    """As Python's own, of a value that did not travel, too."""
    return value.is_instance(kinds) if isinstance(value, Opaque) else isinstance(value, kinds)


_TYPES = (int, float, str, bool, list, tuple, dict, set, frozenset, complex, bytes, bytearray)
_FUNCTIONS = """
    abs all any ascii bin chr divmod enumerate filter format hex iter len map max memoryview min next
    object oct ord pow range repr reversed round slice sorted sum type zip
"""
_MODULES: dict[str, tuple[Any, ...]] = {
    "collections": (
        collections.Counter,
        collections.OrderedDict,
        collections.deque,
        collections.defaultdict,
        collections.ChainMap,
    ),
    "datetime": (datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    "decimal": (decimal.Decimal,),
    "fractions": (fractions.Fraction,),
}
_NAMES: dict[str, Any] = {
    **{t.__name__: t for t in _TYPES},
    **{name: getattr(builtins, name) for name in _FUNCTIONS.split()},
    **{t.__name__: t for types in _MODULES.values() for t in types},
    **{f"{module}.{t.__name__}": t for module, types in _MODULES.items() for t in types},
    **{f"math.{name}": value for name, value in vars(math).items() if name[0] != "_"},
    "datetime.datetime": datetime.datetime,
    "NotImplemented": NotImplemented,
    "Ellipsis": ...,
    "isinstance": _isinstance,
    CLOSE: close,
}
"""All that an assert may name."""
_ATTRIBUTES = {
    name
    for t in (*_TYPES, range, *(t for types in _MODULES.values() for t in types), datetime.datetime)
    for name in dir(t)
    if not name.startswith("_")
}
_CHEAP_CALLS: dict[str, tuple[int, tuple[str, ...]]] = {
    **{name: (1, ()) for name in ("int", "float", "bool", "list", "tuple", "set", "frozenset")},
    **{name: (1, ()) for name in ("dict", "len", "abs", "sum", "min", "max", "any", "all", "type")},
    **{f"math.{name}": (1, ()) for name in ("ceil", "floor", "isnan", "isinf", "sqrt", "fabs")},
    "sorted": (1, ("reverse",)),
    "isinstance": (2, ()),
    "math.isclose": (2, ("rel_tol", "abs_tol")),
    CLOSE: (3, ()),
}
"""Functions that are cheap with so many arguments at most, and these keywords."""
_CHEAP_OPERATORS = (ast.Add, ast.Sub, ast.Div, ast.FloorDiv, ast.BitAnd, ast.BitOr, ast.BitXor)
_PLAIN = (
    (Hole, ast.Constant, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
    + (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice)
    + (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.JoinedStr, ast.FormattedValue)
    + (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension)
    + (ast.Call, ast.keyword, ast.Lambda, ast.arguments, ast.arg, ast.NamedExpr)
)
_CHEAP = (
    (Hole, ast.Constant, ast.expr_context, ast.unaryop, ast.boolop, ast.cmpop, ast.UnaryOp)
    + (ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice, ast.List, ast.Tuple)
    + (ast.Set, ast.Dict, ast.keyword, ast.operator, ast.Name)
)


class Test:
    """An expression with holes that is admitted, ready to be evaluated."""

    def __init__(self, expression: ast.expr) -> None:
        """Admit an expression.

        Raises:
            Unsupported: a part of it is not evaluated on the trusted side.
        """
        expression = _Dotted().visit(expression)
        _check(expression, bound_names(expression))
        self.cheap = all(_is_cheap(node) for node in ast.walk(expression))
        """Whether evaluating takes no more than the values' size says."""
        self._in_turn = [
            node.index for node in ast.walk(expression) if isinstance(node, Hole) and node.in_turn
        ]
        named = ast.fix_missing_locations(ast.Expression(_Named().visit(expression)))
        self._code = compile(named, "<assert>", "eval", dont_inherit=True)

    def evaluate(self, values: Sequence[Value], asides: Sequence[Value]) -> Value:
        """Return the value of what is left of an assert, with the holes filled.

        Raises:
            Exception: whatever Python raises for these values; the assert would have raised it too.
            Unjudged: a value was asked what it cannot answer here.
        """
        names = {**_NAMES, "__builtins__": {}}
        names.update((_name(False, index), value) for index, value in enumerate(values))
        names.update((_name(True, index), value) for index, value in enumerate(asides))
        for index in self._in_turn:
            names[_name(False, index)] = iter(values[index])
        return eval(self._code, names)  # noqa: S307 - the assert's own words, each of them admitted


def is_admitted(expression: ast.expr) -> bool:
    """Whether an expression without holes could be evaluated here."""
    try:
        _check(_Dotted().visit(expression), bound_names(expression))
    except Unsupported:
        return False
    return True


def bound_names(expression: ast.AST) -> set[str]:
    """Names that an expression binds itself: loop variables, parameters, `:=`."""
    return {
        part.arg if isinstance(part, ast.arg) else part.id
        for part in ast.walk(expression)
        if isinstance(part, ast.arg)
        or (isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    }


def _name(aside: bool, index: int) -> str:
    """What a hole's value is called; no assert can write a space in a name."""
    return f"{'aside' if aside else 'value'} {index}"


class _Dotted(ast.NodeTransformer):
    """Writes `math.isclose` as one name, so that no module is ever at hand."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and f"{node.value.id}.{node.attr}" in _NAMES:
            return ast.copy_location(ast.Name(f"{node.value.id}.{node.attr}", ast.Load()), node)
        return self.generic_visit(node)


class _Named(ast.NodeTransformer):
    """Writes holes as names."""

    def visit_Hole(self, node: Hole) -> ast.AST:
        name = ast.Name(_name(node.aside, node.index), ast.Load())
        return ast.Call(ast.Name("next", ast.Load()), [name], []) if node.in_turn else name


def _check(expression: ast.expr, bound: set[str]) -> None:
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            if node.id not in _NAMES and node.id not in bound:
                raise Unsupported(f"it names {node.id}")
        elif isinstance(node, ast.Attribute):
            text = isinstance(node.value, ast.Constant | ast.JoinedStr)
            # A format string of the program's could look into any object.
            if node.attr not in _ATTRIBUTES or (node.attr.startswith("format") and not text):
                raise Unsupported(f"it uses .{node.attr}")
        elif not isinstance(node, _PLAIN):
            raise Unsupported(f"it has a {type(node).__name__}")
        if isinstance(node, ast.Compare):
            sides = itertools.pairwise((node.left, *node.comparators))
            for operation, neighbours in zip(node.ops, sides, strict=True):
                # Identity means something only for the singletons: other values are copies here.
                if isinstance(operation, ast.Is | ast.IsNot) and not any(
                    map(_is_singleton, neighbours)
                ):
                    raise Unsupported("`is` compares with no singleton")


def _is_singleton(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        value = _NAMES.get(node.id)
        return isinstance(value, type) or value is ... or value is NotImplemented
    return isinstance(node, ast.Constant) and (
        node.value is None or node.value is ... or isinstance(node.value, bool)
    )


def _is_cheap(node: ast.AST) -> bool:
    match node:
        case ast.BinOp():
            return isinstance(node.op, _CHEAP_OPERATORS)
        case ast.Call(func=ast.Name(id="round"), args=[_, *digits], keywords=keywords):
            return all(map(_is_few, [*digits, *(keyword.value for keyword in keywords)]))
        case ast.Call(func=ast.Name(id=name)) if name in _CHEAP_CALLS:
            n_arguments, keyword_names = _CHEAP_CALLS[name]
            return len(node.args) <= n_arguments and all(
                keyword.arg in keyword_names for keyword in node.keywords
            )
        case Hole(in_turn=True):
            return False
        case _:
            return isinstance(node, _CHEAP)


def _is_few(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and type(node.value) is int
        and abs(node.value) <= MAX_CHEAP_NDIGITS
    )
