"""Statistics of two policies on the same problems: the difference over problems and seeds, and its tests.

Two things are drawn: the problems, shared by both sides, and the seeds of each side. Samples of one seed
on one problem are averaged before they come here. `docs/statistics.md` has the simulated coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.intervals import Interval

Array = NDArray[np.float64]


class Crossed(NamedTuple):
    """The difference of two sides with its standard error; arrays over whatever axes came before."""

    centre: Array
    """Mean difference, drawn a little towards 0 by the two problems that are added."""
    error: Array
    """Standard error; never 0."""
    df: Array
    """Degrees of freedom of the error; infinite with one seed a side, whose seeds cannot be told."""


@dataclass(frozen=True)
class Effect:
    """The difference of two pass rates, second minus first."""

    centre: float
    error: float
    df: float

    @property
    def interval(self) -> Interval:
        """95 % interval, -1..1."""
        half = float(_quantile(0.975, self.df)) * self.error
        return Interval(max(self.centre - half, -1.0), min(self.centre + half, 1.0))

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; below 0.05 where the interval leaves 0 out."""
        from scipy.special import stdtr

        return float(2.0 * stdtr(min(self.df, 1e9), -abs(self.centre) / self.error))

    @property
    def least_visible(self) -> float | None:
        """Least true difference, 0..1, that shows with 80 % power where the spread is as here."""
        least = float(_quantile(0.975, self.df) + _quantile(0.8, self.df)) * self.error
        return least if least < 1.0 else None


def effect(first: Array, second: Array, *, lone_is_fixed: bool = False) -> Effect:
    """Return the difference of two sides of seeds (rows) and problems (columns); see `crossed`."""
    found = crossed(first, second, lone_is_fixed=lone_is_fixed)
    return Effect(float(found.centre), float(found.error), float(found.df))


def crossed(first: Array, second: Array, *, lone_is_fixed: bool = False) -> Crossed:
    """Return the mean difference second - first with its error over problems and seeds.

    Args:
        first: share solved, 0..1, (..., seed, problem).
        second: likewise of the other side; the same problems, perhaps another number of seeds.
        lone_is_fixed: whether a side of one run would be the same with every seed, as an untrained policy
            is; else it gets the spread of the other side.

    The error adds the variance between problems of their mean differences and the variance between the
    runs' means, each over its number, as in a two-way layout with random problems and seeds. Either holds
    a share of the noise of single answers; it is subtracted once for the degrees of freedom
    (Satterthwaite) and left in the error, where it makes up for the few seeds. Two problems, one gained
    and one lost by a single run, are added: so no error is 0. One run a side then has the interval of
    Bonett and Price. With unequal numbers of seeds the wider of two counts: each side's own variance, or
    one pooled over both.

    Raises:
        ValueError: other problems, or no seed or problem.
    Source: Owen 2007, Ann. Appl. Stat. 1(2), on why problems and seeds are both drawn; Satterthwaite 1946;
        Bonett and Price 2012, J. Educ. Behav. Stat. 37(4), section 3.
    """
    if first.shape[-1] != second.shape[-1] or not first.size or not second.size:
        raise ValueError(
            f"both sides must cover the same problems, got {first.shape[-1]} and {second.shape[-1]}; "
            "evaluate them on one dataset"
        )
    n, sizes = first.shape[-1], (first.shape[-2], second.shape[-2])
    change = second.mean(axis=-2) - first.mean(axis=-2)
    centre = change.sum(axis=-1) / (n + 2)
    added = sum(
        1.0 / size for size in sizes
    )  # (1, -1) of one run a side; less of a mean over seeds
    squares = ((change**2).sum(axis=-1) + added) / (n + 2) - centre**2
    of_problems = squares / (n + 2)
    if max(sizes) == 1:
        return Crossed(centre, np.sqrt(of_problems), np.full_like(centre, np.inf))
    known = [found for side in (first, second) if (found := _between_runs(side)) is not None]
    if len(known) == 1:
        share, freedom = 1.0 / max(sizes) if lone_is_fixed else added, max(sizes) - 1
        found = _error(of_problems, n, [_Part(*known[0], share, freedom)])
        # One spread of few runs is a poor guide, the more so where it stands for the other side as well.
        most = 3.0 * freedom if lone_is_fixed else 1.0 if freedom == 1 else 2.0 * freedom
        return Crossed(centre, found.error, np.minimum(found.df, most))
    parts = [_Part(*each, 1.0 / size, size - 1) for each, size in zip(known, sizes, strict=True)]
    found = _error(of_problems, n, parts)
    if sizes[0] == sizes[1]:
        return Crossed(centre, *found)
    from scipy.special import stdtrit

    # The side of fewer seeds decides most and is known least: where pooling both gives more, it counts.
    other = _error(of_problems, n, [_pooled(*parts, share=added)])
    wider = stdtrit(other.df, 0.975) * other.error > stdtrit(found.df, 0.975) * found.error
    return Crossed(
        centre, np.where(wider, other.error, found.error), np.where(wider, other.df, found.df)
    )


class _Part(NamedTuple):
    """What the runs of a side, or of both, add to the squared error."""

    of_runs: Array
    """Variance between the runs' means."""
    of_answers: Array
    """What of it the noise of single answers makes."""
    share: float
    """Its weight: one over the runs."""
    freedom: int
    """Its degrees of freedom."""


