"""What the guest says of a value that does not travel: its type, a bounded repr, its truth, how it compares."""

from __future__ import annotations

import datetime
import decimal
import fractions
from collections import Counter, OrderedDict, deque
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""Any Python value: what the programs and the tagged JSON are about."""
MAX_REPR = 400
BUILTIN_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (int, float, bool, str, list, tuple, dict, set, frozenset, bytes, complex, type)
    + (bytearray, range, slice, object, Counter, OrderedDict, deque, type(None))
    + (decimal.Decimal, fractions.Fraction, datetime.date, datetime.datetime, datetime.timedelta)
}
"""Types that travel as values themselves."""
_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: made by a class statement."""
TYPE_NAMES = {t: name for name, t in BUILTIN_TYPES.items()}
_OWN_KIND_ONLY = {
    "builtins": ("builtin_function_or_method", "method", "method-wrapper"),
    "types": ("SimpleNamespace",),
    "re": ("Pattern",),
}
"""Types of the library whose values equal none of another type, and do not travel themselves."""


def opaque(value: Value) -> Value:
    """Return what travels of such a value."""
    alone = by_identity(value)
    return {"o": [type_name(value), bounded_repr(value), truth(value), alone, bases(value)]}


def bases(value: Value) -> list[str]:
    """The built-in types that a value is an instance of."""
    return [TYPE_NAMES[base] for base in type.mro(type(value)) if base in TYPE_NAMES]


def by_identity(value: Value) -> bool:
    """Whether a value is equal to itself alone: no copy of it, here or outside, is."""
    kind: Any = type(value)
    if kind.__module__ in _OWN_KIND_ONLY and kind.__name__ in _OWN_KIND_ONLY[kind.__module__]:
        return True
    return kind.__eq__ is object.__eq__ and kind.__ne__ is object.__ne__


def own_in(value: Value) -> bool:
    """Whether a class written in Python says what is `in` the value: its items need not be that."""
    return any(
        "__contains__" in type.__dict__["__dict__"].__get__(kind) and kind.__flags__ & _HEAP_TYPE
        for kind in type.mro(type(value))
    )


def type_name(value: object) -> str:
    """Return the name of a value's type, at most 100 characters of it."""
    return "".join(str.__iter__(type.__dict__["__name__"].__get__(type(value))))[:100]


def bounded_repr(value: object) -> str:
    """A bounded repr; hostile `__repr__` may raise what it likes."""
    try:
        return "".join(str.__iter__(repr(value)))[:MAX_REPR]
    except BaseException as raised:  # noqa: BLE001 - hostile code, any exception
        return f"<{type_name(value)} whose repr raised {type_name(raised)}>"


def truth(value: object) -> bool | None:
    """Whether a value is true; None where that raises."""
    try:
        return bool(value)
    except BaseException:  # noqa: BLE001 - hostile code, any exception
        return None
