"""Writes Python values as tagged JSON: exact types, bounded size, nothing that runs when it is read.

The child encodes what a call returned, the host decodes it (sandbox/decoding.py). A value of a type that is
not listed here is opaque: it carries its type's name, a bounded repr and its truth, and equals nothing. A
subclass of a built-in type travels as the built-in unless it brings its own `__eq__`: what it says of itself
does not count, what it contains does.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, TypeAlias

MAX_NODES = 50_000
"""Values in one shipped value, containers included."""
MAX_DEPTH = 60
"""Nesting; deeper values are opaque. Keeps JSON and comparison far from the recursion limit."""
MAX_TEXT = 200_000
"""Characters of all text and digits in one shipped value."""
MAX_REPR = 400
MAX_EXPONENT = 1000
"""Of a Decimal: int(Decimal("1E+999999999")) would take the host's memory."""
BUILTIN_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (int, float, bool, str, list, tuple, dict, set, frozenset, bytes, complex, type)
}
"""Types that travel as values themselves."""
_JSON_INT = 1 << 53
_TYPE_NAMES = {t: name for name, t in BUILTIN_TYPES.items()}
_DICT_KEYS: type = type({}.keys())
_DICT_ITEMS: type = type({}.items())


Value: TypeAlias = Any
"""Any Python value: what the programs and the tagged JSON are about."""


class _TooLarge(Exception):
    """The value does not fit the bounds."""


def encode(value: object, *, iterate: bool = False) -> Value:
    """Return `value` as something that json.dumps writes; opaque where it does not fit.

    Runs beside hostile code: it must be right for honest values, it need not resist lies, because a
    lie here is a wrong value and the host compares values.
    """
    try:
        if iterate and type(value) not in _ENCODERS:
            items = _items(value)
            if items is not None:
                encoded = [_Encoder().encode(item, 1) for item in items]
                return {"g": [_type_name(value), _repr(value), encoded]}
        return _Encoder().encode(value, 0)
    except (_TooLarge, RecursionError):
        return {"o": [_type_name(value), "<too large to compare>", True]}


class _Encoder:
    """Counts what one value may use up."""

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.text = MAX_TEXT

    def encode(self, value: Value, depth: int) -> Value:
        self.nodes -= 1
        if self.nodes < 0 or depth > MAX_DEPTH:
            raise _TooLarge
        encoder = _ENCODERS.get(type(value))
        if encoder is not None:
            return encoder(self, value, depth)
        for base in _UNWRAPPED:
            if isinstance(value, base) and type(value).__eq__ is base.__eq__:
                return _ENCODERS[base](self, value, depth)
        return {"o": [_type_name(value), _repr(value), _truth(value)]}

    def many(self, values: Value, depth: int) -> list[Value]:
        return [self.encode(value, depth + 1) for value in values]

    def spend(self, n: int) -> None:
        self.text -= n
        if self.text < 0:
            raise _TooLarge


def _encode_plain(encoder: _Encoder, value: Value, depth: int) -> Value:
    return value


