"""Intervals and paired tests for pass rates; scipy and statsmodels do the statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def wilson(k: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the Wilson interval of a pass rate k/n, 0..1.

    Raises:
        ValueError: k is not between 0 and n, or n is 0.
    """
    from scipy import stats

    if not 0 <= k <= n or n == 0:
        raise ValueError(f"k must lie between 0 and n >= 1, got {k!r} of {n!r}; count again")
    interval = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def wilson_of_mean(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return Wilson's interval of the mean of values in 0..1.

    Of all distributions on 0..1 with one mean, that of zeros and ones spreads most: for values
    between, the interval is too wide rather than too narrow.

    Raises:
        ValueError: there are no values, or one lies outside 0..1.
    """
    from statsmodels.stats.proportion import proportion_confint

    data = np.asarray(values, dtype=np.float64)
    if not data.size or data.min() < 0.0 or data.max() > 1.0:
        raise ValueError(
            f"values must be some numbers in 0..1, got {list(values)[:5]!r}; check them"
        )
    low, high = proportion_confint(
        float(data.sum()), data.size, alpha=1.0 - confidence, method="wilson"
    )
    return Interval(float(low), float(high))


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided exact McNemar p-value of two policies on the same problems.

    Only problems that exactly one of them solves count: under the null hypothesis each is as
    likely to be gained as lost.
    """
    from scipy import stats

    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def paired_difference(gained: float, lost: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Return an interval of the difference of two pass rates on the same n problems, -1..1.

    Adjusted Wald: one problem is added to each of the gained and the lost. A problem solved more often
    over several seeds counts by the share that it gained; the interval is then too wide.
    Source: Bonett and Price 2012, J. Educ. Behav. Stat. 37(4), section 3.

    Raises:
        ValueError: more flips than problems.
    """
    from scipy import stats

    if gained < 0 or lost < 0 or gained + lost > n or n == 0:
        raise ValueError(
            f"gained and lost must be counts within n >= 1, got {gained!r}, {lost!r} of {n!r}; "
            "count again"
        )
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * math.sqrt(
        (up + down - (up - down) ** 2) / (n + 2)
    )
    return Interval(max(up - down - half, -1.0), min(up - down + half, 1.0))


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return Student's t interval of a mean over problems; of paired differences, of their mean.

    Raises:
        ValueError: fewer than three values, from which no spread can be told.
    """
    from scipy import stats

    data = np.asarray(values, dtype=np.float64)
    if data.size < 3:
        raise ValueError(f"an interval must be of at least 3 values, got {data.size}; ask more")
    half = float(stats.t.ppf(0.5 + confidence / 2, data.size - 1)) * float(
        data.std(ddof=1) / math.sqrt(data.size)
    )
    return Interval(float(data.mean()) - half, float(data.mean()) + half)


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


def bootstrap_mean(
    values: Sequence[float], *, confidence: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return a percentile bootstrap interval of a mean over problems."""
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("a mean must be over at least one value, got none; select some problems")
    rng = np.random.default_rng(seed)
    means = _resampled_means(data[None, :], rng, n_resamples)
    return _percentiles(means, confidence)


def bootstrap_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return a bootstrap interval of the mean difference second - first, over problems and seeds.

    Args:
        first: pass (0..1) of each seed (row) on each problem (column).
        second: likewise for the other policy: same problems, perhaps another number of seeds.
        confidence: of the interval.
        n_resamples: bootstrap resamples.
        seed: of the resampling.

    Problems are drawn once a resample and shared by both sides, which keeps the comparison paired;
    seeds are drawn for each side alone, one fewer than there are: as many would show (m - 1) / m of the
    variance between m seeds, a third too little for three.
    """
    if first.shape[1] != second.shape[1] or not first.size or not second.size:
        raise ValueError(
            f"both sides must cover the same problems, got {first.shape[1]} and "
            f"{second.shape[1]}; evaluate them on one dataset"
        )
    rng = np.random.default_rng(seed)
    n = first.shape[1]
    differences = np.empty(n_resamples)
    for index in range(n_resamples):
        problems = rng.integers(n, size=n)
        rows_first = rng.integers(first.shape[0], size=max(1, first.shape[0] - 1))
        rows_second = rng.integers(second.shape[0], size=max(1, second.shape[0] - 1))
        differences[index] = (
            second[rows_second].mean(axis=0)[problems].mean()
            - first[rows_first].mean(axis=0)[problems].mean()
        )
    return _percentiles(differences, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values of several comparisons, in order."""
    if len(p_values) < 2:
        return list(p_values)  # nothing to correct, and statsmodels takes a second to import
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]


def _resampled_means(
    rows: NDArray[np.float64], rng: np.random.Generator, n_resamples: int
) -> NDArray[np.float64]:
    """Means of resamples of one row, in slices that bound the memory."""
    data = rows[0]
    per_slice = max(1, 2_000_000 // data.size)
    means = []
    for start in range(0, n_resamples, per_slice):
        n_rows = min(per_slice, n_resamples - start)
        means.append(data[rng.integers(data.size, size=(n_rows, data.size))].mean(axis=1))
    return np.concatenate(means)


def _percentiles(values: NDArray[np.float64], confidence: float) -> Interval:
    """Middle part of a bootstrap distribution."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))
