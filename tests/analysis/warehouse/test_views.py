"""What each view of evaluations and runs says of a few rows, worked out by hand."""

import math

import pytest

from analysis.statistics.intervals import wilson_of_mean
from tests.analysis.view_rows import evaluation, put, result, rollout, seen


def test_t_975_is_students_quantile_from_two_degrees_of_freedom_on(connection):
    table = {3: 3.18245, 4: 2.77645, 10: 2.22814, 30: 2.04227}
    for df, expected in table.items():
        assert seen(connection, f"SELECT t_975({df})") == [(pytest.approx(expected, rel=0.008),)]
    assert seen(connection, "SELECT t_975(30)") == [(pytest.approx(table[30], rel=1e-4),)]
    assert seen(connection, "SELECT t_975(1), t_975(2) > 4") == [(None, True)]


def test_an_evaluation_of_a_runs_policy_has_that_runs_algorithm_and_seed(connection):
    put(
        connection,
        "runs",
        {"run_id": "t", "algorithm": "sdpo", "seed": 7, "label": "trained", "model": "m"},
        {"run_id": "e", "parent_run_id": "t", "seed": 0, "label": "its evaluation"},
        {"run_id": "b", "seed": 3, "label": "base"},
    )
    put(connection, "evals", evaluation("e"), evaluation("t", n=0, k=0), evaluation("b", k=5))
    assert seen(
        connection,
        "SELECT run_id, policy_run_id, algorithm, seed, pass_at_1, label FROM eval_curve ORDER BY 1",
    ) == [
        ("b", "b", "base", 3, 0.5, "base"),
        ("e", "t", "sdpo", 7, 0.4, "its evaluation"),
        ("t", "t", "sdpo", 7, None, "trained"),
    ]


@pytest.mark.parametrize("adapter", ["runs/t/adapter", "/elsewhere/t/checkpoints/checkpoint-5"])
def test_an_evaluation_of_an_adapter_belongs_to_the_run_in_whose_folder_it_lies(
    connection, adapter
):
    put(
        connection,
        "runs",
        {"run_id": "t", "algorithm": "sdpo", "seed": 7, "label": "trained"},
        {"run_id": "e", "adapter": adapter, "seed": 0, "label": "its evaluation"},
        {"run_id": "f", "adapter": "another/adapter", "seed": 1, "label": "of a strange adapter"},
        {"run_id": "g", "algorithm": "grpo", "adapter": adapter, "seed": 2, "label": "goes on"},
    )
    put(connection, "evals", evaluation("e"), evaluation("f", k=3), evaluation("g", k=2))
    assert seen(connection, "SELECT run_id, algorithm, seed FROM leaderboard ORDER BY 1") == [
        ("e", "sdpo", 7),
        ("f", "base", 1),
        ("g", "grpo", 2),
    ]
    assert seen(connection, "SELECT policy_run_id FROM eval_curve WHERE run_id = 'e'") == [("t",)]


def test_the_leaderboard_has_the_last_evaluation_of_each_run_and_condition_best_first(connection):
    put(connection, "runs", {"run_id": "a", "label": "a"}, {"run_id": "b", "label": "b"})
    put(
        connection,
        "evals",
        evaluation("a", "s2", step=2, k=9),
        evaluation("a", "s10", step=10, k=3),
        evaluation("b", "final", step=None, k=5),
        evaluation("b", "s10", step=10, k=8),
        evaluation("b", "again", step=None, k=1),
        evaluation("a", "other", step=1, k=2, dataset="human"),
        evaluation("a", "form", step=1, k=2, protocol="zero"),
        evaluation("a", "sampled", step=1, k=6, decoding="T 0.7"),
    )
    assert seen(connection, "SELECT dataset, protocol, decoding, k, eval_id FROM leaderboard") == [
        ("human", "chat", "greedy", 2, "other"),
        ("mbpp", "chat", "T 0.7", 6, "sampled"),
        ("mbpp", "chat", "greedy", 5, "final"),
        ("mbpp", "chat", "greedy", 3, "s10"),
        ("mbpp", "zero", "greedy", 2, "form"),
    ]


