"""Writes Python values as tagged JSON: exact types, bounded size, nothing that runs when it is read.

The child encodes what a call returned, the host decodes it (sandbox/judge/decode.py). A value of a type that is
not listed here is opaque: it carries its type's name, a bounded repr, its truth, and whether it compares by
identity, so that it equals nothing, or by rules of its own, so that nobody outside can compare it. A subclass
of a built-in type travels as the built-in unless it brings its own `__eq__`: what it says of itself does not
count, what it contains does. What is too large to travel is represented by its length and a digest.
"""

from __future__ import annotations

import binascii
import datetime
import decimal
import fractions
import itertools
import json
import math
import operator
import sys
import zlib
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

MAX_NODES = 200_000
"""Values in one shipped value, containers included."""
MAX_DEPTH = 200
"""Nesting that travels; as deep as Python's parser lets a literal nest."""
MAX_TEXT = 2_000_000
"""Characters of all text and digits in one shipped value."""
MAX_PLAIN = 32_768
"""Characters of one value's JSON; longer ones are compressed."""
MAX_JSON = 16 << 20
"""Characters of one value's JSON before compression."""
MAX_REPR = 400
MAX_EXPONENT = 1000
"""Of a Decimal: int(Decimal("1E+999999999")) would take the host's memory."""
BUILTIN_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (int, float, bool, str, list, tuple, dict, set, frozenset, bytes, complex, type)
    + (bytearray, range, slice, object, Counter, OrderedDict, deque, type(None))
    + (decimal.Decimal, fractions.Fraction, datetime.date, datetime.datetime, datetime.timedelta)
}
"""Types that travel as values themselves."""
SINGLETONS: dict[str, object] = {
    "Ellipsis": ...,
    "NotImplemented": NotImplemented,
    # A container is equal to another that holds the same NaN, not merely a NaN.
    "nan": math.nan,
}
_ENCODING_DEPTH = 20_000
"""Recursion limit while a value is encoded: a program may have lowered its own."""
_JSON_INT = 1 << 53
_TYPE_NAMES = {t: name for name, t in BUILTIN_TYPES.items()}
_dump_json = json.JSONEncoder(separators=(",", ":")).encode


Value: TypeAlias = Any
"""Any Python value: what the programs and the tagged JSON are about."""


class _TooLarge(Exception):
    """The value does not fit the bounds."""


def write(value: object, *, iterate: bool = False, room: int = MAX_JSON) -> str:
    """Return the JSON of a value within `room` characters, compressed where it is long.

    A value that does not fit is represented by what can be said of it (see `encode`).
    """
    text = _dump_json(encode(value, iterate=iterate))
    if len(text) > MAX_PLAIN:
        packed = binascii.b2a_base64(zlib.compress(text.encode(), 1), newline=False)
        text = _dump_json({"Z": packed.decode()})
    if len(text) > room:
        text = _dump_json(_large(value))
    return text


