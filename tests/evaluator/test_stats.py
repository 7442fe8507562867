import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.pass_at_k import mean_pass_at_k, pass_at_k, pass_at_k_each
from evaluator.stats import (
    bootstrap_difference,
    bootstrap_mean,
    holm,
    mcnemar_exact,
    mean_interval,
    paired_difference,
    smallest_visible_difference,
    wilson,
)

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


def test_bootstrap_mean_is_near_the_normal_interval():
    values = [1.0] * 100 + [0.0] * 100
    low, high = bootstrap_mean(values)
    half = 1.96 * (0.25 / 200) ** 0.5
    assert (low, high) == (pytest.approx(0.5 - half, abs=0.01), pytest.approx(0.5 + half, abs=0.01))
    assert bootstrap_mean(values) == (low, high)


def test_the_bootstrap_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    # pass@k values: means of 8 draws at rates that differ from problem to problem; true mean 1/3.
    rng = np.random.default_rng(2)
    n, runs = 257, 300
    covered = 0
    for _ in range(runs):
        values = rng.binomial(8, rng.beta(1, 2, size=n)) / 8
        low, high = bootstrap_mean(values.tolist(), n_resamples=500)
        covered += low <= 1 / 3 <= high
    assert 0.95 - 0.04 < covered / runs < 0.95 + 0.04  # three standard errors of 300 runs


def test_the_bootstrap_of_a_difference_covers_the_truth_about_as_often_as_it_says():
    # Two sides of 5 seeds; each problem's rate is its own and shared, the second side gains 0.05.
    rng = np.random.default_rng(3)
    n, seeds, runs = 120, 5, 200
    covered = 0
    for _ in range(runs):
        rates = rng.uniform(0.0, 0.9, size=n)
        first = (rng.random((seeds, n)) < rates).astype(float)
        second = (rng.random((seeds, n)) < rates + 0.05).astype(float)
        low, high = bootstrap_difference(first, second, n_resamples=300)
        covered += low <= 0.05 <= high
    assert covered / runs > 0.95 - 0.05  # drawing seeds as well makes it wider, never narrower


def test_the_bootstrap_of_a_difference_covers_the_truth_where_seeds_differ_much():
    # Two sides of 2 seeds alike in the mean, a seed's own shift of 6 points: drawing 2 of 2 covers 0.875.
    rng = np.random.default_rng(4)
    n, seeds, runs = 240, 2, 300
    covered = 0
    for _ in range(runs):
        rates = rng.beta(2, 1, size=n)
        first, second = (
            (rng.random((seeds, n)) < rates + rng.normal(0, 0.06, (seeds, 1))).astype(float)
            for _ in range(2)
        )
        low, high = bootstrap_difference(first, second, n_resamples=200)
        covered += low <= 0.0 <= high
    assert covered / runs > 0.9


def test_bootstrap_difference_is_paired():
    rng = np.random.default_rng(0)
    first = (rng.random((1, 200)) < 0.5).astype(float)
    second = first.copy()
    second[0, :4] = 1.0 - second[0, :4]
    low, high = bootstrap_difference(first, second, n_resamples=2000)
    # Unpaired, two rates of 200 would differ by +-0.1 from noise alone.
    assert high - low < 0.06


def test_bootstrap_difference_widens_with_the_spread_of_seeds():
    rng = np.random.default_rng(0)
    base = (rng.random((1, 100)) < 0.5).astype(float)
    steady = np.repeat(base, 3, axis=0)
    spread = np.vstack([base, np.ones_like(base), np.zeros_like(base)])
    narrow = bootstrap_difference(base, steady, n_resamples=1000)
    wide = bootstrap_difference(base, spread, n_resamples=1000)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_unpaired_sides_are_refused():
    with pytest.raises(ValueError, match="same problems"):
        bootstrap_difference(np.ones((1, 3)), np.ones((1, 4)))


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


@settings(max_examples=20)
@given(st.floats(0.05, 0.95), st.integers(1, 5))
def test_pass_at_k_is_unbiased(rate, k):
    from scipy import stats

    # Expectation over all outcomes of n = 8 draws equals the truth, 1 - (1 - rate)^k.
    chances = stats.binom.pmf(np.arange(9), 8, rate)
    expected = chances @ pass_at_k_each([8] * 9, list(range(9)), k)
    assert expected == pytest.approx(1 - (1 - rate) ** k)


def test_a_problem_without_a_pass_counts_zero():
    assert mean_pass_at_k([2, 2], [2, 0], 1) == 0.5


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
