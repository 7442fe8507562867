"""Reads tagged JSON of hostile origin back into Python values.

What it builds are values of the types of the library and nothing else: no code of the program's is here, so
comparing them runs none. What did not travel becomes an `Opaque`, and whoever asks it what it cannot answer
gets `Unjudged`: no verdict rests on a value that is not here.
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
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from sandbox.guest.protocol import ProtocolError
from sandbox.guest.values import (
    BUILTIN_TYPES,
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_JSON,
    MAX_NODES,
    SINGLETONS,
    Value,
    digest,
)

MAX_CHEAP_RANGE = 1000
MAX_CHEAP_BITS = 4096
"""Of the ends of a range, and of the parts of a Fraction, that are used where no limit runs."""


class Unjudged(Exception):
    """The value is not here, or costs too much: its assert has no verdict; the text says why."""


class TooDeep(ProtocolError):
    """JSON that nests deeper than the stack that is left here."""


class Costly(Exception):
    """The value is small to ship and large to use: not to be had where no limit runs."""


def _refuse(self: Opaque, *_: object) -> NoReturn:
    raise Unjudged(f"a value of type {self.type_name} cannot be used outside the program")


class Opaque:
    """A value that did not travel; compared by identity, it equals nothing, itself included."""

    def __init__(self, type_name: str, text: str, truth: bool, by_identity: bool = True) -> None:
        self.type_name = type_name
        self.text = text
        self.truth = truth
        self.by_identity = by_identity

    def __eq__(self, other: object) -> bool:
        if self.by_identity:
            return False
        raise Unjudged(
            f"a value of type {self.type_name}, which has its own ==, cannot be compared"
        )

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self.truth

    def __repr__(self) -> str:
        return self.text


_REFUSED = """
    len iter contains getitem reversed str format int float complex index round floor ceil trunc abs neg
    pos invert lt le gt ge add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod
    pow rpow lshift rlshift rshift rrshift and rand or ror xor rxor matmul rmatmul call
"""
for _name in _REFUSED.split():
    setattr(Opaque, f"__{_name}__", _refuse)


class Iterated(Opaque):
    """An iterable's items, shipped because the assert iterates over them; equals nothing."""

    def __init__(self, type_name: str, text: str, items: list[Value], whole: bool) -> None:
        super().__init__(type_name, text, True)
        self.items = items
        self.whole = whole
        """Whether the iterable ended after these."""

    def __iter__(self) -> Iterator[Value]:
        yield from self.items
        if not self.whole:
            raise Unjudged(f"only {len(self.items)} values of the {self.type_name} were looked at")

    def __len__(self) -> int:
        # Not Unjudged: Python asks every iterable for a hint, and takes this for an answer.
        raise TypeError(f"object of type '{self.type_name}' has no len()")

    def __index__(self) -> int:
        # Nor this: bytes() asks for it before it iterates.
        raise TypeError(f"'{self.type_name}' object cannot be interpreted as an integer")

    def __contains__(self, item: Value) -> bool:
        if self.type_name in ("set", "frozenset"):
            return item in set(self)
        return any(item is own or item == own for own in self)


class Large(Opaque):
    """A value that is too large to travel: it knows its length, and by its digest what it equals."""

    def __init__(self, type_name: str, base: str, length: int | None, digest: str | None) -> None:
        size = "" if length is None else f" of length {length}"
        super().__init__(type_name, f"<{type_name}{size}, too large to ship>", True)
        self.base = _ALIKE.get(base, base)
        self.length = length
        self.digest = digest

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"object of type '{self.type_name}' has no len()")
        return self.length

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Large):
            theirs, length, same = other.base, other.length, other.digest
        else:
            kind: Any = next((t for t in _SIZED if isinstance(other, t)), None)
            if kind is None:
                return False
            theirs = _ALIKE.get(kind.__name__, kind.__name__)
            length = None if kind is int else len(other)  # type: ignore[arg-type]
            same = digest(other) if (theirs, length) == (self.base, self.length) else None
        if (theirs, length) != (self.base, self.length):
            return False
        if self.digest is None or same is None:
            raise Unjudged(f"a {self.type_name} is too large to compare")
        return self.digest == same

    __hash__ = object.__hash__


