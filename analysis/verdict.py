"""One sentence on what the evaluations show; a difference only where a test has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from analysis.render import Result

_LEAST_P = 0.05
_SETTING = ("dataset", "protocol", "decoding")


def verdict(board: Result, flips: Result) -> str:
    """Say what the evaluations show, of all seeds where two algorithms have several in common.

    Args:
        board: rows of `queries.comparison`.
        flips: rows of `queries.flips` for the same runs.
    """
    rows = board.records()
    if not rows:
        return "No evaluation has finished, so nothing can be said about pass@1."
    if not flips.rows:
        best = rows[0]
        return (
            f"{best['name']} solves {best['k']} of {best['n']} problems "
            f"({percent(best['pass_at_1'])}, 95 % interval {percent(best['interval_low'])} to "
            f"{percent(best['interval_high'])}); "
            "there is no second evaluation of the same problems to compare it with."
        )
    shown = flips.records()
    first, second = (_of_seeds(rows, shown[0], side) for side in ("algorithm_a", "algorithm"))
    common = sorted(first.keys() & second.keys())
    if shown[0]["algorithm_a"] != shown[0]["algorithm"] and len(common) > 1:
        return _over_seeds(shown[0], [first[s] for s in common], [second[s] for s in common])
    return _of_two(shown)


def percent(value: float) -> str:
    """A fraction in percent."""
    return f"{100 * value:.1f} %"


def _of_two(flips: Sequence[Mapping[str, Any]]) -> str:
    """Two evaluations, by the problems that flip."""
    changes = {row["change"]: row["n"] for row in flips}
    gained, lost = changes.get("gained", 0), changes.get("lost", 0)
    both, p_value = changes.get("solved by both", 0), flips[0]["p_value"]
    first, second = flips[0]["name_a"], flips[0]["name_b"]
    n = sum(changes.values())
    counts = (
        f"{second} solves {both + gained} of {n} problems and {first} {both + lost}: "
        f"{gained} gained, {lost} lost, exact McNemar p = {p_value:.2g}"
    )
    if p_value >= _LEAST_P:
        return f"No difference between {first} and {second} is shown. {counts}."
    better, worse = (second, first) if gained > lost else (first, second)
    return f"{better} does better than {worse}. {counts}."


def _of_seeds(
    board: Sequence[Mapping[str, Any]], flip: Mapping[str, Any], side: str
) -> dict[int, tuple[float, int]]:
    """By seed: mean problems solved and how many there were, of one algorithm in the flips' setting."""
    found: dict[int, list[tuple[float, int]]] = {}
    for row in board:
        alike = all(row[name] == flip[name] for name in _SETTING)
        if alike and row["algorithm"] == flip[side] and row["seed"] is not None:
            found.setdefault(row["seed"], []).append((row["k"], row["n"]))
    return {
        seed: (float(np.mean([k for k, _ in each])), each[0][1]) for seed, each in found.items()
    }


def _over_seeds(
    flip: Mapping[str, Any],
    first: Sequence[tuple[float, int]],
    second: Sequence[tuple[float, int]],
) -> str:
    """Two algorithms that share seeds: Student's t on the differences of the pairs.

    The interval is at least what drawing the problems alone would give, were every flip in one direction:
    seeds that agree by chance have no spread.
    """
    names = flip["algorithm_a"], flip["algorithm"]
    points = [100 * (b / n - a / n) for (a, n), (b, _) in zip(first, second, strict=True)]
    n_seeds, mean = len(points), float(np.mean(points))
    solved = [", ".join(f"{k:g}" for k, _ in each) for each in (first, second)]
    counts = (
        f"{names[1]} solves {solved[1]} of {first[0][1]} problems and {names[0]} {solved[0]}: "
        f"{mean:+.1f} points on average"
    )
    if n_seeds == 2:
        return f"Two seeds are too few to tell. {counts}."
    of_seeds = float(student_t.ppf(0.975, n_seeds - 1) * np.std(points, ddof=1) / n_seeds**0.5)
    flipped = abs(mean) / 100
    of_problems = 100 * 1.96 * (flipped * (1 - flipped) / first[0][1]) ** 0.5
    half = max(of_seeds, of_problems)
    counts += (
        f", 95 % interval {mean - half:+.1f} to {mean + half:+.1f} (Student's t over the seeds)"
    )
    if mean - half <= 0 <= mean + half:
        return f"No difference between {names[0]} and {names[1]} is shown over {n_seeds} seeds. {counts}."
    better, worse = (names[1], names[0]) if mean > 0 else names
    return f"{better} does better than {worse} over {n_seeds} seeds. {counts}."