def _encode_int(encoder: _Encoder, value: int, depth: int) -> Value:
    value = int.__index__(value)
    if -_JSON_INT < value < _JSON_INT:
        return value
    encoder.spend(value.bit_length() // 4)
    return {"i": hex(value)}


def _encode_str(encoder: _Encoder, value: str, depth: int) -> Value:
    encoder.spend(str.__len__(value))
    return str.__str__(value) if type(value) is str else "".join(str.__iter__(value))


def _encode_float(encoder: _Encoder, value: float, depth: int) -> Value:
    return {"f": float.hex(value)}


def _encode_complex(encoder: _Encoder, value: complex, depth: int) -> Value:
    return {"c": [float.hex(value.real), float.hex(value.imag)]}


def _encode_bytes(encoder: _Encoder, value: bytes, depth: int) -> Value:
    encoder.spend(2 * len(value))
    return {"b": value.hex()}


def _encode_bytearray(encoder: _Encoder, value: bytearray, depth: int) -> Value:
    encoder.spend(2 * len(value))
    return {"B": value.hex()}


def _encode_list(encoder: _Encoder, value: list[Value], depth: int) -> Value:
    return encoder.many(list.__iter__(value), depth)


def _encode_tuple(encoder: _Encoder, value: tuple[Value, ...], depth: int) -> Value:
    return {"t": encoder.many(tuple.__iter__(value), depth)}


def _encode_set(encoder: _Encoder, value: set[Value], depth: int) -> Value:
    return {"s": encoder.many(set.__iter__(value), depth)}


def _encode_frozenset(encoder: _Encoder, value: frozenset[Value], depth: int) -> Value:
    return {"z": encoder.many(frozenset.__iter__(value), depth)}


def _pairs(encoder: _Encoder, value: dict[Value, Value], depth: int) -> list[Value]:
    return [encoder.encode(part, depth + 1) for pair in dict.items(value) for part in pair]


def _encode_dict(encoder: _Encoder, value: dict[Value, Value], depth: int) -> Value:
    return {"d": _pairs(encoder, value, depth)}


def _encode_counter(encoder: _Encoder, value: dict[Value, Value], depth: int) -> Value:
    return {"C": _pairs(encoder, value, depth)}


def _encode_ordered(encoder: _Encoder, value: dict[Value, Value], depth: int) -> Value:
    # Not dict.items: an OrderedDict keeps an order of its own (move_to_end).
    ordered: Value = OrderedDict.items(value)  # type: ignore[arg-type]
    return {"O": [encoder.encode(part, depth + 1) for pair in ordered for part in pair]}


def _encode_deque(encoder: _Encoder, value: deque[Value], depth: int) -> Value:
    return {"q": encoder.many(deque.__iter__(value), depth)}


def _encode_range(encoder: _Encoder, value: range, depth: int) -> Value:
    return {"r": encoder.many((value.start, value.stop, value.step), depth)}


def _encode_keys(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"K": encoder.many(value, depth)}


def _encode_items(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"I": [encoder.encode(part, depth + 1) for pair in value for part in pair]}


def _encode_decimal(encoder: _Encoder, value: decimal.Decimal, depth: int) -> Value:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > MAX_EXPONENT:
        raise _TooLarge
    text = str(value)
    encoder.spend(len(text))
    return {"D": text}


def _encode_fraction(encoder: _Encoder, value: fractions.Fraction, depth: int) -> Value:
    return {"F": encoder.many((value.numerator, value.denominator), depth)}


def _encode_date(encoder: _Encoder, value: datetime.date, depth: int) -> Value:
    return {"Y": [value.year, value.month, value.day]}


def _encode_datetime(encoder: _Encoder, value: datetime.datetime, depth: int) -> Value:
    if value.tzinfo is not None:
        return {"o": ["datetime", _repr(value), True]}
    day = [value.year, value.month, value.day]
    return {"T": [*day, value.hour, value.minute, value.second, value.microsecond]}


def _encode_timedelta(encoder: _Encoder, value: datetime.timedelta, depth: int) -> Value:
    return {"E": [value.days, value.seconds, value.microseconds]}


def _encode_type(encoder: _Encoder, value: type, depth: int) -> Value:
    if value in _TYPE_NAMES:
        return {"y": _TYPE_NAMES[value]}
    return {"o": ["type", _repr(value), True]}


_ENCODERS: dict[type, Callable[[_Encoder, Value, int], Value]] = {
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
    Counter: _encode_counter,
    OrderedDict: _encode_ordered,
    deque: _encode_deque,
    range: _encode_range,
    _DICT_KEYS: _encode_keys,
    _DICT_ITEMS: _encode_items,
    decimal.Decimal: _encode_decimal,
    fractions.Fraction: _encode_fraction,
    datetime.datetime: _encode_datetime,
    datetime.date: _encode_date,
    datetime.timedelta: _encode_timedelta,
    type: _encode_type,
}
# Subclasses first: a defaultdict is a dict, an OrderedDict is both.
_UNWRAPPED = (Counter, OrderedDict, dict, list, tuple, str, set, frozenset, int, float, deque)


def _items(value: Value) -> list[Value] | None:
    """Items of an iterator or iterable, or None where there are none or too many."""
    try:
        iterator = iter(value)
    except TypeError:
        return None
    items = []
    for item in iterator:
        items.append(item)
        if len(items) > MAX_NODES:
            raise _TooLarge
    return items


def _type_name(value: object) -> str:
    return "".join(str.__iter__(type.__dict__["__name__"].__get__(type(value))))[:100]


def _repr(value: object) -> str:
    """A bounded repr; hostile `__repr__` may raise what it likes."""
    try:
        return "".join(str.__iter__(repr(value)))[:MAX_REPR]
    except BaseException as raised:  # noqa: BLE001 - hostile code, any exception
        return f"<{_type_name(value)} whose repr raised {_type_name(raised)}>"


def _truth(value: object) -> bool:
    try:
        return bool(value)
    except BaseException:  # noqa: BLE001 - hostile code, any exception
        return False
