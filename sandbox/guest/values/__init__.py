"""Writes Python values as tagged JSON: exact types, bounded size, nothing that runs when it is read.

The child encodes what a call returned, the host decodes it (sandbox/judge/decode.py). A value of a type that is
not listed here is opaque: it carries its type's name, a bounded repr, its truth, and whether it compares by
identity, so that it equals nothing, or by rules of its own, so that nobody outside can compare it. A subclass
of a built-in type travels as the built-in unless it brings its own `__eq__`: what it says of itself does not
count, what it contains does. What is too large to travel is represented by its length and a digest.
"""

from __future__ import annotations

import binascii
import json
import sys
import zlib

from sandbox.guest.values.encoders import (
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_NODES,
    MAX_TEXT,
    SINGLETONS,
    STACK_DEPTH,
    Encoder,
    TooLarge,
    encoder_of,
)
from sandbox.guest.values.facts import (
    BUILTIN_TYPES,
    MAX_REPR,
    Value,
    bounded_repr,
    own_in,
    type_name,
)
from sandbox.guest.values.large import WITH_DIGEST, digest, large

__all__ = [
    "BUILTIN_TYPES",
    "MAX_DEPTH",
    "MAX_EXPONENT",
    "MAX_JSON",
    "MAX_NODES",
    "MAX_REPR",
    "MAX_TEXT",
    "SINGLETONS",
    "WITH_DIGEST",
    "Value",
    "digest",
    "encode",
    "type_name",
    "write",
]

MAX_PLAIN = 32_768
"""Characters of one value's JSON; longer ones are compressed."""
MAX_JSON = 16 << 20
"""Characters of one value's JSON before compression."""
_dump_json = json.JSONEncoder(separators=(",", ":")).encode


def write(value: object, *, iterate: bool = False, room: int = MAX_JSON) -> str:
    """Return the JSON of a value within `room` characters, compressed where it is long.

    A value that does not fit is represented by what can be said of it (see `encode`).
    """
    text = _dump_json(encode(value, iterate=iterate))
    if len(text) > MAX_PLAIN:
        packed = binascii.b2a_base64(zlib.compress(text.encode(), 1), newline=False)
        text = _dump_json({"Z": packed.decode()})
    if len(text) > room:
        text = _dump_json(large(value))
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
    sys.setrecursionlimit(max(limit, STACK_DEPTH))
    try:
        # The order of a set is that of the interpreter that built it, so it travels as items, too.
        if iterate and (type(value) in (set, frozenset) or encoder_of(value) is None):
            items = _items(value)
            if items is not None:
                shipped, whole = items
                encoded = Encoder().many(shipped, 0)
                return {"g": [type_name(value), bounded_repr(value), encoded, whole, own_in(value)]}
        return Encoder().encode(value, 0)
    except (TooLarge, RecursionError):
        return large(value)
    finally:
        sys.setrecursionlimit(limit)


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
