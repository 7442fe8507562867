"""Intervals of pass rates and of means; those of differences are in `paired`.

`scipy.special` takes a third of a second to import, so what does not come here does without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def wilson(k: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the Wilson interval of a pass rate k/n, 0..1. ValueError: k is not between 0 and n, or n is 0."""
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"k must lie between 0 and n >= 1, got {k!r} of {n!r}; count again")
    return _wilson(k / n, n, confidence)


def wilson_of_mean(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return an interval of the mean of values in 0..1, such as pass@k over problems.

    Wilson's with an effective number of values: zeros and ones count one each, values that spread less
    count more. The spread is taken with a 0 and a 1 added, so that values that agree are not taken for a
    certainty. Zeros and ones alone give Wilson's interval of their count; a single value gives 0 to 1.

    Raises:
        ValueError: there are no values, or one lies outside 0..1.
    """
    data = np.asarray(values, dtype=np.float64)
    if not data.size or data.min() < 0.0 or data.max() > 1.0:
        raise ValueError(
            f"values must be some numbers in 0..1, got {list(values)[:5]!r}; check them"
        )
    n, mean = data.size, math.fsum(data) / data.size
    if n == 1:
        return Interval(0.0, 1.0)
    middle = (n * mean + 1) / (n + 2)
    spread = (math.fsum(data**2) + 1) / (n + 2) - middle**2
    return _wilson(mean, n * middle * (1 - middle) / spread, confidence)


def _wilson(rate: float, n: float, confidence: float) -> Interval:
    """Wilson's interval of a rate over n values; n need not be whole."""
    from scipy.special import ndtri

    z = float(ndtri(0.5 + confidence / 2))
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # at the ends the formula gives the rate itself, but for rounding
    return Interval(max(min(centre - half, rate), 0.0), min(max(centre + half, rate), 1.0))


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return Student's t interval of a mean over problems; of paired differences, of their mean.

    Raises:
        ValueError: fewer than three values, or values that are all the same: no spread can be told.
    """
    from scipy.special import stdtrit

    data = np.asarray(values, dtype=np.float64)
    if data.size < 3:
        raise ValueError(f"an interval must be of at least 3 values, got {data.size}; ask more")
    if data.min() == data.max():
        raise ValueError(
            f"an interval must be of values that differ, got {data.size} times {data[0]}; ask more"
        )
    quantile = float(stdtrit(data.size - 1, 0.5 + confidence / 2))
    half = quantile * float(data.std(ddof=1)) / math.sqrt(data.size)
    return Interval(float(data.mean()) - half, float(data.mean()) + half)
