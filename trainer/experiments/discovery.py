"""discovery@k: when each method first solves hard problems, with intervals and comparisons.

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

from analysis.statistics.intervals import Interval, wilson_of_mean
from analysis.statistics.pass_at_k import pass_at_k_each
from analysis.statistics.verdict import Arm, Evaluated, Finding, judge
from analysis.task_ids import TaskId, task_order


@dataclass(frozen=True)
class Trials:
    """What one method did: for each seed and problem whether each completion passed, in order."""

    method: str
    budget: int
    """Completions that a problem may take."""
    passed: tuple[Mapping[TaskId, Sequence[bool]], ...]
    """One mapping a seed: task id -> passes. A sequence may end early at its first pass."""
    independent: bool = False
    """Whether the completions of a problem are independent draws, all of them made."""

    @property
    def task_ids(self) -> tuple[TaskId, ...]:
        """Problems tried, in order."""
        return tuple(sorted(self.passed[0], key=task_order))

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
        """Return discovery@k, 0..1, and its 95 % interval over problems (`wilson_of_mean`)."""
        each = self.found(k).mean(axis=0)
        return float(each.mean()), wilson_of_mean(each.tolist())

    @property
    def n_found(self) -> int:
        """Problems that at least one seed solved within the budget."""
        return int((self.found(self.budget).max(axis=0) > 0).sum())


def compare_trials(pairs: Sequence[tuple[Trials, Trials]]) -> list[Finding]:
    """Compare each second method with its first at the whole budget, corrected over all pairs.

    Raises:
        ValueError: they did not try the same problems with the same budget.
    """
    for first, second in pairs:
        if (first.task_ids, first.budget) != (second.task_ids, second.budget):
            raise ValueError(
                f"compared methods must try the same problems with one budget, got {first.method} and "
                f"{second.method} apart; run both alike"
            )
    return judge([(_arm(first), _arm(second)) for first, second in pairs])


def _arm(trials: Trials) -> Arm:
    """A method as the verdict reads it: its seeds are those of sampling, on problems tried one by one."""
    rows = trials.found(trials.budget)
    return Arm(
        trials.method,
        tuple(
            Evaluated(dict(zip(trials.task_ids, map(float, row), strict=True)), repeat=seed)
            for seed, row in enumerate(rows)
        ),
    )


def useful_k(budget: int) -> list[int]:
    """Values of k worth a column: powers of two, and the budget."""
    return sorted({2**i for i in range(budget.bit_length()) if 2**i <= budget} | {budget})