def test_pass_at_k_counts_problems_with_equal_counts_together(connection):
    put(connection, "evals", evaluation("r", step=3), evaluation("r", "other"))
    for task, passes in ((1, 1), (2, 1), (3, 2)):
        rows = [result("r", task, index < passes, index) for index in range(3)]
        put(connection, "eval_results", *rows)
    # one problem has a fourth completion: k ends at what all have
    put(connection, "eval_results", result("r", 3, False, 3))
    expected = {1: (1 / 3 + 1 / 3 + 1 / 2) / 3, 2: (2 / 3 + 2 / 3 + 5 / 6) / 3, 3: 1.0}
    found = seen(
        connection,
        "SELECT k, step, n_problems, n_samples, pass_at_k FROM pass_at_k WHERE eval_id = 'final' ORDER BY k",
    )
    assert [row[:4] for row in found] == [(k, 3, 3, 3) for k in (1, 2, 3)]
    assert [row[4] for row in found] == pytest.approx([expected[k] for k in (1, 2, 3)])
    each = {1: (1 / 3, 1 / 3, 1 / 2), 2: (2 / 3, 2 / 3, 5 / 6), 3: (1.0, 1.0, 1.0)}
    intervals = seen(
        connection,
        "SELECT interval_low, interval_high FROM pass_at_k WHERE eval_id = 'final' ORDER BY k",
    )
    assert intervals == [pytest.approx(tuple(wilson_of_mean(each[k])), abs=1e-6) for k in (1, 2, 3)]


def test_two_problems_have_an_interval(connection):
    put(connection, "eval_results", *(result("r", task, task == 1, 0) for task in (1, 2)))
    put(connection, "eval_results", *(result("r", task, False, 1) for task in (1, 2)))
    expected = pytest.approx(tuple(wilson_of_mean([0.5, 0.0])), abs=1e-6)
    for view in ("mean_at_n", "pass_at_k WHERE k = 1"):
        ends = f"SELECT interval_low, interval_high FROM {view}"  # noqa: S608
        assert seen(connection, ends) == [expected]


def test_of_evaluations_of_one_step_the_greedy_one_is_the_headline_then_the_last_name(connection):
    put(connection, "runs", {"run_id": "a"}, {"run_id": "b"})
    for run_id, names in (("a", ("end-sampled", "end", "end-more")), ("b", ("end-1", "end-2"))):
        put(connection, "evals", *(evaluation(run_id, n, k=i) for i, n in enumerate(names)))
    assert seen(connection, "SELECT run_id, k FROM run_overview ORDER BY 1") == [("a", 1), ("b", 1)]


