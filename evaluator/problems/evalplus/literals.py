"""Writes a value as Python source that an assert can hold. Stands alone: its text is sent into the sandbox as well."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_CHARS = 50_000
"""Of one value: whoever judges an assert must read it first."""
MAX_BRACKETS = 60
"""Open at one place: Python's own parser ends at 200, and taking an assert apart needs several frames for each."""
_MAX_DECIMAL_BITS = 14_000
"""Of a whole number in decimal digits: Python reads at most 4300 of them."""


class NoLiteral(Exception):
    """No source gives an equal value; the text says what a value must be."""


def literal(value: object) -> str:
    """Return source that evaluates to an equal value; a subclass that brings no own equality is written as its base.

    Raises:
        NoLiteral: there is none, or it would be too long.
    """
    text = _Writer().write(value, 0)
    if len(text) > MAX_CHARS:
        raise NoLiteral(f"at most {MAX_CHARS} characters long, got {len(text)}")
    return text


class _Writer:
    """Counts what one value takes, so that a huge one is given up early."""

    def __init__(self) -> None:
        self._left = MAX_CHARS

    def write(self, value: Any, n_open: int) -> str:  # noqa: ANN401 - any value
        self._left -= 1
        if self._left < 0:
            raise NoLiteral(f"at most {MAX_CHARS} characters long, got more")
        if n_open > MAX_BRACKETS:
            raise NoLiteral(f"nested at most {MAX_BRACKETS} deep, got more")
        if value is None or value is True or value is False:
            return repr(value)
        for kind, written in _KINDS:
            if isinstance(value, kind) and type(value).__eq__ is kind.__eq__:
                return written(self, value, n_open)
        raise NoLiteral(f"plain data, got {type(value).__name__}")

    def items(self, values: Iterable[Any], n_open: int) -> list[str]:
        return [self.write(value, n_open + 1) for value in values]

    def pairs(self, items: Iterable[tuple[Any, Any]], n_open: int) -> list[tuple[str, str]]:
        return [(self.write(key, n_open + 1), self.write(item, n_open + 1)) for key, item in items]


def _int(_: _Writer, value: int, n_open: int) -> str:
    value = int.__index__(value)
    return int.__repr__(value) if value.bit_length() < _MAX_DECIMAL_BITS else hex(value)


def _float(_: _Writer, value: float, n_open: int) -> str:
    if math.isnan(value):
        raise NoLiteral("equal to itself, got NaN")
    return float.__repr__(value) if math.isfinite(value) else f"float('{value:+f}')"


def _complex(writer: _Writer, value: complex, n_open: int) -> str:
    return f"complex({', '.join(writer.items((value.real, value.imag), n_open))})"


def _str(_: _Writer, value: str, n_open: int) -> str:
    if len(value) > MAX_CHARS:
        raise NoLiteral(f"at most {MAX_CHARS} characters long, got {len(value)}")
    return str.__repr__(value)


def _tuple(writer: _Writer, value: tuple[Any, ...], n_open: int) -> str:
    parts = writer.items(tuple.__iter__(value), n_open)
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def _set(writer: _Writer, value: set[Any], n_open: int) -> str:
    # Sorted: the order of a set is that of the interpreter that built it.
    parts = sorted(writer.items(set.__iter__(value), n_open))
    return f"{{{', '.join(parts)}}}" if parts else "set()"


def _frozenset(writer: _Writer, value: frozenset[Any], n_open: int) -> str:
    return f"frozenset([{', '.join(sorted(writer.items(value, n_open + 1)))}])"


def _dict(writer: _Writer, value: dict[Any, Any], n_open: int) -> str:
    pairs = writer.pairs(dict.items(value), n_open)
    return f"{{{', '.join(f'{key}: {item}' for key, item in pairs)}}}"


def _ordered(writer: _Writer, value: OrderedDict[Any, Any], n_open: int) -> str:
    pairs = writer.pairs(OrderedDict.items(value), n_open + 2)
    return f"OrderedDict([{', '.join(f'({key}, {item})' for key, item in pairs)}])"


def _decimal(_: _Writer, value: Decimal, n_open: int) -> str:
    if value.is_nan():
        raise NoLiteral("equal to itself, got NaN")
    return f"Decimal('{value}')"


_KINDS: tuple[tuple[Any, Callable[[_Writer, Any, int], str]], ...] = (
    (int, _int),
    (float, _float),
    (str, _str),
    (list, lambda writer, value, n: f"[{', '.join(writer.items(list.__iter__(value), n))}]"),
    (tuple, _tuple),
    (OrderedDict, _ordered),
    (Counter, lambda writer, value, n: f"Counter({_dict(writer, value, n + 1)})"),
    (dict, _dict),
    (set, _set),
    (frozenset, _frozenset),
    (complex, _complex),
    (bytes, lambda _, value, n: repr(value)),
    (deque, lambda writer, value, n: f"deque([{', '.join(writer.items(value, n + 1))}])"),
    (range, lambda writer, value, n: f"range({value.start}, {value.stop}, {value.step})"),
    (Decimal, _decimal),
    (Fraction, lambda writer, value, n: f"Fraction({value.numerator}, {value.denominator})"),
)
"""Types that an assert can name -> what writes one; of two that fit the first counts."""