_SIZED = (list, tuple, dict, set, frozenset, str, bytes, bytearray, deque, int)
_ALIKE = {"frozenset": "set", "bytearray": "bytes"}


def _named(base: type[Opaque], name: str) -> type[Opaque]:
    """The class under the name of the program's, so that an operator's complaint names that."""
    return type(name, (base,), {}) if name.isidentifier() else base


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
    except (ValueError, TypeError, KeyError, ArithmeticError, zlib.error) as error:
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
            value = build([self.decode(item, depth + 1) for item in _list(content)])
            if self.cheap and not _is_cheap(value):
                raise Costly
            return value
        if tag == "g":
            name, text, items, whole = content
            shipped = [self.decode(item, depth + 1) for item in _list(items)]
            cls: Any = _named(Iterated, _str(name))
            return cls(name, _str(text), shipped, whole is True)
        if tag == "Z" and depth == 0:
            if self.cheap:
                raise Costly
            return self.decode(_unpacked(_str(content)), depth + 1)
        raise ProtocolError(f"a value must have a known tag, got {str(tag)[:20]!r}")


def _is_cheap(value: Value) -> bool:
    if type(value) is range:
        return abs(value.stop - value.start) <= MAX_CHEAP_RANGE
    if type(value) is fractions.Fraction:
        return max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_CHEAP_BITS
    return True


def _unpacked(text: str) -> Value:
    packed = zlib.decompressobj()
    data = packed.decompress(binascii.a2b_base64(text), MAX_JSON)
    if not packed.eof:
        raise ProtocolError(f"a value's JSON must fit {MAX_JSON} bytes")
    return read_json(data)


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


def _datetime(content: Value) -> datetime.datetime:
    parts = _ints(content, 7, 10)
    return datetime.datetime(*parts[:7], tzinfo=_zone(parts[7:]))  # type: ignore[arg-type,misc]


def _time(content: Value) -> datetime.time:
    parts = _ints(content, 4, 7)
    return datetime.time(*parts[:4], tzinfo=_zone(parts[4:]))  # type: ignore[arg-type,misc]


def _zone(offset: list[int]) -> datetime.timezone | None:
    return datetime.timezone(datetime.timedelta(*offset)) if offset else None


def _opaque(content: Value) -> Opaque:
    name, text, truth, by_identity = _list(content)
    cls = _named(Opaque, _str(name))
    return cls(name, _str(text), truth is True, by_identity is True)


def _large(content: Value) -> Large:
    name, base, length, digest = _list(content)
    if not (length is None or type(length) is int and 0 <= length < 1 << 62):
        raise ProtocolError(f"a length must be a whole number, got {str(length)[:80]!r}")
    cls: Any = _named(Large, _str(name))
    large: Large = cls(name, _str(base), length, None if digest is None else _str(digest))
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


def _array(items: list[Value]) -> array.array[Any]:
    return array.array(_str(items[0]), items[1:])


def _user_string(items: list[Value]) -> UserString:
    (text,) = items
    return UserString(_str(text))


_SCALARS: dict[Value, Callable[[Value], Value]] = {
    "i": lambda text: int(_str(text), 16),
    "f": lambda text: float.fromhex(_str(text)),
    "c": _floats,
    "b": lambda text: bytes.fromhex(_str(text)),
    "B": lambda text: bytearray.fromhex(_str(text)),
    "v": lambda text: memoryview(bytes.fromhex(_str(text))),
    "D": _decimal,
    "Y": lambda parts: datetime.date(*_ints(parts, 3)),
    "T": _datetime,
    "M": _time,
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
    "r": lambda items: range(*_three(items)),
    "S": lambda items: slice(*_three(items)),
    "K": lambda items: dict.fromkeys(items).keys(),
    "V": lambda items: dict(enumerate(items)).values(),
    "I": lambda items: _dict(items).items(),
    "F": _fraction,
    "H": lambda items: ChainMap(_dict(items)),
    "U": lambda items: UserDict(_dict(items)),
    "l": UserList,
    "W": _user_string,
    "x": lambda items: types.MappingProxyType(_dict(items)),
    "a": _array,
}
