"""Names columns and values in words, for people: in tooltips and in tables of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = {
    "pass_at_1": "pass@1",
    "pass_at_k": "pass@k",
    "k": "k",
    "n": "n",
    "counts": "solved",
    "reward_mean": "mean reward",
    "flat_fraction": "groups of equal rewards",
    "fraction": "share",
    "solved_fraction": "solved",
    "seconds_mean": "mean seconds a step",
    "wall_ms": "milliseconds",
    "delta": "difference",
    "threshold": "allowed",
    "task_id": "task",
    "task_ids": "tasks",
    "teacher_kind": "teacher shown",
    "n_completions": "completions",
    "n_groups": "groups",
    "n_problems": "problems",
    "n_samples": "completions a problem",
    "n_solved": "of these solved",
    "n_steps": "steps",
    "n_runs": "runs",
    "student_logprob": "student's log p",
    "teacher_logprob": "teacher's log p",
    "interval_low": "95 % from",
    "interval_high": "95 % to",
}
_FRACTIONS = {"pass_at_1", "pass_at_k", "flat_fraction", "fraction", "solved_fraction"}
"""Fractions that people read in percent; an interval beside one of them, too."""
_PLAIN = {"name", "algorithm", "quantity", "unit", "outcome", "change", "phase", "layer", "shown"}
"""Values that say themselves what they are."""
_NUMBERS_OF = {"task_id", "seed"}
"""Numbers that are names."""
_INTERVAL = ("interval_low", "interval_high")


def word(column: str) -> str:
    """A column's name in words."""
    return _WORDS.get(column, column.replace("_", " "))


def value(row: Mapping[str, Any], column: str) -> str:
    """A row's value as people read it: fractions in percent, other numbers to four digits."""
    found = row[column]
    if found is None:
        return ""
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or column in _NUMBERS_OF or not math.isfinite(found):
        return str(found)
    if column in _FRACTIONS or (column in _INTERVAL and not _FRACTIONS.isdisjoint(row)):
        return percent(found, unit=" %")
    return f"{found:,}" if isinstance(found, int) else short(found)


def percent(rate: float, *, decimals: int = 1, unit: str = "%") -> str:
    """A rate in percent, with as many more decimals as it takes that some is not shown as none or as all."""
    exact = min(abs(rate), abs(1 - rate)) < 1e-9  # but for what sums of floats leave
    while True:
        shown = f"{100 * rate:.{decimals}f}"
        if exact or float(shown) not in (0.0, 100.0):
            return shown + unit
        decimals += 1


def short(number: float) -> str:
    """A number to four digits; to more where it would be shown as 1 and is less."""
    shown = f"{number:.4g}"
    return f"{number:.12g}" if shown in ("1", "-1") and abs(number) < 1 else shown


def said(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Who a row is of, then its columns, each with its name, then the interval where it has one.

    Columns that the row lacks, or that are NULL, are left out.
    """
    who = [str(row["name"])] if row.get("name") else _who(row)
    parts = [
        value(row, column) if column in _PLAIN else f"{word(column)} {value(row, column)}"
        for column in columns
        if row.get(column) is not None
    ]
    if all(row.get(end) is not None for end in _INTERVAL):
        low, high = (value(row, end) for end in _INTERVAL)
        parts.append(f"95 % interval {low.removesuffix(' %')} to {high}")
    return " · ".join([*who, *parts])


def _who(row: Mapping[str, Any]) -> list[str]:
    """Algorithm and seed, where the row has no name."""
    found = [str(row["algorithm"])] if row.get("algorithm") else []
    if row.get("seed") is not None:
        several = "," in str(row["seed"])
        found.append(f"{'seeds' if several else 'seed'} {row['seed']}")
    return found
