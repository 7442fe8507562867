"""The tagged JSON of each type of value that travels, and which of them a value is written as."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import operator
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from sandbox.guest.values.facts import TYPE_NAMES, Value, opaque

MAX_NODES = 200_000
"""Values in one shipped value, containers included."""
MAX_DEPTH = 200
"""Nesting that travels; as deep as Python's parser lets a literal nest."""
MAX_TEXT = 2_000_000
"""Characters of all text and digits in one shipped value."""
MAX_EXPONENT = 1000
"""Of a Decimal: int(Decimal("1E+999999999")) would take the host's memory."""
SINGLETONS: dict[str, object] = {
    "Ellipsis": ...,
    "NotImplemented": NotImplemented,
    # A container is equal to another that holds the same NaN, not merely a NaN.
    "nan": math.nan,
}
STACK_DEPTH = 20_000
"""Recursion limit while a value is encoded: a program may have lowered its own."""
_JSON_INT = 1 << 53


class TooLarge(Exception):
    """The value does not fit the bounds."""


class Encoder:
    """Counts what one value may use up."""

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.text = MAX_TEXT

    def encode(self, value: Value, depth: int) -> Value:
        """Return the tagged JSON of one value."""
        self.nodes -= 1
        if self.nodes < 0 or depth > MAX_DEPTH:
            raise TooLarge
        encoder = ENCODERS.get(type(value)) or encoder_of(value)
        return opaque(value) if encoder is None else encoder(self, value, depth)

    def many(self, values: Iterable[Value], depth: int) -> list[Value]:
        """Return that of the values of a container."""
        if operator.length_hint(values) > self.nodes:
            raise TooLarge
        return [self.encode(value, depth + 1) for value in values]

    def spend(self, n: int) -> None:
        """Count `n` characters of text or digits."""
        self.text -= n
        if self.text < 0:
            raise TooLarge


Write: TypeAlias = Callable[[Encoder, Value, int], Value]
"""Returns the tagged JSON of a value at a depth."""


def encoder_of(value: Value) -> Write | None:
    """Return what writes a value of its type; None where the type does not travel."""
    kind = type(value)
    encoder = ENCODERS.get(kind)
    if encoder is not None:
        return encoder
    for base in _UNWRAPPED:
        if isinstance(value, base) and kind.__eq__ is base.__eq__:
            return ENCODERS[base]
    if isinstance(value, type):  # of whatever metaclass
        return _type
    # Known by name: importing these modules would cost every child.
    return BY_NAME.get((kind.__module__, kind.__name__))


def _plain(encoder: Encoder, value: Value, depth: int) -> Value:
    return value