def _pooled(one: _Part, other: _Part, *, share: float) -> _Part:
    """Both sides' variances as one."""
    weights = one.freedom, other.freedom
    freedom = sum(weights)
    return _Part(
        (one.of_runs * weights[0] + other.of_runs * weights[1]) / freedom,
        (one.of_answers * weights[0] + other.of_answers * weights[1]) / freedom,
        share,
        freedom,
    )


class _Error(NamedTuple):
    """A standard error with its degrees of freedom."""

    error: Array
    df: Array


def _error(of_problems: Array, n: int, parts: Sequence[_Part]) -> _Error:
    """Add up; Satterthwaite's degrees of freedom, with the noise of answers counted once."""
    total, noise = of_problems, np.zeros_like(of_problems)
    inverse = of_problems**2 / max(n - 1, 1)
    for part in parts:
        total = total + part.of_runs * part.share
        noise = noise + np.minimum(part.of_answers, part.of_runs) * part.share
        inverse = inverse + (part.of_runs * part.share) ** 2 / part.freedom
    return _Error(np.sqrt(total), np.maximum((total - noise) ** 2 / inverse, 1.0))


def _between_runs(side: Array) -> tuple[Array, Array] | None:
    """Variance between the runs' means, and what of it the noise of single answers makes."""
    n_seeds, n = side.shape[-2:]
    if n_seeds == 1:
        return None
    runs = side.mean(axis=-1)
    rest = side - runs[..., None] - side.mean(axis=-2, keepdims=True)
    rest = rest + runs.mean(axis=-1)[..., None, None]
    noise = (rest**2).sum(axis=(-1, -2)) / ((n_seeds - 1) * max(n - 1, 1))
    return runs.var(axis=-1, ddof=1), noise / n


def _quantile(chance: float, df: float) -> float:
    """Quantile of Student's t; of the normal distribution where the degrees are infinite."""
    from scipy.special import stdtrit

    return float(stdtrit(min(df, 1e9), chance))


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided exact McNemar p-value of two policies on the same problems.

    Only problems that exactly one of them solves count: under the null hypothesis each is as
    likely to be gained as lost.
    """
    from scipy.special import bdtr

    if gained == lost:
        return 1.0
    # rounded, twice one half can lie above 1
    return min(float(2.0 * bdtr(min(gained, lost), gained + lost, 0.5)), 1.0)


def paired_difference(gained: float, lost: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Return an interval of the difference of two pass rates on the same n problems, -1..1.

    Adjusted Wald: one problem is added to each of the gained and the lost.
    Source: Bonett and Price 2012, J. Educ. Behav. Stat. 37(4), section 3.

    Raises:
        ValueError: more flips than problems.
    """
    if gained < 0 or lost < 0 or gained + lost > n or n == 0:
        raise ValueError(
            f"gained and lost must be counts within n >= 1, got {gained!r}, {lost!r} of {n!r}; "
            "count again"
        )
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _quantile(0.5 + confidence / 2, math.inf) * math.sqrt(
        (up + down - (up - down) ** 2) / (n + 2)
    )
    return Interval(max(up - down - half, -1.0), min(up - down + half, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values of several comparisons, in order.

    The smallest is multiplied by their number, the next by one less, and so on; none falls below a smaller one.
    Source: Holm 1979, Scand. J. Statist. 6(2).
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)
    adjusted = np.empty_like(given)
    adjusted[order] = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    return [float(p) for p in np.minimum(adjusted, 1.0)]


def smallest_visible_difference(
    n: int, flip_fraction: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the least true difference of pass rates that n problems can show, 0..1.

    Args:
        n: problems.
        flip_fraction: share of problems that exactly one of the two policies solves.
        alpha: level of the exact McNemar test.
        power: wanted chance that the test shows it.

    Returns:
        None where even flips all in one direction would not show.
    """
    from scipy import stats

    n_flips, chances, reach = _rejections(n, flip_fraction, alpha)

    def power_at(difference: float) -> float:
        gain_chance = 0.5 + difference / (2 * flip_fraction)
        rejected = stats.binom.cdf(reach, n_flips, gain_chance)
        rejected += stats.binom.sf(n_flips - reach - 1, n_flips, gain_chance)
        return float(chances @ rejected)

    if not n_flips.size or power_at(flip_fraction) < power:
        return None
    low, high = 0.0, flip_fraction
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def _rejections(
    n: int, flip_fraction: float, alpha: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Where the exact McNemar test can reject.

    Returns:
        Numbers of flips at which it can, their chances, and for each the largest count of the rarer
        direction that still rejects.
    """
    from scipy import stats

    n_flips = np.arange(1, n + 1)
    # P(X <= reach) <= alpha / 2 for X ~ Binomial(n_flips, 1/2): the two-sided p-value is twice that.
    reach = stats.binom.ppf(alpha / 2, n_flips, 0.5).astype(np.int64)
    reach -= stats.binom.cdf(reach, n_flips, 0.5) > alpha / 2
    chances = stats.binom.pmf(n_flips, n, flip_fraction)
    used = reach >= 0
    return n_flips[used], chances[used], reach[used]
