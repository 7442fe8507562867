"""What each view says of a few rows, worked out by hand."""

import math

import duckdb
import pytest

from analysis.schema import schema_sql


@pytest.fixture(scope="module")
def warehouse():
    with duckdb.connect() as made:
        made.execute(schema_sql())
        yield made


@pytest.fixture
def connection(warehouse):
    """An empty warehouse; what a test puts into it is taken back."""
    warehouse.begin()
    yield warehouse
    warehouse.rollback()


def put(connection, table, *rows):
    for row in rows:
        marks = ", ".join("?" * len(row))
        query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608
        connection.execute(query, list(row.values()))


def seen(connection, query):
    return connection.execute(query).fetchall()


def evaluation(run_id, eval_id="final", **changes):
    plain = {"dataset": "mbpp", "protocol": "chat", "decoding": "greedy", "n": 10, "k": 4}
    return {"run_id": run_id, "eval_id": eval_id} | plain | changes


def result(run_id, task_id, passed, sample_index=0, eval_id="final", **changes):
    return {
        "run_id": run_id,
        "eval_id": eval_id,
        "task_id": task_id,
        "sample_index": sample_index,
        "passed": passed,
        "outcome": "passed" if passed else "wrong_answer",
        **changes,
    }


def rollout(run_id="r", step=1, group_index=0, member_index=0, **changes):
    plain = {
        "reward": 0.0,
        "correctness": 0.0,
        "format_score": 0.0,
        "n_passed": 0,
        "n_asserts": 3,
        "truncated": False,
        "n_completion_tokens": 10,
        "outcome": "wrong_answer",
        "feedback_used": False,
        "execution_id": f"r{step}.{group_index}.{member_index}",
    }
    place = {"step": step, "group_index": group_index, "member_index": member_index}
    return {"run_id": run_id} | place | plain | changes


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


def test_the_reward_of_a_step_and_its_interval_over_groups(connection):
    groups = {0: (0.0, 0.3), 1: (0.4, 0.4), 2: (1.3, 0.9, 1.1)}
    for group, rewards in groups.items():
        for member, reward in enumerate(rewards):
            solved = reward > 0.8
            put(
                connection,
                "rollouts",
                rollout(
                    group_index=group,
                    member_index=member,
                    reward=reward,
                    correctness=reward / 2,
                    format_score=reward / 4,
                    # one was not graded and not measured
                    n_passed=None if (group, member) == (0, 0) else 3 if solved else 0,
                    truncated=None if (group, member) == (1, 0) else solved,
                    n_completion_tokens=10 + member,
                ),
            )
    put(connection, "rollouts", rollout(step=2, reward=0.5), rollout(step=2, member_index=1))
    first, second = seen(connection, "SELECT * EXCLUDE (run_id) FROM reward_curve ORDER BY step")
    names = [c[0] for c in connection.execute("FROM reward_curve").description[1:]]
    first, second = dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
    means = [0.15, 0.4, 1.1]
    mean = sum(means) / 3
    deviation = math.sqrt(sum((m - mean) ** 2 for m in means) / 2)
    half = seen(connection, "SELECT t_975(2)")[0][0] * deviation / math.sqrt(3)
    assert first == pytest.approx(
        {
            "step": 1,
            "n_completions": 7,
            "n_groups": 3,
            "reward_mean": 4.4 / 7,
            "interval_low": mean - half,
            "interval_high": mean + half,
            "correctness_mean": 2.2 / 7,
            "format_mean": 1.1 / 7,
            "solved_fraction": 3 / 6,
            "truncated_fraction": 3 / 6,
            "completion_tokens_mean": (10 + 11 + 10 + 11 + 10 + 11 + 12) / 7,
            "flat_group_fraction": 1 / 3,
        }
    )
    assert second["interval_low"] is None and second["flat_group_fraction"] == 0
    assert second["reward_mean"] == 0.25 and second["n_groups"] == 1


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


def test_flips_compare_first_completions_of_like_evaluations(connection):
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
            result("a", task, not before, 1),
            result("b", task, after, eval_id="late", outcome="passed" if after else "timeout"),
            result("c", task, not before),
            result("d", task, not before),
        )
    found = seen(connection, "FROM flips ORDER BY run_a, task_id")
    assert found == [
        ("a", "final", "b", "late", 1, True, False, "lost", "passed", "timeout"),
        ("a", "final", "b", "late", 2, False, True, "gained", "wrong_answer", "passed"),
        ("b", "late", "a", "final", 1, False, True, "gained", "timeout", "passed"),
        ("b", "late", "a", "final", 2, True, False, "lost", "passed", "wrong_answer"),
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
        ("r", "final", 4, 1, 3, 1, 1 / 3, 1.0),
        ("r", "final", 4, 2, 1, 0, 0.0, None),
        ("r", "unfinished", None, 3, 1, 0, 0.0, 1.0),
    ]


