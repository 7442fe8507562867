"""What each view of training says of a few rows, worked out by hand."""

import math

import pytest

from tests.analysis.view_rows import put, rollout, seen


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
    mean = 4.4 / 7
    distances = [sum(rewards) - len(rewards) * mean for rewards in groups.values()]
    deviation = math.sqrt(sum(d * d for d in distances) / 2) / (7 / 3)
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


def test_the_band_of_the_reward_is_around_its_line_whatever_the_sizes_of_the_groups(connection):
    """A band around another mean than the line's can leave the line outside."""
    for group, n in enumerate((1, 1, 1, 30)):
        for member in range(n):
            reward = 1.0 if n == 30 else 0.1 * group
            put(
                connection,
                "rollouts",
                rollout(group_index=group, member_index=member, reward=reward),
            )
    ((mean, low, high),) = seen(
        connection, "SELECT reward_mean, interval_low, interval_high FROM reward_curve"
    )
    assert mean == pytest.approx(30.3 / 33)
    assert low < mean < high and mean - low == pytest.approx(high - mean)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_groups_that_agree_have_no_band_at_any_scale_of_rewards(connection, scale):
    for group, step in ((g, s) for g in range(40) for s in (1, 2)):
        for member, reward in enumerate((0.1, 0.7, 1 / 3)):
            shifted = reward + (step == 2 and group == 0)
            row = rollout(step=step, group_index=group, member_index=member, reward=shifted * scale)
            put(connection, "rollouts", row)
    ends = "SELECT interval_low IS NULL, interval_high IS NULL FROM reward_curve ORDER BY step"
    assert seen(connection, ends) == [(True, True), (False, False)]


def test_groups_of_equal_means_count_each_and_a_step_without_rewards_has_none(connection):
    for group, reward in enumerate((0.0, 0.0, 1.0, 1.0)):
        put(connection, "rollouts", rollout(group_index=group, reward=reward))
    put(connection, "rollouts", rollout(step=2, reward=None))
    half = seen(connection, "SELECT t_975(3)")[0][0] * math.sqrt(1 / 3) / math.sqrt(4)
    ends = "SELECT reward_mean, interval_low, interval_high FROM reward_curve ORDER BY step"
    assert seen(connection, ends) == [
        (0.5, pytest.approx(0.5 - half), pytest.approx(0.5 + half)),
        (None, None, None),
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


def test_the_views_that_troubleshooting_names_are_read_step_by_step(connection):
    steps = [7, 3, 12, 1, 9]
    put(connection, "rollouts", *(rollout(step=step) for step in steps))
    for view in ("teacher_coverage", "failure_classes"):
        assert seen(connection, f"SELECT step FROM {view}") == [(s,) for s in sorted(steps)]  # noqa: S608 - ours


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
    assert seen(connection, "FROM teacher_coverage") == [
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
            alone = -2.0 - task  # problems differ by more than what is shown
            for shown, value in (("nothing", alone), ("peer", alone + 0.1 * task * task + sample)):
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
            -4.0,
            pytest.approx(mean - 4.0),
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
    assert found == [("9", 0.5, 1, "ends the process", "sys.exit()")]


def test_a_mean_is_over_the_completions_that_tell_it(connection):
    unsaid = {"correctness": None, "format_score": None, "n_completion_tokens": None}
    put(
        connection,
        "rollouts",
        rollout(correctness=0.5, format_score=1.0, n_completion_tokens=20),
        rollout(member_index=1, **unsaid),
        rollout(step=2, **unsaid),
    )
    assert seen(
        connection,
        "SELECT correctness_mean, format_mean, completion_tokens_mean FROM reward_curve ORDER BY step",
    ) == [(0.5, 1.0, 20.0), (None, None, None)]


def test_imported_completions_say_nothing_of_a_teacher(connection):
    put(connection, "runs", {"run_id": "r", "algorithm": "sdpo", "config": "{}"})
    put(connection, "rollouts", rollout(outcome="imported"), rollout(step=2))
    assert seen(connection, "SELECT step, coverage_fraction FROM teacher_coverage") == [(2, 0.0)]
    assert seen(connection, "SELECT step, teacher_kind FROM shown_to_teacher") == [(2, "none")]
