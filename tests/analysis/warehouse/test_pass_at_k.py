"""The view pass_at_k is the unbiased estimator, for few completions and for thousands."""

import time
from math import comb

import pytest

from analysis.statistics.intervals import wilson, wilson_of_mean
from analysis.statistics.pass_at_k import pass_at_k_each


def add(connection, run_id, counts):
    """Give each problem so many completions, of which so many passed."""
    for task_id, (n, c) in enumerate(counts):
        connection.execute(
            "INSERT INTO eval_results BY NAME SELECT ? AS run_id, 'final' AS eval_id, "
            "? AS task_id, i AS sample_index, i < ? AS passed, '' AS execution_id, '' AS completion, "
            "'' AS outcome, 0 AS n_passed, 1 AS n_asserts FROM range(?) r(i)",
            [run_id, task_id, c, n],
        )


def estimates(connection):
    rows = connection.execute("SELECT run_id, k, pass_at_k, n_problems, n_samples FROM pass_at_k")
    return {(run_id, k): rest for run_id, k, *rest in rows.fetchall()}


def exact(counts, k):
    return sum(1 - comb(n - c, k) / comb(n, k) for n, c in counts) / len(counts)


@pytest.mark.parametrize(
    "counts",
    [
        [(1, 0)],
        [(1, 1)],
        [(4, 1), (4, 0), (4, 4), (4, 1)],
        [(8, 3), (8, 8), (8, 0)],
        [(200, 1), (200, 199), (200, 77)],
    ],
)
def test_it_equals_the_count_of_subsets_for_every_k(connection, counts):
    add(connection, "run", counts)
    found = estimates(connection)
    n = counts[0][0]
    assert [k for _, k in sorted(found)] == list(range(1, n + 1))
    for (_, k), (value, n_problems, n_samples) in found.items():
        assert value == pytest.approx(exact(counts, k), abs=1e-12)
        assert (n_problems, n_samples) == (len(counts), n)


@pytest.mark.parametrize(
    "counts",
    [
        [(4, 4)],
        [(4, 2)],
        [(4, 4)] * 5,
        [(4, 0)] * 5,
        [(2, 1)] * 5,
        [(4, 1), (4, 0), (4, 4), (4, 3)],
    ],
)
def test_its_interval_is_that_of_the_evaluation_and_has_a_width_at_the_ends(connection, counts):
    add(connection, "run", counts)
    rows = connection.execute("SELECT k, interval_low, interval_high FROM pass_at_k").fetchall()
    for k, low, high in rows:
        each = pass_at_k_each([n for n, _ in counts], [c for _, c in counts], k).tolist()
        assert (low, high) == pytest.approx(wilson_of_mean(each), abs=1e-6)
        assert high - low > 0.3
    ((low, high),) = connection.execute(
        "SELECT interval_low, interval_high FROM mean_at_n"
    ).fetchall()
    assert (low, high) == pytest.approx(wilson_of_mean([c / n for n, c in counts]), abs=1e-6)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 9)])
def test_wilson_in_sql_is_wilson(connection, k, n):
    found = connection.execute(f"SELECT wilson_low({k} / {n}, {n}), wilson_high({k} / {n}, {n})")
    assert found.fetchone() == pytest.approx(wilson(k, n), abs=1e-6)


def test_means_of_values_that_agree_have_no_interval(connection):
    assert connection.execute(
        "SELECT t_half(5, 0.0), t_half(2, 1.0), t_half(1, NULL)"
    ).fetchone() == (
        None,
        None,
        None,
    )


def test_thousands_of_completions_give_numbers_too(connection):
    counts = [(2000, 3), (2000, 1900), (2000, 0)]
    add(connection, "run", counts)
    found = estimates(connection)
    for k in (1, 10, 1000, 2000):
        assert found["run", k][0] == pytest.approx(exact(counts, k), abs=1e-12)


def test_k_goes_as_far_as_the_problem_with_the_fewest_completions(connection):
    add(connection, "run", [(6, 2), (3, 1)])
    found = estimates(connection)
    assert sorted(found) == [("run", 1), ("run", 2), ("run", 3)]
    assert found["run", 2][0] == pytest.approx(exact([(6, 2), (3, 1)], 2))


def test_runs_are_kept_apart(connection):
    add(connection, "one", [(2, 1)])
    add(connection, "two", [(2, 0)])
    assert estimates(connection)["one", 1][0] == 0.5
    assert estimates(connection)["two", 1][0] == 0.0


@pytest.mark.slow
def test_a_million_completions_take_less_than_a_second(connection):
    for run in range(20):
        connection.execute(
            "INSERT INTO eval_results BY NAME SELECT ? AS run_id, 'final' AS eval_id, "
            "t AS task_id, s AS sample_index, hash(t, s, ?) % 101 < t % 101 AS passed, "
            "'' AS execution_id, '' AS completion, '' AS outcome, 0 AS n_passed, 1 AS n_asserts "
            "FROM range(257) p(t), range(195) q(s)",
            [f"run-{run}", run],
        )
    started = time.process_time()  # not the wall: other work on the machine must not fail it
    rows = connection.execute("FROM pass_at_k").fetchall()
    assert time.process_time() - started < 1.0
    assert len(rows) == 20 * 195
    assert connection.execute("SELECT count(*) FROM eval_results").fetchone()[0] > 1_000_000


@pytest.mark.parametrize(
    ("tries", "is_known"),
    [
        (["001", "00000", "1"], False),  # solve: up to the first pass, or to the budget
        (["001", "1"], False),
        (["1", "1"], True),
        (["00000", "00001"], True),
        (["001", "0000", "10"], True),  # one that goes on after its pass
        (["001", "00000", "00"], True),  # one that ends without one
    ],
)
def test_tries_that_end_with_the_first_pass_have_no_estimate(connection, tries, is_known):
    """One pass in the n tries that it took is 1 / n, whatever the chance of a pass is."""
    for task_id, passes in enumerate(tries):
        connection.execute(
            "INSERT INTO eval_results BY NAME SELECT 'run' AS run_id, 'final' AS eval_id, "
            "? AS task_id, i AS sample_index, substr(?, i + 1, 1) = '1' AS passed, '' AS execution_id, "
            "'' AS completion, '' AS outcome, 0 AS n_passed, 1 AS n_asserts FROM range(?) r(i)",
            [task_id, passes, len(passes)],
        )
    assert bool(estimates(connection)) is is_known