def test_an_audit_passes_where_every_check_does_and_names_the_step_of_the_largest_difference(
    connection,
):
    def check(step, delta, passed, layer="loss"):
        return {"run_id": "r", "step": step, "layer": layer, "delta": delta, "passed": passed,
                "threshold": 0.1 if step == 1 else 0.2}  # fmt: skip

    put(connection, "audits", check(1, 0.05, True), check(2, 0.3, False), check(3, 0.0, True))
    put(connection, "audits", check(1, 0.0, True, "teacher"))
    assert seen(connection, "FROM audit_summary ORDER BY layer") == [
        ("r", "loss", 3, 2, 0.3, 2, 0.1, False),
        ("r", "teacher", 1, 1, 0.0, 1, 0.1, True),
    ]


def test_coverage_of_the_teacher_is_over_all_completions(connection):
    shown = {"teacher_prompt": "p", "demonstration_member": 0, "feedback": "f"}
    put(
        connection,
        "rollouts",
        rollout(**shown),
        rollout(member_index=1, **shown),
        rollout(member_index=2, teacher_prompt="q", feedback="f", feedback_used=True),
        rollout(member_index=3),
        rollout(step=2),
    )
    assert seen(connection, "FROM teacher_coverage ORDER BY step") == [
        ("r", 1, 4, 3 / 4, 2 / 4, 1 / 4, 3 / 4),
        ("r", 2, 1, 0.0, 0.0, 0.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("context", "row", "expected"),
    [
        ("peer", {"teacher_prompt": None}, "none"),
        ("peer", {"demonstration_member": 2, "feedback_used": True}, "demonstration + feedback"),
        ("peer", {"demonstration_member": 2}, "demonstration"),
        ("peer", {"feedback_used": True}, "feedback"),
        ("nothing", {}, "own prompt"),
        ("reference", {"feedback_used": True}, "reference + feedback"),
        ("reference", {}, "reference"),
    ],
)
def test_a_reward_stands_with_what_the_teacher_was_shown(connection, context, row, expected):
    config = f'{{"bench": {{"teacher_context": "{context}"}}}}'
    put(connection, "runs", {"run_id": "r", "config": config})
    row = {"teacher_prompt": "p"} | row
    put(connection, "rollouts", rollout(reward=1.0, **row), rollout(member_index=1, **row))
    put(connection, "rollouts", rollout(run_id="unknown"))
    found = seen(connection, "FROM reward_by_teacher_kind")
    assert found == [("r", 1, expected, 2, 0.5)]


def answer(task_id, shown, passed, greedy=True, run_id="r"):
    return {
        "run_id": run_id,
        "task_id": task_id,
        "shown": shown,
        "greedy": greedy,
        "passed": passed,
    }


def test_the_gap_is_paired_with_being_shown_nothing(connection):
    put(connection, "runs", {"run_id": "r", "model": "m"}, {"run_id": "s", "model": "m"})
    outcomes = {
        1: (False, True),
        2: (False, True),
        3: (True, False),
        4: (True, True),
        5: (False, False),
    }
    for task, (nothing, peer) in outcomes.items():
        put(connection, "gap_answers", answer(task, "nothing", nothing), answer(task, "peer", peer))
        # neither samples nor other runs are their pairs
        put(connection, "gap_answers", answer(task, "nothing", not nothing, greedy=False))
        put(connection, "gap_answers", answer(task, "peer", not peer, greedy=False))
        put(connection, "gap_answers", answer(task, "nothing", not nothing, run_id="s"))
    put(connection, "gap_answers", answer(6, "peer", True))  # without a pair
    (row,) = seen(connection, "SELECT * EXCLUDE (run_id, model, measure) FROM teacher_gap "
                              "WHERE run_id = 'r' AND shown = 'peer'")  # fmt: skip
    up, down = (2 + 1) / 7, (1 + 1) / 7
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 7)
    assert row == (
        "peer",
        5,
        2 / 5,
        3 / 5,
        pytest.approx(1 / 5),
        pytest.approx(up - down - half),
        pytest.approx(up - down + half),
    )
    assert seen(
        connection,
        "SELECT n, nothing, difference, interval_low, interval_high FROM teacher_gap "
        "WHERE run_id = 'r' AND shown = 'nothing'",
    ) == [(5, 2 / 5, 0.0, None, None)]


