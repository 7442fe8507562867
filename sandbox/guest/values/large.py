"""What travels of a value that is too large: its type, its length, and a hash that equal values share."""

from __future__ import annotations

import decimal
import fractions
import itertools
import math
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from typing import Any

from sandbox.guest.values.encoders import BY_NAME, ENCODERS, MAX_DEPTH, STACK_DEPTH
from sandbox.guest.values.facts import Value, bases, truth, type_name

_SEQUENCES: tuple[tuple[Any, bytes], ...] = ((list, b"L"), (tuple, b"T"), (deque, b"Q"))
WITH_DIGEST: tuple[Any, ...] = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    str,
    bytes,
    bytearray,
    deque,
    int,
)
"""Types of which a length and a digest are shipped where the value does not travel."""


def large(value: Value) -> Value:
    """Return what can be said of a value that is too large: type, base, length and digest; else it is opaque."""
    for base in WITH_DIGEST:
        if isinstance(value, base) and type(value).__eq__ is base.__eq__:
            length = None if base is int else base.__len__(value)
            about = [base.__name__, length, digest(value)]
            return {"L": [type_name(value), *about, bases(value)]}
    kind = type(value)
    is_ours = kind in ENCODERS or (kind.__module__, kind.__name__) in BY_NAME
    if is_ours and hasattr(kind, "__len__"):
        return {"L": [type_name(value), "", len(value), None, bases(value)]}
    return {"o": [type_name(value), "<too large to compare>", truth(value), False, bases(value)]}


def digest(value: Value) -> str | None:
    """Return a hash that equal values share, whatever the interpreter; None where there is none.

    It covers numbers, text, bytes and their lists, tuples, deques, sets and dicts.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, STACK_DEPTH))
    try:
        return _sha256(_canonical(value, 0)).hex()
    except (TypeError, ValueError, ArithmeticError, RecursionError):
        return None
    finally:
        sys.setrecursionlimit(limit)


def _canonical(value: Value, depth: int) -> bytes:
    """Bytes that equal values share: short for scalars, a hash for containers."""
    if isinstance(value, int):
        return b"n%x;" % int.__index__(value)
    if isinstance(value, str):
        return b"s" + _sha256(str.encode(value, "utf-8", "surrogatepass"))
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    for kinds, tag in _SEQUENCES:
        if isinstance(value, kinds):
            return tag + _joined(kinds.__iter__(value), depth)
    if isinstance(value, set | frozenset):
        parts = sorted(_canonical(item, depth + 1) for item in value)
        return b"S" + _sha256(b"".join(parts))
    if isinstance(value, OrderedDict | Counter):
        raise TypeError("order, or zeros, decide")
    if isinstance(value, dict):
        parts = sorted(
            _canonical(key, depth + 1) + _canonical(item, depth + 1)
            for key, item in dict.items(value)
        )
        return b"D" + _sha256(b"".join(parts))
    if isinstance(value, bytes | bytearray):
        return b"b" + _sha256(value)
    if value is None:
        return b"N"
    if isinstance(value, float | fractions.Fraction | decimal.Decimal):
        if value != value:
            raise TypeError("a NaN equals nothing")
        if value in (math.inf, -math.inf):
            return b"+;" if value > 0 else b"-;"
        numerator, denominator = value.as_integer_ratio()
        return b"n%x;" % numerator if denominator == 1 else b"r%x/%x;" % (numerator, denominator)
    raise TypeError(f"no digest of a {type(value).__name__}")


def _joined(items: Iterable[Value], depth: int) -> bytes:
    """The hash of what a sequence holds, in order."""
    iterator, whole = iter(items), b""
    while part := list(itertools.islice(iterator, 65_536)):
        texts = [b"n%x;" % x if type(x) is int else _canonical(x, depth + 1) for x in part]
        whole = _sha256(whole + b"".join(texts))
    return whole


def _sha256(data: bytes | bytearray) -> bytes:
    import hashlib  # not in every child: few values are so large

    return hashlib.sha256(data).digest()
