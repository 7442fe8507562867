"""What one evaluation found: its graded answers and the figures over them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from analysis.statistics.intervals import Interval, wilson, wilson_of_mean
from analysis.statistics.pass_at_k import pass_at_k_each
from analysis.task_ids import TaskId, task_order
from evaluator.grading.grade import Grade
from evaluator.sampling.completions import Answer


@dataclass(frozen=True)
class GradedAnswer:
    """One answer with its grade."""

    answer: Answer
    grade: Grade


@dataclass(frozen=True)
class EvalSummary:
    """What one evaluation found."""

    eval_id: str
    label: str
    dataset: str
    protocol: str
    decoding: str
    graded: tuple[GradedAnswer, ...]
    """In order of task id and sample index."""
    wall_s: float

    @property
    def first_grades(self) -> dict[TaskId, Grade]:
        """Task id -> grade of the problem's first completion."""
        grades: dict[TaskId, Grade] = {}
        for item in self.graded:
            grades.setdefault(item.answer.problem.task_id, item.grade)
        return grades

    @property
    def n(self) -> int:
        """Problems evaluated."""
        return len(self.first_grades)

    @property
    def k(self) -> int:
        """Problems whose first completion passes every assert: what is stored and compared."""
        return sum(grade.passed for grade in self.first_grades.values())

    @property
    def n_passed(self) -> int:
        """Completions that pass every assert."""
        return sum(item.grade.passed for item in self.graded)

    @property
    def pass_at_1(self) -> float:
        """The mean over problems of the share of their completions that pass, 0..1."""
        return self.pass_at_k(1)[0] if self.most_samples > 1 else self.k / self.n

    @property
    def interval(self) -> Interval:
        """95 % interval of pass@1: Wilson's of k/n; with several completions of their mean over problems."""
        return self.pass_at_k(1)[1] if self.most_samples > 1 else wilson(self.k, self.n)

    @property
    def outcomes(self) -> dict[str, int]:
        """Failure class -> completions, the most frequent first; `passed` left out."""
        counts = Counter(item.grade.outcome for item in self.graded if not item.grade.passed)
        return dict(counts.most_common())

    @property
    def n_samples(self) -> int:
        """Completions that every problem has: the least over the problems, and the largest k of pass@k."""
        return min(self._n_drawn.values())

    @property
    def most_samples(self) -> int:
        """Completions of the problem that has most."""
        return max(self._n_drawn.values())

    @property
    def useful_k(self) -> list[int]:
        """Values of k for which pass@k is worth a line: powers of two, and the samples drawn."""
        n = self.n_samples
        return sorted({k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= n} | {n})

    def pass_at_k(self, k: int) -> tuple[float, Interval]:
        """Return the unbiased pass@k over problems, 0..1, and its 95 % interval (`wilson_of_mean`).

        Raises:
            ValueError: a problem has fewer than k completions.
        """
        n_drawn = self._n_drawn
        n_passed = Counter(item.answer.problem.task_id for item in self.graded if item.grade.passed)
        each = pass_at_k_each(list(n_drawn.values()), [n_passed[task_id] for task_id in n_drawn], k)
        return float(each.mean()), wilson_of_mean(each.tolist())

    @property
    def _n_drawn(self) -> Counter[TaskId]:
        """Task id -> completions."""
        return Counter(item.answer.problem.task_id for item in self.graded)

    @property
    def failures(self) -> list[tuple[TaskId, str, bool]]:
        """Task id, failure class and whether it was cut off, of each failing first completion."""
        first = {item.answer.problem.task_id: item for item in reversed(self.graded)}
        return [
            (task_id, item.grade.outcome, bool(item.answer.truncated))
            for task_id, item in sorted(first.items(), key=lambda item: task_order(item[0]))
            if not item.grade.passed
        ]

    @property
    def near_misses(self) -> list[TaskId]:
        """Problems with a completion that passes all asserts but one, of at least two."""
        near = (
            item.answer.problem.task_id
            for item in self.graded
            if item.grade.n_asserts > 1 and item.grade.n_passed == item.grade.n_asserts - 1
        )
        return list(dict.fromkeys(near))

    @property
    def n_truncated(self) -> int:
        """Completions that the length limit ended."""
        return sum(bool(item.answer.truncated) for item in self.graded)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as the `--json` option writes it."""
        content: dict[str, Any] = {
            "n": self.n,
            "k": self.k,
            "pass_at_1": self.pass_at_1,
            "interval": list(self.interval),
            "results": [
                {"task_id": task_id, "passed": grade.passed, "outcome": grade.outcome}
                for task_id, grade in self.first_grades.items()
            ],
        }
        if self.most_samples > 1:
            content["n_completions"] = len(self.graded)
            content["n_passed"] = self.n_passed
            content["pass_at_k"] = {
                str(k): {"mean": mean, "interval": list(interval)}
                for k in self.useful_k
                for mean, interval in [self.pass_at_k(k)]
            }
        return content
