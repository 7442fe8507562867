"""Reads tagged JSON of hostile origin back into Python values, within bounds on nodes, depth and time.

What it builds are values of the types of the library and nothing else: no code of the program's is here, so
comparing them runs none.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator

from sandbox.guest.protocol import ProtocolError
from sandbox.guest.values import BUILTIN_TYPES, MAX_DEPTH, MAX_EXPONENT, MAX_NODES, Value

MAX_SAME_HASH = 32
"""Equal hashes in one set or dict: more is an attack on the time it takes to build."""


class Opaque:
    """A value that did not travel; equals nothing, itself included."""

    def __init__(self, type_name: str, text: str, truth: bool) -> None:
        self.type_name = type_name
        self.text = text
        self.truth = truth

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self.truth

    def __repr__(self) -> str:
        return self.text


class Iterated(Opaque):
    """An iterator's items, shipped because the assert iterates over them; equals nothing."""

    def __init__(self, type_name: str, text: str, items: list[Value]) -> None:
        super().__init__(type_name, text, True)
        self.items = items

    def __iter__(self) -> Iterator[Value]:
        return iter(self.items)


def decode(document: Value) -> Value:
    """Return the value that `encode` was given, from parsed JSON of hostile origin.

    Raises:
        ProtocolError: an unknown tag, a wrong shape, or more than the bounds allow.
    """
    try:
        return _decode(document, [MAX_NODES * 2], 0)
    except ProtocolError:
        raise
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise ProtocolError(f"a value must have the tagged form: {error}") from error


def _decode(document: Value, left: list[int], depth: int) -> Value:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH + 2:
        raise ProtocolError("a value must fit the bounds on nodes and depth")
    kind = type(document)
    if document is None or kind is bool or kind is int or kind is str:
        return document
    if kind is list:
        return [_decode(item, left, depth + 1) for item in document]
    if kind is not dict or len(document) != 1:
        raise ProtocolError(f"a value must have one tag, got {str(document)[:80]!r}")
    ((tag, content),) = document.items()
    scalar = _SCALARS.get(tag)
    if scalar is not None:
        return scalar(content)
    build = _CONTAINERS.get(tag)
    if build is not None:
        return build([_decode(item, left, depth + 1) for item in _list(content)])
    if tag == "g":
        name, text, items = content
        return Iterated(_str(name), _str(text), [_decode(i, left, depth + 1) for i in _list(items)])
    raise ProtocolError(f"a value must have a known tag, got {str(tag)[:20]!r}")


def _str(value: Value) -> str:
    if type(value) is not str:
        raise ProtocolError(f"text must be text, got {type(value).__name__}")
    return value


def _list(value: Value) -> list[Value]:
    if type(value) is not list:
        raise ProtocolError(f"items must be a list, got {type(value).__name__}")
    return value


def _ints(value: Value, n: int) -> list[int]:
    if len(_list(value)) != n or any(type(part) is not int for part in value):
        raise ProtocolError(f"{n} whole numbers are needed, got {str(value)[:80]!r}")
    return list(value)


def _floats(value: Value) -> complex:
    real, imag = _list(value)
    return complex(float.fromhex(_str(real)), float.fromhex(_str(imag)))


def _decimal(text: Value) -> decimal.Decimal:
    value = decimal.Decimal(_str(text))
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > MAX_EXPONENT:
        raise ProtocolError("a Decimal must have a small exponent")
    return value


def _opaque(content: Value) -> Opaque:
    name, text, truth = _list(content)
    return Opaque(_str(name), _str(text), truth is True)


def _unique(items: list[Value]) -> list[Value]:
    """Check that hashing these does not take quadratic time."""
    seen: dict[int, int] = {}
    for item in items:
        n = seen[hash(item)] = seen.get(hash(item), 0) + 1
        if n > MAX_SAME_HASH:
            raise ProtocolError(f"at most {MAX_SAME_HASH} keys may share a hash")
    return items


def _dict(items: list[Value]) -> dict[Value, Value]:
    if len(items) % 2:
        raise ProtocolError("a dict must have as many values as keys")
    return dict(zip(_unique(items[::2]), items[1::2], strict=True))


def _range(items: list[Value]) -> range:
    start, stop, step = items
    return range(start, stop, step)


def _fraction(items: list[Value]) -> fractions.Fraction:
    numerator, denominator = items
    return fractions.Fraction(numerator, denominator)


_SCALARS: dict[Value, Callable[[Value], Value]] = {
    "i": lambda text: int(_str(text), 16),
    "f": lambda text: float.fromhex(_str(text)),
    "c": _floats,
    "b": lambda text: bytes.fromhex(_str(text)),
    "B": lambda text: bytearray.fromhex(_str(text)),
    "D": _decimal,
    "Y": lambda parts: datetime.date(*_ints(parts, 3)),
    "T": lambda parts: datetime.datetime(*_ints(parts, 7)),  # type: ignore[arg-type]
    "E": lambda parts: datetime.timedelta(*_ints(parts, 3)),
    "y": lambda name: BUILTIN_TYPES[_str(name)],
    "o": _opaque,
}
_CONTAINERS: dict[Value, Callable[[list[Value]], Value]] = {
    "t": tuple,
    "s": lambda items: set(_unique(items)),
    "z": lambda items: frozenset(_unique(items)),
    "d": _dict,
    "C": lambda items: Counter(_dict(items)),
    "O": lambda items: OrderedDict(_dict(items)),
    "q": deque,
    "r": _range,
    "K": lambda items: dict.fromkeys(_unique(items)).keys(),
    "I": lambda items: _dict(items).items(),
    "F": _fraction,
}
