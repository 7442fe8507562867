"""When hard problems are first solved, by which method: discovery@k with intervals, and what it can show.

discovery@k is the chance that the first k completions of a problem hold a passing one, averaged over
problems. Independent draws have the unbiased pass@k for it. Where each completion depends on those
before it, it is counted: a problem has a passing one among its first k or not, averaged over seeds.
Source: arXiv:2601.20802, section on test-time self-distillation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluator.pass_at_k import pass_at_k_each
from evaluator.stats import (
    Interval,
    mcnemar_exact,
    paired_difference,
    wilson_of_mean,
)


@dataclass(frozen=True)
class Trials:
    """What one method did: for each seed and problem whether each completion passed, in order."""

    method: str
    budget: int
    """Completions that a problem may take."""
    passed: tuple[Mapping[int, Sequence[bool]], ...]
    """One mapping a seed: task id -> passes. A sequence may end early at its first pass."""
    independent: bool = False
    """Whether the completions of a problem are independent draws, all of them made."""

    @property
    def task_ids(self) -> tuple[int, ...]:
        """Problems tried, in order."""
        return tuple(sorted(self.passed[0]))

    def found(self, k: int) -> NDArray[np.float64]:
        """Chance of a pass among the first k: a row for each seed, a column for each problem.

        Raises:
            ValueError: k is not between 1 and the budget.
        """
        if not 1 <= k <= self.budget:
            raise ValueError(f"k must lie between 1 and {self.budget}, got {k!r}; change it")
        rows = []
        for passed in self.passed:
            tried = [passed[task_id] for task_id in self.task_ids]
            if self.independent:
                counts = [sum(flags) for flags in tried]
                rows.append(pass_at_k_each([len(flags) for flags in tried], counts, k))
            else:
                rows.append(np.array([float(any(flags[:k])) for flags in tried]))
        return np.array(rows, dtype=np.float64)

    def discovery(self, k: int) -> tuple[float, Interval]:
        """Return discovery@k, 0..1, and its 95 % interval over problems.

        Wilson's interval of the mean with one vote a problem: right for one seed, too wide for the
        mean of several and for pass@k, whose values spread less than zeros and ones.
        """
        each = self.found(k).mean(axis=0)
        return float(each.mean()), wilson_of_mean(each.tolist())

    @property
    def n_found(self) -> int:
        """Problems that at least one seed solved within the budget."""
        return int((self.found(self.budget).max(axis=0) > 0).sum())


@dataclass(frozen=True)
class Difference:
    """One method against another on the same problems at the whole budget."""

    first: str
    second: str
    gained: int
    lost: int
    """Problems that the second solves more often, or less often, than the first, over the seeds."""
    p: float | None
    """Exact McNemar p-value with one seed a side; None with several, where the interval decides."""
    difference: float
    interval: Interval
    """95 % interval, Bonett-Price: right for one seed a side and too wide for means over several,
    whose differences spread less than -1, 0 and 1. A bootstrap of so few problems that all came out
    alike would have no width at all."""

    @property
    def sentence(self) -> str:
        """The finding in plain words."""
        low, high = self.interval
        points = f"{self.difference * 100:+.0f} points, {low * 100:+.0f} to {high * 100:+.0f}"
        seen = f"{self.gained} gained, {self.lost} lost; {points}"
        if self.p is not None:
            seen += f"; p = {self.p:.2g}"
        shown = self.p < 0.05 if self.p is not None else low > 0 or high < 0
        if not shown:
            return f"{self.second} and {self.first}: not distinguishable ({seen})"
        word = "more" if self.difference > 0 else "fewer"
        return f"{self.second} solves {word} than {self.first} ({seen})"


def compare_trials(first: Trials, second: Trials) -> Difference:
    """Compare two methods at the whole budget.

    Raises:
        ValueError: they did not try the same problems with the same budget.
    """
    if (first.task_ids, first.budget) != (second.task_ids, second.budget):
        raise ValueError(
            f"compared methods must try the same problems with one budget, got {first.method} and "
            f"{second.method} apart; run both alike"
        )
    before, after = first.found(first.budget), second.found(second.budget)
    change = after.mean(axis=0) - before.mean(axis=0)
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    single = len(before) == len(after) == 1
    return Difference(
        first.method,
        second.method,
        gained,
        lost,
        p=mcnemar_exact(gained, lost) if single else None,
        difference=float(change.mean()),
        interval=paired_difference(
            float(change[change > 0].sum()), float(-change[change < 0].sum()), len(change)
        ),
    )


def useful_k(budget: int) -> list[int]:
    """Values of k worth a column: powers of two, and the budget."""
    return sorted({2**i for i in range(budget.bit_length()) if 2**i <= budget} | {budget})
