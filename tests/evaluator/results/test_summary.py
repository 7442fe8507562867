"""The figures of an evaluation, over answers that are made up."""

from types import SimpleNamespace

import pytest

from analysis.statistics.intervals import wilson_of_mean
from evaluator.results.summary import EvalSummary, GradedAnswer


def answered(task_id, n_passed, n_asserts=3, truncated=False):
    passed = n_passed == n_asserts
    return GradedAnswer(
        SimpleNamespace(problem=SimpleNamespace(task_id=task_id), truncated=truncated),
        SimpleNamespace(
            passed=passed, n_passed=n_passed, n_asserts=n_asserts, outcome="passed" if passed else "wrong_answer"
        ),
    )  # fmt: skip


def summary(*graded):
    return EvalSummary("final", "x", "d", "p", "greedy", tuple(graded), wall_s=1.0)


def test_several_samples_a_problem_give_the_mean_share_and_pass_at_k():
    # shares 2/4 and 1/4; two of four draws hold a pass with 5/6 and 1/2
    found = summary(
        *(answered(1, n) for n in (3, 0, 3, 2)),
        *(answered(2, n, truncated=True) for n in (2, 2, 3, 0)),
    )
    assert found.pass_at_1 == pytest.approx(3 / 8)
    assert found.pass_at_k(2)[0] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert found.pass_at_k(4)[0] == 1.0
    assert found.interval == wilson_of_mean([1 / 2, 1 / 4])
    assert (found.n, found.k, found.n_passed, found.n_samples) == (2, 1, 3, 4)
    assert found.outcomes == {"wrong_answer": 5}
    assert found.failures == [(2, "wrong_answer", True)]
    assert found.near_misses == [1, 2]
    assert found.n_truncated == 4


def test_of_unequal_numbers_of_samples_the_least_bounds_k():
    found = summary(answered(1, 3), answered(1, 0), answered(2, 0), answered(2, 0), answered(2, 3))
    assert (found.n_samples, found.most_samples) == (2, 3)
    assert found.pass_at_1 == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_one_sample_a_problem_gives_k_of_n_with_wilsons_interval():
    found = summary(answered(1, 3), answered(2, 1), answered(3, 2), answered(4, 0, n_asserts=1))
    assert found.pass_at_1 == 1 / 4
    assert found.interval == pytest.approx((0.0456, 0.6994), abs=1e-4)
    assert found.near_misses == [3]
    assert "pass_at_k" not in found.to_json()


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1]), (8, [1, 2, 4, 8]), (10, [1, 2, 4, 8, 10]), (200, [1, 2, 4, 8, 16, 32, 64, 128, 200])]
)  # fmt: skip
def test_pass_at_k_is_said_for_powers_of_two_and_for_all_samples(n, expected):
    assert summary(*(answered(1, 0) for _ in range(n))).useful_k == expected