def test_mean_at_n_has_the_problems_interval_and_the_samplings_error(connection):
    put(connection, "evals", evaluation("r", step=3), evaluation("r", "single"))
    shares = {1: (1, 1, 1, 1), 2: (1, 1, 1, 0), 3: (1, 0, 0, 0, 0)}
    for task, passes in shares.items():
        put(
            connection,
            "eval_results",
            *(result("r", task, bool(p), i) for i, p in enumerate(passes)),
        )
    put(connection, "eval_results", result("r", 1, True, eval_id="single"))
    mean = (1 + 0.75 + 0.2) / 3
    # Wilson by how many zeros and ones the shares are worth, a 0 and a 1 added: p (1 - p) / their variance
    added = [0, 1, 1, 0.75, 0.2]
    centre = sum(added) / 5
    worth = 3 * centre * (1 - centre) / (sum(s * s for s in added) / 5 - centre * centre)
    z = 1.959964
    middle = (mean + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z * math.sqrt(mean * (1 - mean) / worth + (z / (2 * worth)) ** 2) / (1 + z * z / worth)
    error = math.sqrt(0.75 * 0.25 / 3 + 0.2 * 0.8 / 4) / 3
    assert seen(connection, "SELECT * EXCLUDE (run_id) FROM mean_at_n") == [
        (
            "final",
            3,
            4,
            3,
            13,
            8,
            pytest.approx(mean),
            pytest.approx(middle - half, abs=1e-6),
            pytest.approx(middle + half, abs=1e-6),
            pytest.approx(error),
        )
    ]


def test_mean_at_n_of_one_problem_stays_within_0_and_1(connection):
    put(connection, "eval_results", *(result("r", 1, False, i) for i in range(2)))
    found = seen(connection, "SELECT mean_at_n, interval_low, interval_high, step FROM mean_at_n")
    assert found == [(0.0, 0.0, pytest.approx(1, abs=1e-6), None)]


def test_flips_compare_like_evaluations(connection):
    put(
        connection,
        "evals",
        evaluation("a"),
        evaluation("b", eval_id="late"),
        evaluation("c", protocol="zero"),
        evaluation("d", dataset="human"),
        evaluation("a", eval_id="empty"),
    )
    for task, (before, after) in enumerate([(True, True), (True, False), (False, True)]):
        put(
            connection,
            "eval_results",
            result("a", task, before),
            result("b", task, after, eval_id="late", outcome="passed" if after else "timeout"),
            result("c", task, not before),
            result("d", task, not before),
        )
    found = seen(connection, "FROM flips ORDER BY run_a, task_id")
    assert found == [
        ("a", "final", "b", "late", "1", True, False, "lost", "passed", "timeout"),
        ("a", "final", "b", "late", "2", False, True, "gained", "wrong_answer", "passed"),
        ("b", "late", "a", "final", "1", False, True, "gained", "timeout", "passed"),
        ("b", "late", "a", "final", "2", True, False, "lost", "passed", "wrong_answer"),
    ]


def test_failure_classes_are_shares_of_a_step_or_an_evaluation(connection):
    put(
        connection,
        "rollouts",
        rollout(),
        rollout(member_index=1),
        rollout(member_index=2, outcome="timeout"),
        rollout(step=2),
    )
    put(connection, "evals", evaluation("r", step=2), evaluation("r", "late", step=2))
    put(
        connection,
        "eval_results",
        result("r", 1, True),
        result("r", 2, False),
        result("r", 1, False, eval_id="late"),
        result("r", 1, True, eval_id="unfinished"),
    )
    found = seen(
        connection, "FROM failure_classes ORDER BY source, eval_id NULLS FIRST, step, outcome"
    )
    rows = [
        ("r", "eval_results", "final", 2, "passed", 1, 1 / 2),
        ("r", "eval_results", "final", 2, "wrong_answer", 1, 1 / 2),
        ("r", "eval_results", "late", 2, "wrong_answer", 1, 1.0),
        ("r", "eval_results", "unfinished", None, "passed", 1, 1.0),
        ("r", "rollouts", None, 1, "timeout", 1, 1 / 3),
        ("r", "rollouts", None, 1, "wrong_answer", 2, 2 / 3),
        ("r", "rollouts", None, 2, "wrong_answer", 1, 1.0),
    ]
    assert found == rows
    read = seen(connection, "FROM failure_classes WHERE source = 'rollouts' AND step = 1")
    assert [row[4] for row in read] == ["wrong_answer", "timeout"], "the most frequent first"


def test_numbers_within_a_task_id_are_sorted_as_numbers(connection):
    ids = ["10", "9", "mine/10", "mine/9", "12345678901234567890123", "a"]
    query = "SELECT id FROM (SELECT unnest($1) AS id) ORDER BY task_order(id)"
    found = [row[0] for row in connection.execute(query, [ids]).fetchall()]
    assert found == ["9", "10", "12345678901234567890123", "a", "mine/9", "mine/10"]


def test_a_cell_of_the_solve_matrix_has_the_best_completion(connection):
    put(connection, "evals", evaluation("r", step=4))
    put(
        connection,
        "eval_results",
        result("r", 1, False, 0, n_passed=1, n_asserts=4),
        result("r", 1, True, 1, n_passed=4, n_asserts=4),
        result("r", 1, False, 2, n_passed=0, n_asserts=4),
        result("r", 2, False, 0, n_passed=0, n_asserts=0),
        result("r", 3, False, 0, n_passed=1, n_asserts=1, eval_id="unfinished"),
    )
    assert seen(connection, "FROM solve_matrix ORDER BY task_id") == [
        ("r", "final", 4, "1", 3, 1, 1 / 3, 1.0),
        ("r", "final", 4, "2", 1, 0, 0.0, None),
        ("r", "unfinished", None, "3", 1, 0, 0.0, 1.0),
    ]


def test_a_runs_overview_has_its_last_state_step_reward_and_evaluation(connection):
    config = '{"training": {"max_steps": 20}}'
    put(
        connection,
        "runs",
        {"run_id": "a", "created_at": "2026-01-02", "config": config},
        {"run_id": "b", "created_at": "2026-01-01", "config": '{"training": {"max_steps": -1}}'},
    )
    for attempt, state in enumerate(["failed", "running"]):
        error = "full disk" if state == "failed" else None
        row = {"run_id": "a", "attempt": attempt, "state": state, "changed_at": f"t{attempt}"}
        put(connection, "run_states", row | {"error": error})
    for step, reward in ((1, 0.1), (2, 0.2), (3, 0.7)):
        row = {"run_id": "a", "step": step}
        put(connection, "metrics", row | {"name": "reward", "value": reward})
        put(connection, "metrics", row | {"name": "loss", "value": 9.0})
    put(connection, "metrics", {"run_id": "a", "step": 4, "name": "loss", "value": 8.0})
    put(connection, "rollouts", rollout("a", step=5), rollout("a", step=1))
    put(
        connection,
        "evals",
        evaluation("a", "first", step=1, k=1, n=10),
        evaluation("a", "middle", step=9, k=2, n=20),
        evaluation("a", "final", step=None, k=3, n=30),
    )
    columns = "run_id, state, n_attempts, state_at, last_step, planned_steps, n_rollouts, last_reward, k, n, pass_at_1"
    assert seen(connection, f"SELECT {columns} FROM run_overview") == [  # noqa: S608
        ("b", None, None, None, None, None, 0, None, None, None, None),
        ("a", "running", 2, "t1", 5, 20, 2, 0.7, 3, 30, 0.1),
    ]


@pytest.mark.parametrize("uneven", [False, True])
def test_several_completions_a_problem_are_shown_by_their_mean_and_none_is_called_solved(
    connection, uneven
):
    put(connection, "runs", {"run_id": "r", "label": "sampled"}, {"run_id": "s", "label": "single"})
    first = {"n": 2, "k": 2, "interval_low": 0.34, "interval_high": 1.0}
    put(connection, "evals", evaluation("r", **first), evaluation("s", **first))
    put(connection, "eval_results", result("r", 1, True), result("r", 1, False, 1))
    put(connection, "eval_results", *(result("s", task, True) for task in (1, 2)))
    put(connection, "eval_results", result("r", 2, True))
    shares, n_passed, n_answers = [0.5, 1.0], 2, 3
    if not uneven:
        put(connection, "eval_results", result("r", 2, False, 1))
        shares, n_passed, n_answers = [0.5, 0.5], 2, 4
    low, high = wilson_of_mean(shares)
    for view in ("leaderboard", "eval_curve"):
        found = seen(
            connection,
            f"""SELECT k, n, n_passed, n_answers, pass_at_1, interval_low, interval_high FROM {view}
                ORDER BY run_id""",  # noqa: S608
        )
        assert found[0][:4] == (None, 2, n_passed, n_answers)
        assert found[0][4:] == pytest.approx((sum(shares) / 2, low, high), abs=1e-6)
        assert found[1] == (2, 2, 2, 2, 1.0, 0.34, 1.0)
    overview = "SELECT k, n, n_passed, n_answers, pass_at_1 FROM run_overview ORDER BY run_id"
    assert seen(connection, overview) == [
        (None, 2, n_passed, n_answers, sum(shares) / 2),
        (2, 2, 2, 2, 1.0),
    ]


def test_of_several_completions_a_problem_no_flip_is_told(connection):
    put(connection, "evals", *(evaluation(run) for run in "ab"))
    put(connection, "evals", evaluation("c", decoding="T 0.7"), evaluation("d", dataset_sha256="x"))
    put(connection, "evals", evaluation("e", dataset_sha256="y"))
    for run, passed in zip("abcde", (True, False, False, True, False), strict=True):
        put(connection, "eval_results", result(run, 1, passed))
    query = "SELECT run_a, run_b FROM flips WHERE passed_a ORDER BY ALL"
    assert seen(connection, query) == [("a", "b"), ("a", "e"), ("d", "b")]
    put(connection, "eval_results", result("b", 1, True, 1))
    assert seen(connection, query) == [("a", "e")]