def encode(value: object, *, iterate: bool = False) -> Value:
    """Return `value` as something that json.dumps writes; what is too large by its length and digest.

    Runs beside hostile code: it must be right for honest values, it need not resist lies, because a
    lie here is a wrong value and the host compares values.

    Args:
        value: what a call returned.
        iterate: ship the items of an iterable of an unknown type, because the assert iterates over it.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _ENCODING_DEPTH))
    try:
        # The order of a set is that of the interpreter that built it, so it travels as items, too.
        if iterate and (type(value) in (set, frozenset) or _encoder_of(value) is None):
            items = _items(value)
            if items is not None:
                shipped, whole = items
                encoded = _Encoder().many(shipped, 0)
                return {"g": [_type_name(value), _repr(value), encoded, whole]}
        return _Encoder().encode(value, 0)
    except (_TooLarge, RecursionError):
        return _large(value)
    finally:
        sys.setrecursionlimit(limit)


class _Encoder:
    """Counts what one value may use up."""

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.text = MAX_TEXT

    def encode(self, value: Value, depth: int) -> Value:
        self.nodes -= 1
        if self.nodes < 0 or depth > MAX_DEPTH:
            raise _TooLarge
        encoder = _ENCODERS.get(type(value)) or _encoder_of(value)
        return _opaque(value) if encoder is None else encoder(self, value, depth)

    def many(self, values: Iterable[Value], depth: int) -> list[Value]:
        if operator.length_hint(values) > self.nodes:
            raise _TooLarge
        return [self.encode(value, depth + 1) for value in values]

    def spend(self, n: int) -> None:
        self.text -= n
        if self.text < 0:
            raise _TooLarge


def _encoder_of(value: Value) -> Callable[[_Encoder, Value, int], Value] | None:
    kind = type(value)
    encoder = _ENCODERS.get(kind)
    if encoder is not None:
        return encoder
    for base in _UNWRAPPED:
        if isinstance(value, base) and kind.__eq__ is base.__eq__:
            return _ENCODERS[base]
    if isinstance(value, type):  # of whatever metaclass
        return _encode_type
    # Known by name: importing these modules would cost every child.
    return _BY_NAME.get((kind.__module__, kind.__name__))


def _opaque(value: Value) -> Value:
    by_identity = _by_identity(value)
    return {"o": [_type_name(value), _repr(value), _truth(value), by_identity, _bases(value)]}


def _bases(value: Value) -> list[str]:
    """The built-in types that a value is an instance of."""
    return [_TYPE_NAMES[base] for base in type.mro(type(value)) if base in _TYPE_NAMES]


def _by_identity(value: Value) -> bool:
    """Whether a value is equal to itself alone: no copy of it, here or outside, is."""
    kind: Any = type(value)
    if kind.__module__ in _OWN_KIND_ONLY and kind.__name__ in _OWN_KIND_ONLY[kind.__module__]:
        return True
    return kind.__eq__ is object.__eq__ and kind.__ne__ is object.__ne__


_OWN_KIND_ONLY = {
    "builtins": ("builtin_function_or_method", "method", "method-wrapper"),
    "types": ("SimpleNamespace",),
    "re": ("Pattern",),
}
"""Types of the library whose values equal none of another type, and do not travel themselves."""


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
    if value is math.nan:
        return {"e": "nan"}
    if -math.inf < value < math.inf:
        return float.__pos__(value)
    return {"f": float.hex(value)}


def _encode_complex(encoder: _Encoder, value: complex, depth: int) -> Value:
    return {"c": [float.hex(value.real), float.hex(value.imag)]}


def _encode_bytes(encoder: _Encoder, value: bytes, depth: int) -> Value:
    encoder.spend(2 * len(value))
    return {"b": value.hex()}


def _encode_bytearray(encoder: _Encoder, value: bytearray, depth: int) -> Value:
    encoder.spend(2 * len(value))
    return {"B": value.hex()}


def _encode_memoryview(encoder: _Encoder, value: memoryview, depth: int) -> Value:
    if value.format != "B" or value.ndim != 1:
        return _opaque(value)
    encoder.spend(2 * len(value))
    return {"v": value.hex()}


def _encode_list(encoder: _Encoder, value: list[Value], depth: int) -> Value:
    return encoder.many(list.__iter__(value), depth)


def _encode_tuple(encoder: _Encoder, value: tuple[Value, ...], depth: int) -> Value:
    return {"t": encoder.many(tuple.__iter__(value), depth)}


def _encode_set(encoder: _Encoder, value: set[Value], depth: int) -> Value:
    return {"s": encoder.many(set.__iter__(value), depth)}


def _encode_frozenset(encoder: _Encoder, value: frozenset[Value], depth: int) -> Value:
    return {"z": encoder.many(frozenset.__iter__(value), depth)}


def _pairs(encoder: _Encoder, pairs: Iterable[tuple[Value, Value]], depth: int) -> list[Value]:
    return [encoder.encode(part, depth + 1) for pair in pairs for part in pair]


def _encode_dict(encoder: _Encoder, value: dict[Value, Value], depth: int) -> Value:
    return {"d": _pairs(encoder, dict.items(value), depth)}


def _encode_counter(encoder: _Encoder, value: dict[Value, Value], depth: int) -> Value:
    return {"C": _pairs(encoder, dict.items(value), depth)}


def _encode_ordered(encoder: _Encoder, value: dict[Value, Value], depth: int) -> Value:
    # Not dict.items: an OrderedDict keeps an order of its own (move_to_end).
    ordered: Value = OrderedDict.items(value)  # type: ignore[arg-type]
    return {"O": _pairs(encoder, ordered, depth)}


def _encode_deque(encoder: _Encoder, value: deque[Value], depth: int) -> Value:
    return {"q": encoder.many(deque.__iter__(value), depth)}


def _encode_range(encoder: _Encoder, value: range, depth: int) -> Value:
    return {"r": encoder.many((value.start, value.stop, value.step), depth)}


def _encode_slice(encoder: _Encoder, value: slice, depth: int) -> Value:
    return {"S": encoder.many((value.start, value.stop, value.step), depth)}


def _encode_keys(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"K": encoder.many(value, depth)}


def _encode_values(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"V": encoder.many(value, depth)}


def _encode_items(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"I": _pairs(encoder, value, depth)}


def _encode_decimal(encoder: _Encoder, value: decimal.Decimal, depth: int) -> Value:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > MAX_EXPONENT:
        raise _TooLarge
    text = decimal.Decimal.__str__(value)
    encoder.spend(len(text))
    return {"D": text}


def _encode_fraction(encoder: _Encoder, value: fractions.Fraction, depth: int) -> Value:
    return {"F": encoder.many((value.numerator, value.denominator), depth)}


def _encode_date(encoder: _Encoder, value: datetime.date, depth: int) -> Value:
    return {"Y": [value.year, value.month, value.day]}


def _zone(zone: datetime.tzinfo | None) -> list[int] | None:
    """A fixed offset from UTC as the parts of a timedelta."""
    if type(zone) is not datetime.timezone:
        return None
    offset = zone.utcoffset(None)
    return [offset.days, offset.seconds, offset.microseconds]


def _encode_datetime(encoder: _Encoder, value: datetime.datetime, depth: int) -> Value:
    zone = _zone(value.tzinfo)
    if value.tzinfo is not None and zone is None:
        return _opaque(value)
    day = [value.year, value.month, value.day]
    clock = [value.hour, value.minute, value.second, value.microsecond]
    return {"T": [*day, *clock, *(zone or ())]}


def _encode_time(encoder: _Encoder, value: datetime.time, depth: int) -> Value:
    zone = _zone(value.tzinfo)
    if value.tzinfo is not None and zone is None:
        return _opaque(value)
    return {"M": [value.hour, value.minute, value.second, value.microsecond, *(zone or ())]}


def _encode_timedelta(encoder: _Encoder, value: datetime.timedelta, depth: int) -> Value:
    return {"E": [value.days, value.seconds, value.microseconds]}


def _encode_type(encoder: _Encoder, value: type, depth: int) -> Value:
    return {"y": _TYPE_NAMES[value]} if value in _TYPE_NAMES else _opaque(value)


def _encode_singleton(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"e": next(name for name, known in SINGLETONS.items() if known is value)}


def _encode_chain(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"H": _pairs(encoder, dict(value).items(), depth)}


def _encode_user_dict(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"U": _pairs(encoder, dict(value).items(), depth)}


def _encode_user_list(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"l": encoder.many(value.data, depth)}


def _encode_user_string(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"W": [encoder.encode(value.data, depth + 1)]}


def _encode_proxy(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"x": _pairs(encoder, dict(value).items(), depth)}


def _encode_array(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"a": [value.typecode, *encoder.many(value, depth)]}


def _encode_uuid(encoder: _Encoder, value: Value, depth: int) -> Value:
    return {"u": value.hex}


def _encode_path(encoder: _Encoder, value: Value, depth: int) -> Value:
    text = str(value)
    encoder.spend(len(text))
    return {"P": text}


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
_BY_NAME: dict[tuple[str, str], Callable[[_Encoder, Value, int], Value]] = {
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
_WITH_DIGEST: tuple[Any, ...] = (
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


def _large(value: Value) -> Value:
    """What can be said of a value that is too large: type, base, length and digest; else it is opaque."""
    for base in _WITH_DIGEST:
        if isinstance(value, base) and type(value).__eq__ is base.__eq__:
            length = None if base is int else base.__len__(value)
            about = [base.__name__, length, digest(value)]
            return {"L": [_type_name(value), *about, _bases(value)]}
    kind = type(value)
    is_ours = kind in _ENCODERS or (kind.__module__, kind.__name__) in _BY_NAME
    if is_ours and hasattr(kind, "__len__"):
        return {"L": [_type_name(value), "", len(value), None, _bases(value)]}
    return {"o": [_type_name(value), "<too large to compare>", _truth(value), False, _bases(value)]}


def digest(value: Value) -> str | None:
    """Return a hash that equal values share, whatever the interpreter; None where there is none.

    It covers numbers, text, bytes and their lists, tuples, deques, sets and dicts.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _ENCODING_DEPTH))
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


_SEQUENCES: tuple[tuple[Any, bytes], ...] = ((list, b"L"), (tuple, b"T"), (deque, b"Q"))


def _items(value: Value) -> tuple[list[Value], bool] | None:
    """Items of an iterator or iterable and whether these are all; None where there are none."""
    try:
        iterator = iter(value)
    except TypeError:
        return None
    items: list[Value] = []
    for item in iterator:
        if len(items) == MAX_NODES // 2:
            return items, False
        items.append(item)
    return items, True


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
