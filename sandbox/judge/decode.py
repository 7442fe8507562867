"""Reads tagged JSON of hostile origin back into Python values.

What it builds are values of the types of the library and nothing else: no code of the program's is here, so
comparing them runs none. What did not travel becomes an `Opaque`.
"""

from __future__ import annotations

import array
import binascii
import datetime
import decimal
import fractions
import json
import pathlib
import types
import uuid
import zlib
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Callable
from typing import Any

from sandbox.guest.protocol import ProtocolError
from sandbox.guest.values import (
    BUILTIN_TYPES,
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_JSON,
    MAX_NODES,
    SINGLETONS,
    Value,
)
from sandbox.judge.opaque import Iterated, Large, Opaque, Unjudged, let_be_keys, named

MAX_CHEAP_RANGE = 1000
MAX_CHEAP_BITS = 4096
"""Of the ends of a range, and of the parts of a Fraction, that are used where no limit runs."""


class TooDeep(ProtocolError):
    """JSON that nests deeper than the stack that is left here."""


class Costly(Exception):
    """The value is small to ship and large to use: not to be had where no limit runs."""


def decode(document: Value, *, cheap: bool = False) -> Value:
    """Return the value that `encode` was given, from parsed JSON of hostile origin.

    Args:
        document: the parsed JSON.
        cheap: refuse what costs more to use than its size says.

    Raises:
        ProtocolError: an unknown tag, a wrong shape, or more than the bounds allow.
        Costly: only where cheap is set.
    """
    try:
        return _Decoder(cheap).decode(document, 0)
    except (ProtocolError, RecursionError):
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, zlib.error) as error:
        raise ProtocolError(f"a value must have the tagged form: {error}") from error


def read_json(text: str | bytes) -> Value:
    """Parse JSON in which no number is infinite.

    Raises:
        ProtocolError: no JSON.
    """
    try:
        return _JSON.decode(
            text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")
        )
    except ValueError as error:
        raise ProtocolError(f"a line must be JSON: {error}") from error
    except RecursionError as error:
        raise TooDeep("a line must nest less than this process can follow") from error


def _no_constant(constant: str) -> Value:
    raise ProtocolError(f"a number must be finite, got {constant}")


_JSON = json.JSONDecoder(parse_constant=_no_constant)
"""Made once: `json.loads` makes one for each line."""


class _Decoder:
    """Counts what one value may use up."""

    def __init__(self, cheap: bool) -> None:
        self.left = MAX_NODES * 2
        self.cheap = cheap

    def decode(self, document: Value, depth: int) -> Value:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH + 2:
            raise ProtocolError("a value must fit the bounds on nodes and depth")
        kind = type(document)
        if document is None or kind is int or kind is str or kind is bool or kind is float:
            return document
        if kind is list:
            return [self.decode(item, depth + 1) for item in document]
        if kind is not dict or len(document) != 1:
            raise ProtocolError(f"a value must have one tag, got {str(document)[:80]!r}")
        ((tag, content),) = document.items()
        scalar = _SCALARS.get(tag)
        if scalar is not None:
            return scalar(content)
        build = _CONTAINERS.get(tag)
        if build is not None:
            parts = [self.decode(item, depth + 1) for item in _list(content)]
            try:
                value = build(parts)
            except Unjudged:
                value = build(let_be_keys(parts))
            if self.cheap and not _is_cheap(value):
                raise Costly
            return value
        if tag == "g":
            name, text, items, whole, own_in = _list(content)
            shipped = [self.decode(item, depth + 1) for item in _list(items)]
            cls: Any = named(Iterated, _str(name))
            return cls(name, _str(text), shipped, whole is True, own_in is True)
        if tag == "Z" and depth == 0:
            if self.cheap:
                raise Costly
            return self.decode(read_json(_inflated(_str(content))), depth + 1)
        raise ProtocolError(f"a value must have a known tag, got {str(tag)[:20]!r}")


def _is_cheap(value: Value) -> bool:
    if type(value) is range:
        return abs(value.stop - value.start) <= MAX_CHEAP_RANGE
    if type(value) is fractions.Fraction:
        return max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_CHEAP_BITS
    return True


def text_of(document: Value) -> str | None:
    """Return the text that a document stands for, None for one that did not fit; costs what its length says.

    Raises:
        ProtocolError: it stands for something else.
    """
    match document:
        case str():
            return document
        case {"Z": str(packed)} if len(document) == 1:
            try:
                data = _inflated(packed)
            except (ValueError, zlib.error) as error:
                raise ProtocolError(f"a text must be as it was packed: {error}") from error
            # Only a text is parsed: other JSON takes a hundred times its length.
            if data[:1] == b'"' and isinstance(text := read_json(data), str):
                return text
        case {"L": _} | {"o": _} if len(document) == 1:
            return None
    raise ProtocolError(f"a text must be one, got {str(document)[:80]!r}")


def _inflated(text: str) -> bytes:
    packed = zlib.decompressobj()
    data = packed.decompress(binascii.a2b_base64(text), MAX_JSON)
    if not packed.eof:
        raise ProtocolError(f"a value's JSON must fit {MAX_JSON} bytes")
    return data


