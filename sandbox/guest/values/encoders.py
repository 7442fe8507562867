"""The tagged JSON of each type of value that travels, and which of them a value is written as."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import operator
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterable
from typing import Any

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


def encoder_of(value: Value) -> Callable[[Encoder, Value, int], Value] | None:
    """Return what writes a value of its type; None where the type does not travel."""
    kind = type(value)
    encoder = ENCODERS.get(kind)
    if encoder is not None:
        return encoder
    for base in _UNWRAPPED:
        if isinstance(value, base) and kind.__eq__ is base.__eq__:
            return ENCODERS[base]
    if isinstance(value, type):  # of whatever metaclass
        return _encode_type
    # Known by name: importing these modules would cost every child.
    return BY_NAME.get((kind.__module__, kind.__name__))


def _encode_plain(encoder: Encoder, value: Value, depth: int) -> Value:
    return value


def _encode_int(encoder: Encoder, value: int, depth: int) -> Value:
    value = int.__index__(value)
    if -_JSON_INT < value < _JSON_INT:
        return value
    encoder.spend(value.bit_length() // 4)
    return {"i": hex(value)}


def _encode_str(encoder: Encoder, value: str, depth: int) -> Value:
    encoder.spend(str.__len__(value))
    return str.__str__(value) if type(value) is str else "".join(str.__iter__(value))


def _encode_float(encoder: Encoder, value: float, depth: int) -> Value:
    if value is math.nan:
        return {"e": "nan"}
    if -math.inf < value < math.inf:
        return float.__pos__(value)
    return {"f": float.hex(value)}


def _encode_complex(encoder: Encoder, value: complex, depth: int) -> Value:
    return {"c": [float.hex(value.real), float.hex(value.imag)]}


def _encode_bytes(encoder: Encoder, value: bytes, depth: int) -> Value:
    encoder.spend(2 * len(value))
    return {"b": value.hex()}


def _encode_bytearray(encoder: Encoder, value: bytearray, depth: int) -> Value:
    encoder.spend(2 * len(value))
    return {"B": value.hex()}


def _encode_memoryview(encoder: Encoder, value: memoryview, depth: int) -> Value:
    if value.format != "B" or value.ndim != 1:
        return opaque(value)
    encoder.spend(2 * len(value))
    return {"v": value.hex()}


def _encode_list(encoder: Encoder, value: list[Value], depth: int) -> Value:
    return encoder.many(list.__iter__(value), depth)


def _encode_tuple(encoder: Encoder, value: tuple[Value, ...], depth: int) -> Value:
    return {"t": encoder.many(tuple.__iter__(value), depth)}


def _encode_set(encoder: Encoder, value: set[Value], depth: int) -> Value:
    return {"s": encoder.many(set.__iter__(value), depth)}


def _encode_frozenset(encoder: Encoder, value: frozenset[Value], depth: int) -> Value:
    return {"z": encoder.many(frozenset.__iter__(value), depth)}


def _pairs(encoder: Encoder, pairs: Iterable[tuple[Value, Value]], depth: int) -> list[Value]:
    return [encoder.encode(part, depth + 1) for pair in pairs for part in pair]


def _encode_dict(encoder: Encoder, value: dict[Value, Value], depth: int) -> Value:
    return {"d": _pairs(encoder, dict.items(value), depth)}


def _encode_counter(encoder: Encoder, value: dict[Value, Value], depth: int) -> Value:
    return {"C": _pairs(encoder, dict.items(value), depth)}


def _encode_ordered(encoder: Encoder, value: dict[Value, Value], depth: int) -> Value:
    # Not dict.items: an OrderedDict keeps an order of its own (move_to_end).
    ordered: Value = OrderedDict.items(value)  # type: ignore[arg-type]
    return {"O": _pairs(encoder, ordered, depth)}


def _encode_deque(encoder: Encoder, value: deque[Value], depth: int) -> Value:
    items = encoder.many(deque.__iter__(value), depth)
    return (
        {"q": items}
        if value.maxlen is None
        else {"Q": [_encode_int(encoder, value.maxlen, depth), *items]}
    )


def _encode_range(encoder: Encoder, value: range, depth: int) -> Value:
    return {"r": encoder.many((value.start, value.stop, value.step), depth)}


def _encode_slice(encoder: Encoder, value: slice, depth: int) -> Value:
    return {"S": encoder.many((value.start, value.stop, value.step), depth)}


def _encode_keys(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"K": encoder.many(value, depth)}


def _encode_values(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"V": encoder.many(value, depth)}


def _encode_items(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"I": _pairs(encoder, value, depth)}


def _encode_decimal(encoder: Encoder, value: decimal.Decimal, depth: int) -> Value:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > MAX_EXPONENT:
        raise TooLarge
    text = decimal.Decimal.__str__(value)
    encoder.spend(len(text))
    return {"D": text}


def _encode_fraction(encoder: Encoder, value: fractions.Fraction, depth: int) -> Value:
    return {"F": encoder.many((value.numerator, value.denominator), depth)}


def _encode_date(encoder: Encoder, value: datetime.date, depth: int) -> Value:
    return {"Y": [value.year, value.month, value.day]}


def _zone(zone: datetime.tzinfo | None) -> list[int] | None:
    """A fixed offset from UTC as the parts of a timedelta."""
    if type(zone) is not datetime.timezone:
        return None
    offset = zone.utcoffset(None)
    return [offset.days, offset.seconds, offset.microseconds]


def _encode_datetime(encoder: Encoder, value: datetime.datetime, depth: int) -> Value:
    zone = _zone(value.tzinfo)
    if value.tzinfo is not None and zone is None:
        return opaque(value)
    day = [value.year, value.month, value.day]
    clock = [value.hour, value.minute, value.second, value.microsecond]
    return {"T": [*day, *clock, *(zone or ())]}


def _encode_time(encoder: Encoder, value: datetime.time, depth: int) -> Value:
    zone = _zone(value.tzinfo)
    if value.tzinfo is not None and zone is None:
        return opaque(value)
    return {"M": [value.hour, value.minute, value.second, value.microsecond, *(zone or ())]}


def _encode_timedelta(encoder: Encoder, value: datetime.timedelta, depth: int) -> Value:
    return {"E": [value.days, value.seconds, value.microseconds]}


def _encode_type(encoder: Encoder, value: type, depth: int) -> Value:
    return {"y": TYPE_NAMES[value]} if value in TYPE_NAMES else opaque(value)


def _encode_singleton(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"e": next(name for name, known in SINGLETONS.items() if known is value)}


def _encode_chain(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"H": _pairs(encoder, dict(value).items(), depth)}


def _encode_user_dict(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"U": _pairs(encoder, dict(value).items(), depth)}


def _encode_user_list(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"l": encoder.many(value.data, depth)}


def _encode_user_string(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"W": [encoder.encode(value.data, depth + 1)]}


def _encode_proxy(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"x": _pairs(encoder, dict(value).items(), depth)}


def _encode_array(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"a": [value.typecode, *encoder.many(value, depth)]}


def _encode_uuid(encoder: Encoder, value: Value, depth: int) -> Value:
    return {"u": value.hex}


def _encode_path(encoder: Encoder, value: Value, depth: int) -> Value:
    text = str(value)
    encoder.spend(len(text))
    return {"P": text}


ENCODERS: dict[type, Callable[[Encoder, Value, int], Value]] = {
    type(None): _encode_plain,
    bool: _encode_plain,
    int: _encode_int,
    str: _encode_str,
    float: _encode_float,
    list: _encode_list,
    tuple: _encode_tuple,
    dict: _encode_dict,
    set: _encode_set,
    frozenset: _encode_frozenset,
    complex: _encode_complex,
    bytes: _encode_bytes,
    bytearray: _encode_bytearray,
    memoryview: _encode_memoryview,
    Counter: _encode_counter,
    OrderedDict: _encode_ordered,
    deque: _encode_deque,
    range: _encode_range,
    slice: _encode_slice,
    type({}.keys()): _encode_keys,
    type({}.values()): _encode_values,
    type({}.items()): _encode_items,
    type(OrderedDict().keys()): _encode_keys,
    type(OrderedDict().values()): _encode_values,
    type(OrderedDict().items()): _encode_items,
    type(type.__dict__): _encode_proxy,
    decimal.Decimal: _encode_decimal,
    fractions.Fraction: _encode_fraction,
    datetime.datetime: _encode_datetime,
    datetime.date: _encode_date,
    datetime.time: _encode_time,
    datetime.timedelta: _encode_timedelta,
    type: _encode_type,
    type(...): _encode_singleton,
    type(NotImplemented): _encode_singleton,
    ChainMap: _encode_chain,
    UserDict: _encode_user_dict,
    UserList: _encode_user_list,
    UserString: _encode_user_string,
}
BY_NAME: dict[tuple[str, str], Callable[[Encoder, Value, int], Value]] = {
    ("array", "array"): _encode_array,
    ("uuid", "UUID"): _encode_uuid,
    **{
        (module, name): _encode_path
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
