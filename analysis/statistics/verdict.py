"""The one judge of differences: `compare`, the report, the demo, `reproduce` and `solve` ask here.

Two arms are compared problem by problem, over problems and seeds. A winner is named only where the arms
differ in the algorithm, and what it brings, alone, and where each trained one has several seeds: one run
cannot tell what another seed would have done.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.conditions import UNKNOWN, Conditions, differences, listed, mixed
from analysis.statistics.intervals import Interval
from analysis.statistics.paired import (
    Effect,
    effect,
    holm,
    mcnemar_exact,
    smallest_visible_difference,
)
from analysis.task_ids import TaskId, task_order

LEVEL = 0.05
"""Level of the tests, after Holm's correction."""

_USUAL_FLIPS = 0.10
"""Share of flipping problems assumed for the smallest visible effect where fewer were seen."""


@dataclass(frozen=True)
class Evaluated:
    """One policy as one evaluation saw it."""

    passed: Mapping[TaskId, float]
    """Task id -> share of its completions that pass every assert, 0..1."""
    repeat: Hashable = None
    """What makes it a repeat of its own, usually the seed; None where that is not known. Evaluations of
    one seed count as one."""
    answers: Hashable = None
    """Equal for evaluations that hold the same answers; None where the passes must do."""
    conditions: Conditions = UNKNOWN


@dataclass(frozen=True)
class Arm:
    """One policy with its repeats: a method and its seeds."""

    label: str
    runs: tuple[Evaluated, ...]

    @property
    def task_ids(self) -> tuple[TaskId, ...]:
        """Problems that it was evaluated on."""
        return tuple(sorted(self.runs[0].passed, key=task_order))

    @property
    def algorithm(self) -> str | None:
        """None where nothing was trained."""
        return self.runs[0].conditions.algorithm

    @cached_property
    def repeats(self) -> tuple[tuple[Evaluated, ...], ...]:
        """The runs, those of one seed or with the same answers together: copies add nothing."""
        groups: list[list[Evaluated]] = []
        for run in self.runs:
            alike = [group for group in groups if any(_copies(run, other) for other in group)]
            groups = [group for group in groups if group not in alike]
            groups.append([other for group in alike for other in group] + [run])
        return tuple(map(tuple, groups))

    @cached_property
    def solved(self) -> NDArray[np.float64]:
        """Share solved, 0..1: a row for each seed, a column for each problem; samples are averaged."""
        rows = [
            np.mean([[run.passed[t] for t in self.task_ids] for run in group], axis=0)
            for group in self.repeats
        ]
        return np.array(rows, dtype=np.float64)


class VisibleEffect(NamedTuple):
    """What a comparison of so many problems and seeds can show with 80 % power."""

    difference: float | None
    """Least true difference of pass rates, 0..1; None where no difference would show."""
    flip_fraction: float | None
    """Share of flipping problems that this assumes; None with several seeds or answers, whose spread decides."""


@dataclass(frozen=True)
class Finding:
    """What a paired comparison of two arms shows."""

    first: str
    second: str
    n: int
    """Problems."""
    n_seeds: tuple[int, int]
    """Repeats of each side, copies not counted."""
    rates: tuple[float, float]
    """Mean pass rates, 0..1."""
    gained_tasks: tuple[TaskId, ...]
    """Problems that the second solves more often."""
    lost_tasks: tuple[TaskId, ...]
    """Problems that the first solves more often."""
    effect: Effect
    p: float
    """Exact McNemar where problems were counted, else of the interval."""
    counted: bool = True
    """Whether each side is one run with one answer a problem. Shares of several answers cannot be counted as
    gained or lost: the side with fewer answers is right or wrong, and the other one nearly always between."""
    lone_seed: bool = False
    """Whether a side is one seed of a trained policy: how far others would lie from it is not known."""
    differs: tuple[str, ...] = ()
    """What differs beside the algorithm."""
    spoilt: str = ""
    """Why the sides are no two policies to compare; empty where they are."""
    notes: tuple[str, ...] = ()
    p_adjusted: float = 1.0
    """After Holm's correction over all comparisons made together."""

    @property
    def gained(self) -> int:
        """Problems that the second solves more often."""
        return len(self.gained_tasks)

    @property
    def lost(self) -> int:
        """Problems that the first solves more often."""
        return len(self.lost_tasks)

    @property
    def difference(self) -> float:
        """Rate of the second minus that of the first, -1..1."""
        return self.rates[1] - self.rates[0]

    @property
    def interval(self) -> Interval:
        """95 % interval of the difference: over problems and seeds; with one run a side over problems."""
        return self.effect.interval

    @property
    def over_seeds(self) -> bool:
        """Whether the interval covers other seeds, too."""
        return max(self.n_seeds) > 1

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is more than noise at the 5 % level."""
        shown = self.interval.low > 0 or self.interval.high < 0
        return shown and self.p_adjusted < LEVEL and not self.spoilt

    @property
    def winner(self) -> str | None:
        """The better arm; None where no difference is shown, or where it would not be the method's."""
        if not self.distinguishable or self.differs or self.lone_seed:
            return None
        return self.second if self.difference > 0 else self.first

    @property
    def visible(self) -> VisibleEffect:
        """The least difference that this comparison can show."""
        if not self.counted:
            return VisibleEffect(self.effect.least_visible, None)
        flips = (self.gained + self.lost) / self.n
        least = smallest_visible_difference(self.n, flips) if flips else None
        if least is None:
            flips = max(flips, _USUAL_FLIPS)
            least = smallest_visible_difference(self.n, flips)
        return VisibleEffect(least, flips)

    @property
    def seen(self) -> str:
        """The figures: what was counted, else the interval, and the p-value."""
        if self.counted:
            seen = f"{self.gained} gained, {self.lost} lost"
        else:
            low, high = (f"{100 * end:+.1f}" for end in self.interval)
            drawn = "problems and seeds" if self.over_seeds else "problems"
            seen = f"{100 * self.difference:+.1f} points, {low} to {high} over {drawn}"
        seen += f", p = {p_text(self.p)}"
        if self.p_adjusted != self.p:
            seen += f", {p_text(self.p_adjusted)} after Holm's correction"
        return seen

    @property
    def sentence(self) -> str:
        """The finding in plain words, without a full stop."""
        return "; ".join([self._claim, *self.notes])

    @property
    def _claim(self) -> str:
        names = f"{self.first} and {self.second}"
        if self.spoilt:
            return f"{names}: {self.spoilt}"
        if self.differs:
            return (
                f"{names}: no winner, they differ in more than the algorithm: "
                f"{listed(self.differs)} ({self.seen})"
            )
        if not self.distinguishable:
            return f"{names}: not distinguishable ({self.seen})"
        if self.winner is None:
            more = "more" if self.difference > 0 else "fewer"
            return (
                f"{self.second} solves {more} than {self.first} ({self.seen}), but one seed does not "
                "tell what others would do: no winner"
            )
        word = "better" if self.difference > 0 else "worse"
        return f"{self.second} is {word} than {self.first} ({self.seen})"


