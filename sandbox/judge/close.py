"""When two values are close enough: the rule of numpy's allclose on plain values, without numpy."""

from __future__ import annotations

import math

from sandbox.guest.values import Value

REL_TOL = 1e-7
"""Share of the expected number that may always be missing."""
_NUMBERS = (int, float, complex)
_TOO_WIDE = 1 << 64
"""Whole numbers from here on are no numbers to numpy."""


def close(got: Value, expected: Value, abs_tol: float) -> bool:
    """Return whether a value equals another, or is of its type and close to it in every number.

    Lists and tuples of numbers must have one shape; NaN is close to nothing. What is no number must be equal in all.

    Args:
        got: what came back.
        expected: what is asked for.
        abs_tol: each number may differ by so much, and `REL_TOL` of the expected one.

    Raises:
        Unjudged: the value cannot be compared here.

    Source: numpy.allclose, as evalplus compares results (evalplus/eval/__init__.py).
    """
    if got == expected:
        return True
    return (
        type(got) is type(expected)
        and _shape(got) == _shape(expected) is not None
        and _near(got, expected, abs_tol)
    )


def _near(got: Value, expected: Value, abs_tol: float) -> bool:
    """Whether the numbers of two values of one shape are close."""
    if isinstance(expected, list | tuple):
        return all(_near(mine, other, abs_tol) for mine, other in zip(got, expected, strict=True))
    if isinstance(got, complex) or isinstance(expected, complex):
        mine, wanted = complex(got), complex(expected)
        if not all(map(math.isfinite, (mine.real, mine.imag, wanted.real, wanted.imag))):
            return mine == wanted
        return abs(mine - wanted) <= abs_tol + REL_TOL * abs(wanted)
    number, other = float(got), float(expected)
    if not (math.isfinite(number) and math.isfinite(other)):
        return number == other
    return abs(number - other) <= abs_tol + REL_TOL * abs(other)


def _shape(value: Value) -> tuple[int, ...] | None:
    """Lengths of a value by level, () of a number; None of what is no array of numbers."""
    if isinstance(value, list | tuple):
        shapes = {_shape(item) for item in value}
        if len(shapes) > 1 or None in shapes:
            return None
        return (len(value), *(shapes.pop() or () if shapes else ()))
    if isinstance(value, _NUMBERS):
        return None if isinstance(value, int) and abs(value) >= _TOO_WIDE else ()
    return None