def test_the_interval_of_a_gap_stays_within_a_pass_rates_range(connection):
    put(connection, "runs", {"run_id": "r"})
    for shown, passed in (("nothing", False), ("peer", True), ("wrong", False)):
        put(connection, "gap_answers", answer(1, shown, passed))
    query = "SELECT interval_low, interval_high FROM teacher_gap WHERE shown = 'peer'"
    ((low, high),) = seen(connection, query)
    assert high == 1.0 and low > -1.0
    connection.execute("UPDATE gap_answers SET passed = NOT passed")
    ((low, high),) = seen(connection, query)
    assert low == -1.0 and high < 1.0


def test_a_gap_in_log_probability_averages_a_problems_samples_and_has_students_interval(connection):
    put(connection, "runs", {"run_id": "r"})
    differences = []
    for task in (1, 2, 3):
        for sample in (0, 1):
            for shown, value in (("nothing", -2.0), ("peer", -2.0 + 0.1 * task * task + sample)):
                row = {"run_id": "r", "task_id": task, "sample_index": sample, "shown": shown}
                put(connection, "gap_logprobs", row | {"passed": True, "mean_logprob": value})
        differences.append(0.1 * task * task + 0.5)
    failing = {"run_id": "r", "task_id": 1, "sample_index": 2, "passed": False}
    put(connection, "gap_logprobs", failing | {"shown": "nothing", "mean_logprob": -9.0})
    put(connection, "gap_logprobs", failing | {"shown": "peer", "mean_logprob": -8.0})
    mean = sum(differences) / 3
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2)
    half = seen(connection, "SELECT t_975(2)")[0][0] * deviation / math.sqrt(3)
    assert seen(
        connection,
        "SELECT n, nothing, value, difference, interval_low, interval_high FROM teacher_gap "
        "WHERE measure = 'passing_logprob' AND shown = 'peer'",
    ) == [
        (
            3,
            -2.0,
            pytest.approx(mean - 2.0),
            pytest.approx(mean),
            pytest.approx(mean - half),
            pytest.approx(mean + half),
        )
    ]
    assert seen(
        connection,
        "SELECT n, difference FROM teacher_gap WHERE measure = 'failing_logprob' AND shown = 'peer'",
    ) == [(1, 1.0)]


def test_a_steps_time_is_split_over_the_phases_that_were_measured(connection):
    def metric(name, value, step=1):
        return {"run_id": "r", "step": step, "name": name, "value": value}

    put(
        connection,
        "metrics",
        metric("time/sampling_s", 3.0),
        metric("time/student_s", 1.0),
        metric("time/broken_s", math.nan),
        metric("loss", 5.0),
        metric("time/sampling_s", 0.0, step=2),
        metric("time/sampling_s", 2.0, step=3),
    )
    assert seen(connection, "FROM step_time_split ORDER BY step, phase") == [
        ("r", 1, "sampling", 3.0, 0.75),
        ("r", 1, "student", 1.0, 0.25),
        ("r", 2, "sampling", 0.0, None),
        ("r", 3, "sampling", 2.0, 1.0),
    ]


def test_the_cost_of_executions_is_that_of_a_run(connection):
    for number in range(101):
        put(
            connection,
            "executions",
            {"run_id": "r", "wall_ms": float(number), "cpu_ms": 500.0, "peak_memory_bytes": number},
        )
    put(connection, "executions", {"run_id": "s", "wall_ms": 1.0, "cpu_ms": 1.0})
    assert seen(connection, "FROM sandbox_latency WHERE run_id = 'r'") == [
        ("r", 101, 50.0, 95.0, 100.0, 50.5, 100)
    ]


def test_suspects_are_the_completions_with_a_suspicion_of_their_own(connection):
    put(
        connection,
        "rollouts",
        rollout(suspicion="ends the process", code="sys.exit()", reward=0.5, task_id=9, n_passed=1),
        rollout(member_index=1, suspicion="", code="return x"),
        rollout(member_index=2, suspicion=None, code="return 1"),
    )
    found = seen(
        connection, "SELECT task_id, reward, n_passed, reasons, code FROM reward_hacking_suspects"
    )
    assert found == [(9, 0.5, 1, "ends the process", "sys.exit()")]


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