def judge(pairs: Sequence[tuple[Arm, Arm]]) -> list[Finding]:
    """Compare each second arm with its first, Holm-corrected over all pairs. ValueError: not the same problems."""
    found = [_judge_two(first, second) for first, second in pairs]
    tested = [finding.p for finding in found if not finding.spoilt]
    adjusted = iter(holm(tested))
    return [
        finding if finding.spoilt else replace(finding, p_adjusted=next(adjusted))
        for finding in found
    ]


def p_text(p: float) -> str:
    """A p-value with two digits; never rounded to 0."""
    return f"{p:.2f}" if p >= 0.1 else f"{p:.2g}"


def _judge_two(first: Arm, second: Arm) -> Finding:
    """One comparison, not yet corrected."""
    if first.task_ids != second.task_ids:
        raise ValueError(
            f"compared arms must cover the same problems, got {len(first.task_ids)} and "
            f"{len(second.task_ids)}; evaluate both alike"
        )
    before, after = first.solved, second.solved
    change = after.mean(axis=0) - before.mean(axis=0)
    gained = tuple(t for t, x in zip(first.task_ids, change, strict=True) if x > 0)
    lost = tuple(t for t, x in zip(first.task_ids, change, strict=True) if x < 0)
    found = effect(before, after, lone_is_fixed=_lone_is_fixed(first, second))
    counted = len(before) == len(after) == 1 and all(x in (0, 1) for x in (*before[0], *after[0]))
    return Finding(
        first=first.label,
        second=second.label,
        n=len(first.task_ids),
        n_seeds=(len(before), len(after)),
        rates=(float(before.mean()), float(after.mean())),
        gained_tasks=gained,
        lost_tasks=lost,
        effect=found,
        p=mcnemar_exact(len(gained), len(lost)) if counted else found.p,
        counted=counted,
        lone_seed=any(
            arm.algorithm is not None and len(arm.repeats) == 1 for arm in (first, second)
        ),
        differs=differences(*_conditions(first, second)),
        spoilt=_spoilt(first, second),
        notes=_notes(first, second),
    )


def _conditions(*arms: Arm) -> list[list[Conditions]]:
    return [[run.conditions for run in arm.runs] for arm in arms]


def _spoilt(first: Arm, second: Arm) -> str:
    """Why two arms are no two policies; empty where they are."""
    for arm, found in zip((first, second), _conditions(first, second), strict=True):
        if within := mixed(found):
            return (
                f"no winner, the runs of {arm.label} are no seeds of one policy: they differ in "
                f"{listed(within)}"
            )
    sets = [{run.answers for run in arm.runs} for arm in (first, second)]
    if None not in sets[0] | sets[1] and (sets[0] <= sets[1] or sets[1] <= sets[0]):
        return "not distinguishable, both sides hold the same answers"
    one, other = first.runs[0].conditions, second.runs[0].conditions
    alike = (one.algorithm, one.method) == (other.algorithm, other.method)
    if alike and one.algorithm is not None and not differences(*_conditions(first, second)):
        return "no winner, their method and settings are the same"
    return ""


def _lone_is_fixed(first: Arm, second: Arm) -> bool:
    """Whether one run stands for all of its side: an untrained policy beside the seeds of a trained one."""
    lone, other = sorted((first, second), key=lambda arm: len(arm.repeats))
    return len(lone.repeats) == 1 and lone.algorithm is None and other.algorithm is not None


def _notes(first: Arm, second: Arm) -> tuple[str, ...]:
    """What a reader must know of the seeds."""
    notes = []
    for arm in (first, second):
        copies = len(arm.runs) - len(arm.repeats)
        if copies:
            notes.append(
                f"{len(arm.runs)} runs of {arm.label} count as {len(arm.repeats)}: the others repeat a "
                "seed or an answer"
            )
    sizes = len(first.repeats), len(second.repeats)
    if min(sizes) == 1 < max(sizes) and not _lone_is_fixed(first, second):
        lone, other = (first, second) if sizes[0] == 1 else (second, first)
        notes.append(
            f"{lone.label} is one run: its spread between seeds is taken from {other.label}"
        )
    return tuple(notes)


def _copies(one: Evaluated, other: Evaluated) -> bool:
    """Whether two evaluations are of one seed, or hold the same answers."""
    if one.repeat is not None and one.repeat == other.repeat:
        return True
    return one.answers is not None and one.answers == other.answers
