"""When a result is right, by evalplus' rules, as asserts: equal, close in every float, and a few tasks' own.

Source: evalplus/eval/__init__.py, `unsafe_execute`, and evalplus/eval/_special_oracle.py (release 0.3.1).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.problems.evalplus.literals import literal

FLOAT_TOLERANCE = 1e-6
"""Where a row gives none and a float is expected."""

_AS_SETS = frozenset(
    "similar_elements find_char_long common_in_nested_lists extract_singly larg_nnum intersection_array"
    " find_dissimilar Diff".split()
)
"""Tasks of MBPP whose result is compared as a set."""
AS_FOUND = {"check_str", "text_match_three", "text_starta_endb"}
"""Tasks of MBPP of which only counts whether something was found: a result is None, or it is not."""


@dataclass(frozen=True)
class Expected:
    """One call, and what the canonical solution returned."""

    arguments: Sequence[Any]
    value: str
    """Source of it."""
    floats: bool
    """Whether it is a float, or a list or tuple of nothing else."""


def asserts_of(
    function: str, calls: Iterable[Expected], *, tolerance: float, family: str
) -> list[str]:
    """Return an assert for each call of one group, base or plus, in order.

    The row's tolerance is absolute, 0 for none; the one that a first float brings stays for the calls after it. The
    family is `mbpp`, `humaneval`, or empty for a row of neither, which has no special rule.

    Raises:
        NoLiteral: an argument has no source.
    """
    asserts = []
    by_root = family == "humaneval" and function == "find_zero"
    for call in calls:
        if tolerance == 0 and call.floats and not by_root:
            tolerance = FLOAT_TOLERANCE
        given = f"{function}({', '.join(map(literal, call.arguments))})"
        asserts.append("assert " + _condition(function, given, call, tolerance, family))
    return asserts


def _condition(function: str, given: str, call: Expected, tolerance: float, family: str) -> str:
    if family == "humaneval" and function == "find_zero":
        return _of_result(
            f"abs(sum(factor * math.pow(out, power) for power, factor in "
            f"enumerate({literal(call.arguments[0])}))) <= {tolerance!r}",
            given,
        )
    if family == "mbpp":
        if function in AS_FOUND:
            found = call.value == "True"
            kind = "not None and out is not False" if found else "None or out is False"
            return _of_result(f"out is {kind}", given)
        if function in _AS_SETS:
            return _equal(f"set(@) == set({call.value})", given, call, tolerance)
        others = [literal(value) for value in _other_answers(function, call.arguments)]
        if others:
            return _equal(f"@ in ({', '.join([call.value, *others])})", given, call, tolerance)
    if tolerance:
        return f"judge.close({given}, {call.value}, {tolerance!r})"
    return f"{given} == {call.value}"


def _equal(condition: str, given: str, call: Expected, tolerance: float) -> str:
    """A condition of the result `@`, or closeness where there is a tolerance."""
    if not tolerance:
        return condition.replace("@", given, 1)
    close = f"judge.close(out, {call.value}, {tolerance!r})"
    return _of_result(f"{condition.replace('@', 'out', 1)} or {close}", given)


def _of_result(condition: str, given: str) -> str:
    """A condition that names the result more than once, of one call."""
    return f"(lambda out: {condition})({given})"


def _other_answers(function: str, arguments: Sequence[Any]) -> Iterator[Any]:
    """Results that evalplus accepts beside the canonical one: the task can be read in two ways."""
    # Where the other reading has no value for these arguments, only the canonical one counts.
    with contextlib.suppress(TypeError, ValueError, ArithmeticError):
        if function == "sum_div":
            yield 0
        elif function == "surface_Area":
            base, height = arguments
            slant = math.sqrt((base / 2) ** 2 + height**2)
            yield round(base**2 + 2 * base * slant)
        elif function == "digit_distance_nums":
            first, second = map(str, arguments)
            width = max(len(first), len(second))
            digits = zip(first.zfill(width), second.zfill(width), strict=True)
            yield sum(abs(int(mine) - int(other)) for mine, other in digits)