def _str(value: Value) -> str:
    if type(value) is not str:
        raise ProtocolError(f"text must be text, got {type(value).__name__}")
    return value


def _list(value: Value) -> list[Value]:
    if type(value) is not list:
        raise ProtocolError(f"items must be a list, got {type(value).__name__}")
    return value


def _ints(value: Value, *lengths: int) -> list[int]:
    if len(_list(value)) not in lengths or any(type(part) is not int for part in value):
        raise ProtocolError(f"{lengths} whole numbers are needed, got {str(value)[:80]!r}")
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


def _with_zone(kind: Callable[..., Value], n_parts: int, content: Value) -> Value:
    """A date and time, or a time, which an offset from UTC in three parts may follow."""
    parts = _ints(content, n_parts, n_parts + 3)
    offset = parts[n_parts:]
    zone = datetime.timezone(datetime.timedelta(*offset)) if offset else None
    return kind(*parts[:n_parts], tzinfo=zone)


def _opaque(content: Value) -> Opaque:
    name, text, truth, by_identity, bases = _list(content)
    cls = named(Opaque, _str(name))
    known = truth if isinstance(truth, bool) else None
    return cls(name, _str(text), known, by_identity is True, _types(bases))


def _types(names: Value) -> tuple[type, ...] | None:
    return None if names is None else tuple(BUILTIN_TYPES[_str(name)] for name in _list(names))


def _large(content: Value) -> Large:
    name, base, length, digest, bases = _list(content)
    if not (length is None or type(length) is int and 0 <= length < 1 << 62):
        raise ProtocolError(f"a length must be a whole number, got {str(length)[:80]!r}")
    cls: Any = named(Large, _str(name))
    same = None if digest is None else _str(digest)
    large: Large = cls(name, _str(base), length, same, _types(bases))
    return large


def _dict(items: list[Value]) -> dict[Value, Value]:
    if len(items) % 2:
        raise ProtocolError("a dict must have as many values as keys")
    return dict(zip(items[::2], items[1::2], strict=True))


def _three(items: list[Value]) -> tuple[Value, Value, Value]:
    start, stop, step = items
    return start, stop, step


def _fraction(items: list[Value]) -> fractions.Fraction:
    """Build a Fraction without its greatest common divisor, which takes quadratic time.

    The guest ships one in lowest terms; one that is not equals nothing.
    """
    numerator, denominator = items
    if type(numerator) is not int or type(denominator) is not int or denominator <= 0:
        raise ProtocolError("a Fraction must be of whole numbers, the lower one positive")
    value: Any = object.__new__(fractions.Fraction)
    value._numerator, value._denominator = numerator, denominator
    return value  # type: ignore[no-any-return]


def _bounded_deque(items: list[Value]) -> deque[Value]:
    maxlen, *rest = items
    if type(maxlen) is not int or maxlen < len(rest):
        raise ProtocolError(f"a deque must fit its maxlen, got {str(maxlen)[:80]!r}")
    return deque(rest, maxlen)


_SCALARS: dict[Value, Callable[[Value], Value]] = {
    "i": lambda text: int(_str(text), 16),
    "f": lambda text: float.fromhex(_str(text)),
    "c": _floats,
    "b": lambda text: bytes.fromhex(_str(text)),
    "B": lambda text: bytearray.fromhex(_str(text)),
    "v": lambda text: memoryview(bytes.fromhex(_str(text))),
    "D": _decimal,
    "Y": lambda parts: datetime.date(*_ints(parts, 3)),
    "T": lambda parts: _with_zone(datetime.datetime, 7, parts),
    "M": lambda parts: _with_zone(datetime.time, 4, parts),
    "E": lambda parts: datetime.timedelta(*_ints(parts, 3)),
    "y": lambda name: BUILTIN_TYPES[_str(name)],
    "e": lambda name: SINGLETONS[_str(name)],
    "u": lambda text: uuid.UUID(hex=_str(text)),
    "P": lambda text: pathlib.PurePosixPath(_str(text)),
    "o": _opaque,
    "L": _large,
}
_CONTAINERS: dict[Value, Callable[[list[Value]], Value]] = {
    "t": tuple,
    "s": set,
    "z": frozenset,
    "d": _dict,
    "C": lambda items: Counter(_dict(items)),
    "O": lambda items: OrderedDict(_dict(items)),
    "q": deque,
    "Q": _bounded_deque,
    "r": lambda items: range(*_three(items)),
    "S": lambda items: slice(*_three(items)),
    "K": lambda items: dict.fromkeys(items).keys(),
    "V": lambda items: dict(enumerate(items)).values(),
    "I": lambda items: _dict(items).items(),
    "F": _fraction,
    "H": lambda items: ChainMap(_dict(items)),
    "U": lambda items: UserDict(_dict(items)),
    "l": UserList,
    "W": lambda items: UserString(_str(*items)),
    "x": lambda items: types.MappingProxyType(_dict(items)),
    "a": lambda items: array.array(_str(items[0]), items[1:]),
}
