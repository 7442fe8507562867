"""Intervals worked out with pencil and paper."""

import math

import pytest

from analysis.statistics.intervals import mean_interval, wilson
from analysis.statistics.paired import paired_difference


def test_bonett_and_prices_interval_of_5_gained_and_2_lost_of_50():
    # up 6/52, down 3/52: difference 0.0577; variance (9/52 - (3/52)^2) / 52 = 0.0032644, 1.96 of its roots 0.1120
    found = paired_difference(5, 2, 50)
    assert found.low == pytest.approx(-0.0543, abs=5e-5)
    assert found.high == pytest.approx(0.1697, abs=5e-5)


def test_wilsons_interval_of_3_of_10():
    # (p + z^2/2n -+ z sqrt(p q / n + z^2 / 4 n^2)) / (1 + z^2 / n) with p 0.3, z 1.96, n 10
    found = wilson(3, 10)
    assert (found.low, found.high) == (
        pytest.approx(0.1078, abs=1e-4),
        pytest.approx(0.6032, abs=1e-4),
    )


def test_students_interval_of_1_2_6():
    # mean 3, deviation sqrt(7), t of two degrees of freedom 4.30265
    half = 4.30265 * math.sqrt(7 / 3)
    assert mean_interval([1, 2, 6]) == pytest.approx((3 - half, 3 + half), abs=1e-4)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_cannot_be_have_no_interval(counts):
    with pytest.raises(ValueError, match="must be counts within n >= 1"):
        paired_difference(*counts)
