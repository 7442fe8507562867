"""Compares what a program printed with what it must print, line by line, by the usual rules of contests."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest

from sandbox.program import Comparison

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,6})?", re.ASCII)
_MAX_DIGITS = 400
"""Longer words are compared as text: no answer needs them as numbers."""


@dataclass(frozen=True)
class Difference:
    """The first line that differs."""

    line: int
    """From 1, of the output without what does not count."""
    expected: str | None
    """None where nothing more is expected."""
    got: str | None
    """None where nothing more was printed."""


def first_difference(output: str, expected: str, comparison: Comparison) -> Difference | None:
    """Return where an output differs from the expected one; None where it does not."""
    expected_lines = _lines(expected, comparison)
    # No more lines than can matter: a program may print millions.
    got_lines = _lines(output, comparison, at_most=len(expected_lines) + 1)
    for number, (got, wanted) in enumerate(zip_longest(got_lines, expected_lines), start=1):
        if got is None or wanted is None or not _alike(got, wanted, comparison.tolerance):
            return Difference(number, wanted, got)
    return None


def _lines(text: str, comparison: Comparison, *, at_most: int = -1) -> list[str]:
    """The lines that count, without the blanks that do not; what comes after the first `at_most` is one more."""
    text = text.replace("\r\n", "\n")
    text = text.rstrip() if comparison.indent else text.strip()
    lines = text.split("\n", at_most) if text.strip() else []
    return [line.rstrip() if comparison.indent else line.strip() for line in lines]


def _alike(got: str, wanted: str, tolerance: float | None) -> bool:
    if got == wanted:
        return True
    if tolerance is None:
        return False
    got_words, wanted_words = got.split(), wanted.split()
    return len(got_words) == len(wanted_words) and all(
        mine == theirs or _close(mine, theirs, tolerance)
        for mine, theirs in zip(got_words, wanted_words, strict=True)
    )


def _close(got: str, wanted: str, tolerance: float) -> bool:
    """Whether two words are numbers that differ by no more than is allowed."""
    if not all(len(w) <= _MAX_DIGITS and _NUMBER.fullmatch(w) for w in (got, wanted)):
        return False
    if tolerance == 0.0:
        return Decimal(got) == Decimal(wanted)
    mine, theirs = float(got), float(wanted)
    if not (math.isfinite(mine) and math.isfinite(theirs)):
        return False
    return abs(mine - theirs) <= tolerance * max(1.0, abs(theirs))
