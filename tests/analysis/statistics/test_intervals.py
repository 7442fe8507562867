import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.intervals import mean_interval, wilson, wilson_of_mean
from analysis.statistics.paired import (
    holm,
    mcnemar_exact,
    paired_difference,
    smallest_visible_difference,
)
from analysis.statistics.pass_at_k import pass_at_k, pass_at_k_each
from tests.scale import examples

MONTE_CARLO = 0.02
"""Slack of simulated coverage: about three standard errors at 2,000 runs."""


def test_wilson_of_a_worked_example():
    # p = 0.5, n = 10, z = 1.96: centre 0.5, half width z / sqrt(n + z^2) / 2 = 0.2634
    low, high = wilson(5, 10)
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))


@given(n=st.integers(1, 500), data=st.data())
def test_wilson_holds_the_rate_and_stays_in_range(n, data):
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0.0 <= low <= k / n + 1e-12
    assert k / n - 1e-12 <= high <= 1.0


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_wilson_covers_the_truth_as_often_as_it_says(rate):
    from scipy import stats

    # Exact coverage by summing over all outcomes, no simulation needed.
    n = 257
    chances = stats.binom.pmf(np.arange(n + 1), n, rate)
    covered = sum(
        chance
        for k, chance in enumerate(chances)
        if chance > 1e-12 and wilson(k, n).low <= rate <= wilson(k, n).high
    )
    assert covered > 0.95 - MONTE_CARLO


@pytest.mark.parametrize(("k", "n"), [(1, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="k must lie between 0 and n"):
        wilson(k, n)


def test_mcnemar_of_two_gained_and_none_lost_is_one_half():
    assert mcnemar_exact(2, 0) == pytest.approx(0.5)


def test_mcnemar_of_no_flips_is_one():
    assert mcnemar_exact(0, 0) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_symmetric_and_a_probability(gained, lost):
    p = mcnemar_exact(gained, lost)
    assert p == pytest.approx(mcnemar_exact(lost, gained))
    assert 0.0 < p <= 1.0


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_the_paired_interval_mirrors_and_holds_the_difference(gained, lost, unchanged):
    n = gained + lost + unchanged + 1
    low, high = paired_difference(gained, lost, n)
    mirrored = paired_difference(lost, gained, n)
    assert (-mirrored.high, -mirrored.low) == (pytest.approx(low), pytest.approx(high))
    assert -1.0 <= low < high <= 1.0


@pytest.mark.parametrize(("up", "down"), [(0.02, 0.01), (0.1, 0.05), (0.05, 0.05)])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(up, down):
    rng = np.random.default_rng(1)
    n, runs = 257, 2000
    counts = rng.multinomial(n, [up, down, 1 - up - down], size=runs)
    covered = 0
    for gained, lost, _ in counts:
        low, high = paired_difference(int(gained), int(lost), n)
        covered += low <= up - down <= high
    assert covered / runs > 0.95 - MONTE_CARLO


def test_the_least_difference_that_257_problems_can_show():
    # Measured apart from this code: 5.75 points at 10 % flips, 80 % power.
    assert smallest_visible_difference(257, 0.10) == pytest.approx(0.0575, abs=0.001)


def test_too_few_flips_show_nothing():
    assert smallest_visible_difference(257, 0.005) is None


def test_more_problems_show_smaller_differences():
    assert smallest_visible_difference(974, 0.1) < smallest_visible_difference(257, 0.1)


def test_holm_of_a_worked_example():
    # sorted: .01*3, max(.03, .03*2), max(.06, .04*1)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=40))
def test_the_interval_of_a_mean_of_zeros_and_ones_is_wilsons(values):
    assert wilson_of_mean(values) == pytest.approx(wilson(int(sum(values)), len(values)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.randoms())
def test_the_interval_of_a_mean_holds_it_mirrors_and_forgets_the_order(values, random):
    low, high = wilson_of_mean(values)
    mean = np.mean(values)
    assert 0.0 <= low <= mean + 1e-9 and mean - 1e-9 <= high <= 1.0
    assert high - low > 0.02
    mirrored = wilson_of_mean([1 - x for x in values])
    assert (1 - mirrored.high, 1 - mirrored.low) == (pytest.approx(low), pytest.approx(high))
    shuffled = random.sample(values, len(values))
    assert wilson_of_mean(shuffled) == pytest.approx((low, high))


def test_values_that_agree_are_no_certainty():
    assert wilson_of_mean([1.0] * 5) == pytest.approx((wilson(5, 5).low, 1.0))
    low, high = wilson_of_mean([0.5] * 5)
    assert high - low > 0.3
    assert wilson_of_mean([1.0]) == (0.0, 1.0) == wilson_of_mean([0.25])


@pytest.mark.parametrize(("n", "draws"), [(5, 8), (20, 4), (257, 8)])
@pytest.mark.parametrize("shape", [(1, 2), (0.2, 0.1), (0.1, 0.8)])
def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says(n, draws, shape):
    # pass@k values: means of draws at rates that differ from problem to problem
    rng = np.random.default_rng(2)
    runs, truth = 400, shape[0] / sum(shape)
    values = rng.binomial(draws, rng.beta(*shape, size=(runs, n))) / draws
    found = [wilson_of_mean(row.tolist()) for row in values]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert covered > 0.95 - 0.04  # three standard errors of 400 runs


def test_pass_at_k_of_worked_examples():
    # n = 4, c = 1, k = 2: 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)
    assert pass_at_k(4, 0, 2) == 0.0
    assert pass_at_k(4, 3, 2) == 1.0
    assert pass_at_k(5, 2, 1) == pytest.approx(0.4)


@given(st.data(), st.integers(1, 30))
def test_pass_at_k_equals_the_count_of_subsets(data, n):
    from math import comb

    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k))


@settings(max_examples=examples(20))
@given(st.floats(0.05, 0.95), st.integers(1, 5))
def test_pass_at_k_is_unbiased(rate, k):
    from scipy import stats

    # Expectation over all outcomes of n = 8 draws equals the truth, 1 - (1 - rate)^k.
    chances = stats.binom.pmf(np.arange(9), 8, rate)
    expected = chances @ pass_at_k_each([8] * 9, list(range(9)), k)
    assert expected == pytest.approx(1 - (1 - rate) ** k)


def test_a_problem_without_a_pass_counts_zero():
    assert pass_at_k_each([2, 2], [2, 0], 1).mean() == 0.5


@pytest.mark.parametrize(("n", "c", "k"), [(1, 0, 2), (2, 3, 1), (2, -1, 1), (2, 1, 0)])
def test_impossible_draws_are_refused(n, c, k):
    with pytest.raises(ValueError, match="must lie between"):
        pass_at_k(n, c, k)


def test_the_interval_of_a_mean_is_students():
    # mean 2, deviation 1, n = 3: half = 4.302653 / sqrt(3), 4.302653 from a table of t at 2 degrees
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-6)
    assert high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-6)
    with pytest.raises(ValueError, match="at least 3"):
        mean_interval([1.0, 2.0])
    with pytest.raises(ValueError, match="values that differ"):
        mean_interval([2.0] * 4)
