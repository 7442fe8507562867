"""discovery@k and its comparison, by hand-worked numbers and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.intervals import wilson, wilson_of_mean
from analysis.statistics.pass_at_k import pass_at_k
from trainer.experiments.discovery import Trials, compare_trials, useful_k


def sequential(*found, budget=4):
    """One seed; each problem solved at that place (from 1), or never (0)."""
    flags = {}
    for task_id, at in enumerate(found):
        flags[task_id] = [False] * (at - 1) + [True] if at else [False] * budget
    return Trials("sdpo", budget, (flags,))


def test_a_problem_counts_from_the_completion_that_first_passes():
    # four problems, solved by the 1st, 3rd, 4th completion and never
    trials = sequential(1, 3, 4, 0)
    assert [trials.discovery(k)[0] for k in (1, 2, 3, 4)] == [0.25, 0.25, 0.5, 0.75]
    assert trials.n_found == 3


def test_seeds_are_averaged_problem_by_problem():
    first, second = sequential(1, 0), sequential(0, 0)
    trials = Trials("sdpo", 4, (first.passed[0], second.passed[0]))
    assert trials.discovery(4)[0] == 0.25
    assert trials.n_found == 1


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5))
def test_independent_draws_have_the_unbiased_estimate(flags):
    trials = Trials("best-of-n", 6, (dict(enumerate(flags)),), independent=True)
    for k in (1, 3, 6):
        expected = np.mean([pass_at_k(6, sum(row), k) for row in flags])
        assert trials.discovery(k)[0] == pytest.approx(expected)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_discovery_never_falls_with_k_and_lies_in_its_interval(found):
    trials = sequential(*found)
    means = []
    for k in range(1, 5):
        mean, (low, high) = trials.discovery(k)
        assert -1e-12 <= low <= mean + 1e-12
        assert mean - 1e-12 <= high <= 1.0 + 1e-12
        means.append(mean)
    assert means == sorted(means)


def test_no_problem_solved_of_three_still_leaves_room():
    assert sequential(0, 0, 0).discovery(4)[1].high == pytest.approx(wilson(0, 3).high)


def test_k_beyond_the_budget_is_refused():
    with pytest.raises(ValueError, match="between 1 and 4"):
        sequential(1).discovery(5)


def compared(first, second):
    (found,) = compare_trials([(first, second)])
    return found


def test_one_seed_a_side_is_compared_by_mcnemar():
    found = compared(sequential(0, 0, 0, 1), sequential(1, 2, 0, 0))
    assert (found.gained, found.lost, found.p) == (2, 1, pytest.approx(1.0))
    assert "not distinguishable (2 gained, 1 lost, p = 1.00)" in found.sentence


def test_many_gained_are_distinguishable():
    found = compared(sequential(*[0] * 8), sequential(*[1] * 8))
    assert found.p == pytest.approx(2 * 0.5**8)
    assert found.sentence.startswith("sdpo is better than sdpo")


def test_comparisons_made_together_are_corrected_together():
    nothing, some = sequential(*[0] * 8), sequential(*[1] * 8)
    found = compare_trials([(nothing, some), (nothing, some)])
    assert [item.p_adjusted for item in found] == [pytest.approx(4 * 0.5**8)] * 2


def two_seeds(first, second):
    return Trials("sdpo", 4, (sequential(*first).passed[0], sequential(*second).passed[0]))


def test_several_seeds_count_by_the_share_that_a_problem_gained():
    # problem 0 gains a half, problem 1 gains all, problem 2 loses a half
    found = compared(two_seeds([0, 0, 1], [0, 0, 0]), two_seeds([1, 1, 0], [0, 1, 0]))
    assert (found.gained, found.lost, found.n_seeds) == (2, 1, (2, 2))
    assert found.difference == pytest.approx((0.5 + 1 - 0.5) / 3)
    assert "not distinguishable" in found.sentence


def test_several_seeds_that_all_gain_are_distinguishable_and_that_all_tie_are_not_certain():
    nothing, all_of_it = two_seeds([0] * 9, [0] * 9), two_seeds([1] * 9, [2] * 9)
    assert compared(nothing, all_of_it).sentence.startswith("sdpo is better")
    low, high = compared(all_of_it, all_of_it).interval
    assert low == pytest.approx(-high)
    assert high > 0.1


@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_the_interval_over_seeds_covers_the_truth_at_least_as_often_as_it_says(gain):
    rng = np.random.default_rng(4)
    n, seeds, runs, covered = 30, 3, 400, 0
    for _ in range(runs):
        rates = rng.uniform(0.0, 0.7, size=n)
        first, second = (
            Trials(
                "x",
                1,
                tuple(
                    {at: [bool(flag)] for at, flag in enumerate(rng.random(n) < chances)}
                    for _ in range(seeds)
                ),
            )
            for chances in (rates, rates + gain)
        )
        low, high = compared(first, second).interval
        covered += low <= gain <= high
    assert covered / runs > 0.95 - 0.03


def test_other_problems_or_budgets_are_refused():
    with pytest.raises(ValueError, match="same problems with one budget"):
        compared(sequential(1), sequential(1, 1))
    with pytest.raises(ValueError, match="same problems with one budget"):
        compared(sequential(1), sequential(1, budget=8))


def test_columns_are_powers_of_two_and_the_budget():
    assert useful_k(24) == [1, 2, 4, 8, 16, 24]
    assert useful_k(1) == [1]


@pytest.mark.parametrize("rates", [(0.1, 0.3), (0.5, 0.5), (0.02, 0.9)])
def test_the_interval_of_a_mean_covers_it_at_least_as_often_as_it_says(rates):
    # Values are means of 4 seeds: less spread than zeros and ones, so the interval may be too wide.
    rng = np.random.default_rng(0)
    n, runs = 40, 400
    truth = rng.choice(rates, size=(runs, n))
    values = rng.binomial(4, truth) / 4
    covered = sum(
        low <= np.mean(rates) <= high
        for low, high in (wilson_of_mean(row.tolist()) for row in values)
    )
    assert covered / runs > 0.93


def test_values_that_are_no_chances_are_refused():
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        wilson_of_mean([0.5, 1.5])
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        wilson_of_mean([])