def _int(encoder: Encoder, value: int, depth: int) -> Value:
    value = int.__index__(value)
    if -_JSON_INT < value < _JSON_INT:
        return value
    encoder.spend(value.bit_length() // 4)
    return {"i": hex(value)}


def _str(encoder: Encoder, value: str, depth: int) -> Value:
    encoder.spend(str.__len__(value))
    return str.__str__(value) if type(value) is str else "".join(str.__iter__(value))


def _float(encoder: Encoder, value: float, depth: int) -> Value:
    if value is math.nan:
        return {"e": "nan"}
    if -math.inf < value < math.inf:
        return float.__pos__(value)
    return {"f": float.hex(value)}


def _decimal(encoder: Encoder, value: decimal.Decimal, depth: int) -> Value:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > MAX_EXPONENT:
        raise TooLarge
    text = decimal.Decimal.__str__(value)
    encoder.spend(len(text))
    return {"D": text}


def _path(encoder: Encoder, value: Value, depth: int) -> Value:
    text = str(value)
    encoder.spend(len(text))
    return {"P": text}


def _memoryview(encoder: Encoder, value: memoryview, depth: int) -> Value:
    if value.format != "B" or value.ndim != 1:
        return opaque(value)
    return _hex("v")(encoder, value, depth)


def _deque(encoder: Encoder, value: deque[Value], depth: int) -> Value:
    items = encoder.many(deque.__iter__(value), depth)
    if value.maxlen is None:
        return {"q": items}
    return {"Q": [_int(encoder, value.maxlen, depth), *items]}


def _type(encoder: Encoder, value: type, depth: int) -> Value:
    return {"y": TYPE_NAMES[value]} if value in TYPE_NAMES else opaque(value)


def _singleton(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"e": next(name for name, known in SINGLETONS.items() if known is value)}


def _hex(tag: str) -> Write:
    """Bytes by their digits."""

    def write(encoder: Encoder, value: Value, depth: int) -> Value:
        encoder.spend(2 * len(value))
        return {tag: value.hex()}

    return write


def _items(tag: str, items: Callable[[Value], Iterable[Value]]) -> Write:
    """What is made of some values, which travel as values."""
    return lambda encoder, value, depth: {tag: encoder.many(items(value), depth)}


def _pairs(tag: str, pairs: Callable[[Value], Iterable[tuple[Value, Value]]]) -> Write:
    """What is made of keys and values: key, value, key, value."""
    return lambda encoder, value, depth: {
        tag: [encoder.encode(part, depth + 1) for pair in pairs(value) for part in pair]
    }


def _fields(tag: str, *names: str) -> Write:
    """What small whole numbers say."""
    return lambda encoder, value, depth: {tag: [getattr(value, name) for name in names]}


def _with_zone(tag: str, *names: str) -> Write:
    """The same of what may have a zone: a fixed offset from UTC follows as the parts of a timedelta."""

    def write(encoder: Encoder, value: Value, depth: int) -> Value:
        zone, parts = value.tzinfo, [getattr(value, name) for name in names]
        if zone is None:
            return {tag: parts}
        if type(zone) is not datetime.timezone:
            return opaque(value)
        offset = zone.utcoffset(None)
        return {tag: [*parts, offset.days, offset.seconds, offset.microseconds]}

    return write


def _copied(value: Value) -> Iterable[tuple[Value, Value]]:
    return dict(value).items()


_DAY, _CLOCK = ("year", "month", "day"), ("hour", "minute", "second", "microsecond")
_bounds = operator.attrgetter("start", "stop", "step")
_keys = _items("K", lambda view: view)
_values = _items("V", lambda view: view)
_item_pairs = _pairs("I", lambda view: view)

ENCODERS: dict[type, Write] = {
    type(None): _plain,
    bool: _plain,
    int: _int,
    str: _str,
    float: _float,
    list: lambda encoder, value, depth: encoder.many(list.__iter__(value), depth),
    tuple: _items("t", tuple.__iter__),
    dict: _pairs("d", dict.items),
    set: _items("s", set.__iter__),
    frozenset: _items("z", frozenset.__iter__),
    complex: lambda _, value, __: {"c": [float.hex(value.real), float.hex(value.imag)]},
    bytes: _hex("b"),
    bytearray: _hex("B"),
    memoryview: _memoryview,
    Counter: _pairs("C", dict.items),
    # Not dict.items: an OrderedDict keeps an order of its own (move_to_end).
    OrderedDict: _pairs("O", OrderedDict.items),
    deque: _deque,
    range: _items("r", _bounds),
    slice: _items("S", _bounds),
    type({}.keys()): _keys,
    type({}.values()): _values,
    type({}.items()): _item_pairs,
    type(OrderedDict().keys()): _keys,
    type(OrderedDict().values()): _values,
    type(OrderedDict().items()): _item_pairs,
    type(type.__dict__): _pairs("x", _copied),
    decimal.Decimal: _decimal,
    fractions.Fraction: _items("F", operator.attrgetter("numerator", "denominator")),
    datetime.datetime: _with_zone("T", *_DAY, *_CLOCK),
    datetime.date: _fields("Y", *_DAY),
    datetime.time: _with_zone("M", *_CLOCK),
    datetime.timedelta: _fields("E", "days", "seconds", "microseconds"),
    type: _type,
    type(...): _singleton,
    type(NotImplemented): _singleton,
    ChainMap: _pairs("H", _copied),
    UserDict: _pairs("U", _copied),
    UserList: _items("l", operator.attrgetter("data")),
    UserString: _items("W", lambda value: (value.data,)),
}
BY_NAME: dict[tuple[str, str], Write] = {
    ("array", "array"): lambda encoder, value, depth: {
        "a": [value.typecode, *encoder.many(value, depth)]
    },
    ("uuid", "UUID"): lambda _, value, __: {"u": value.hex},
    **{
        (module, name): _path
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath")
    },
}
# Subclasses first: a defaultdict is a dict, an OrderedDict is both.
_UNWRAPPED: tuple[Any, ...] = (
    Counter,
    OrderedDict,
    dict,
    list,
    tuple,
    str,
    set,
    frozenset,
    int,
    float,
    deque,
)
