"""Compares evaluations problem by problem, and says in one sentence what the figures can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluator.stats import (
    Interval,
    bootstrap_difference,
    holm,
    mcnemar_exact,
    paired_difference,
    smallest_visible_difference,
)
from evaluator.stored import StoredEval

LEVEL = 0.05
"""Level of the tests, after Holm's correction."""

_USUAL_FLIPS = 0.10
"""Share of flipping problems assumed for the smallest visible effect where fewer were seen."""


class ComparisonError(Exception):
    """The evaluations cannot be compared; the message names the difference."""


@dataclass(frozen=True)
class Side:
    """One policy: its evaluations of one set of problems, one for each seed."""

    label: str
    evals: tuple[StoredEval, ...]

    @property
    def task_ids(self) -> tuple[int, ...]:
        """Problems that it was evaluated on."""
        return tuple(sorted({task_id for task_id, _ in self.evals[0].results}))

    @property
    def solved(self) -> NDArray[np.float64]:
        """1 where solved, else 0: a row for each seed and sample, a column for each problem.

        Samples count in their order; where problems have unequal numbers, as many as all of them have.
        """
        rows = []
        for item in self.evals:
            passed: dict[int, list[float]] = {task_id: [] for task_id in self.task_ids}
            for (task_id, _), result in sorted(item.results.items()):
                passed[task_id].append(float(result.passed))
            rows += list(zip(*passed.values(), strict=False))
        return np.array(rows, dtype=np.float64)


class VisibleEffect(NamedTuple):
    """What a comparison of so many problems can show with 80 % power."""

    difference: float | None
    """Least true difference of pass rates, 0..1; None where no difference would show."""
    flip_fraction: float
    """Share of flipping problems that this assumes."""


@dataclass(frozen=True)
class Comparison:
    """What a paired comparison of two policies shows."""

    first: str
    second: str
    n: int
    """Problems."""
    n_rows: tuple[int, int]
    """Seeds and samples of each side."""
    rates: tuple[float, float]
    """Mean pass rates, 0..1."""
    gained: int
    """Problems that only the second solves; by its first row."""
    lost: int
    """Problems that only the first solves."""
    p: float | None
    """Exact McNemar p-value; None with several rows, where the interval decides."""
    p_adjusted: float | None
    """After Holm's correction over all comparisons made together."""
    difference: float
    """Rate of the second minus that of the first, -1..1."""
    interval: Interval
    """95 % interval of the difference: Bonett-Price, or a bootstrap over problems and seeds."""
    gained_tasks: tuple[int, ...]
    lost_tasks: tuple[int, ...]

    @cached_property
    def visible(self) -> VisibleEffect:
        """The least difference that this many problems can show."""
        flips = (self.gained + self.lost) / self.n
        least = smallest_visible_difference(self.n, flips) if flips else None
        if least is None:
            flips = max(flips, _USUAL_FLIPS)
            least = smallest_visible_difference(self.n, flips)
        return VisibleEffect(least, flips)

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is more than noise at the 5 % level."""
        if self.p_adjusted is not None:
            return self.p_adjusted < LEVEL
        return self.interval.low > 0 or self.interval.high < 0

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        seen = f"{self.gained} gained, {self.lost} lost"
        if self.p_adjusted is not None and self.p is not None:
            seen += f", p = {self.p:.2g}" if self.p < 0.1 else f", p = {self.p:.2f}"
            if self.p_adjusted != self.p:
                seen += f", {self.p_adjusted:.2g} after Holm's correction"
        else:
            low, high = self.interval
            seen = (
                f"difference {low * 100:+.1f} to {high * 100:+.1f} points over problems and seeds"
            )
        if not self.distinguishable:
            return f"{self.first} and {self.second}: not distinguishable ({seen})"
        word = "better" if self.difference > 0 else "worse"
        return f"{self.second} is {word} than {self.first} ({seen})"


def compare(sides: Sequence[Side]) -> list[Comparison]:
    """Compare each further policy with the first, Holm-corrected over all of them.

    Raises:
        ComparisonError: dataset, protocol, decoding or problems differ.
    """
    for side in sides:
        for item in side.evals:
            _check_alike(sides[0].evals[0], item)
    pairs = [_compare_two(sides[0], other) for other in sides[1:]]
    tested = [pair.p for pair in pairs if pair.p is not None]
    adjusted = iter(holm(tested))
    return [
        replace(pair, p_adjusted=next(adjusted)) if pair.p is not None else pair for pair in pairs
    ]


def _compare_two(first: Side, second: Side) -> Comparison:
    """One comparison, not yet corrected."""
    before, after = first.solved, second.solved
    task_ids = first.task_ids
    n = len(task_ids)
    gained = tuple(t for t, a, b in zip(task_ids, before[0], after[0], strict=True) if b > a)
    lost = tuple(t for t, a, b in zip(task_ids, before[0], after[0], strict=True) if a > b)
    single = len(before) == len(after) == 1
    return Comparison(
        first=first.label,
        second=second.label,
        n=n,
        n_rows=(len(before), len(after)),
        rates=(float(before.mean()), float(after.mean())),
        gained=len(gained),
        lost=len(lost),
        p=mcnemar_exact(len(gained), len(lost)) if single else None,
        p_adjusted=None,
        difference=float(after.mean() - before.mean()),
        interval=(
            paired_difference(len(gained), len(lost), n)
            if single
            else bootstrap_difference(before, after)
        ),
        gained_tasks=gained,
        lost_tasks=lost,
    )


def _check_alike(first: StoredEval, other: StoredEval) -> None:
    """Refuse two evaluations that did not measure the same thing."""
    for what, ours, theirs in _conditions(first, other):
        if ours != theirs:
            raise ComparisonError(
                f"compared evaluations must have the same {what}, got {ours!r} for {first.name} "
                f"and {theirs!r} for {other.name}; evaluate both alike"
            )
    one_sided = sorted(_task_ids(first) ^ _task_ids(other))
    if one_sided:
        raise ComparisonError(
            f"compared evaluations must cover the same problems, got {len(one_sided)} (task "
            f"{one_sided[0]}, ...) in only one of {first.name} and {other.name}; "
            "evaluate both alike"
        )


def _conditions(first: StoredEval, other: StoredEval) -> list[tuple[str, object, object]]:
    """What must be equal, as (name, ours, theirs)."""
    if first.row is None or other.row is None:
        raise ComparisonError(
            f"compared evaluations must be finished, got {first.name} and {other.name}; "
            "resume the unfinished one"
        )
    conditions: list[tuple[str, object, object]] = [
        ("dataset", first.row.dataset, other.row.dataset),
        ("protocol", first.row.protocol, other.row.protocol),
        ("decoding", first.row.decoding, other.row.decoding),
    ]
    # A training run's own sha256s are of its training data and prompts, not of its evaluations.
    if first.info.kind == other.info.kind == "eval":
        conditions += [
            ("dataset content", first.info.dataset_sha256, other.info.dataset_sha256),
            ("prompt wording", first.info.protocol_sha256, other.info.protocol_sha256),
        ]
    return conditions


def _task_ids(item: StoredEval) -> set[int]:
    """Problems of an evaluation."""
    return {task_id for task_id, _ in item.results}
