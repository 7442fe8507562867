"""What each figure shows, counted a second time from the stored rows."""

import itertools
import math
import statistics
from collections import defaultdict

import pytest

from analysis import queries
from analysis.charts.training import _laid_out
from analysis.report.figures import FIGURES
from analysis.warehouse.warehouse import connect

T_975 = {2: 4.30265, 3: 3.18245, 47: 2.01174}
"""Quantiles of Student's t, from a table."""


@pytest.fixture(scope="module")
def connection(recorded):
    with connect(recorded / "results" / "results.duckdb") as opened:
        yield opened


def stored(connection, query):
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_pass_at_1_is_k_of_n_with_its_wilson_interval(connection):
    rows = queries.eval_curve(connection).records()
    assert {row["step"] for row in rows} == {0, 6, 12}
    for row in rows:
        assert row["pass_at_1"] == row["n_passed"] / row["n"]
        assert row["interval_low"] < row["pass_at_1"] < row["interval_high"]


def test_reward_bins_hold_every_completion_once(connection):
    rows = queries.reward_curve(connection, n_bins=4).records()
    counted = {}
    for row in rows:
        counted[row["algorithm"]] = counted.get(row["algorithm"], 0) + row["n_completions"]
    assert counted == {"sdpo": 2 * 12 * 16, "grpo": 12 * 16, "audit": 6 * 16}
    assert {row["seed"] for row in rows if row["algorithm"] == "sdpo"} == {"42, 43"}


def test_flips_count_every_problem_once_and_compare_like_with_like(connection):
    rows = queries.flips(connection).records()
    assert sum(row["n"] for row in rows) == 60
    assert (rows[0]["name_a"], rows[0]["name_b"]) == ("grpo-42 @ 12", "sdpo-42 @ 12")
    assert 0 < rows[0]["p_value"] <= 1


def test_pass_at_k_agrees_with_its_definition(connection):
    from math import comb

    rows = queries.pass_at_k(connection).records()
    counts = [
        c
        for (c,) in connection.execute(
            """SELECT count(*) FILTER (passed) FROM eval_results
               WHERE run_id = 'eval-sampled' GROUP BY task_id"""
        ).fetchall()
    ]
    assert [row["k"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        expected = sum(1 - comb(4 - c, row["k"]) / comb(4, row["k"]) for c in counts) / len(counts)
        assert row["pass_at_k"] == pytest.approx(expected, abs=1e-12)
    assert rows[0]["algorithm"] == "sdpo", "the evaluation names its policy's run as parent"


def test_failure_classes_add_up(connection):
    rows = queries.failure_classes(connection, ["train-grpo-42"]).records()
    assert sum(row["n"] for row in rows) == 12 * 16


def test_inside_sdpo_shows_coverage_and_the_logged_metrics_and_no_grpo(connection):
    rows = queries.sdpo_internals(connection, n_bins=12).records()
    assert {row["algorithm"] for row in rows} == {"sdpo", "audit"}
    by_step = defaultdict(list)
    for row in stored(connection, "FROM rollouts WHERE run_id = 'train-sdpo-42'"):
        by_step[row["step"]].append(row["teacher_prompt"] is not None)
    shown = {
        row["step"]: row["value"]
        for row in rows
        if row["run_id"] == "train-sdpo-42" and row["quantity"] == "completions with a teacher"
    }
    assert shown == {step: sum(taught) / len(taught) for step, taught in by_step.items()}
    logged = {
        row["step"]: row["value"]
        for row in stored(
            connection,
            "FROM metrics WHERE run_id = 'train-sdpo-42' AND name = 'distill/loss' AND step > 0",
        )
    }
    drawn = {
        row["step"]: row["value"]
        for row in rows
        if row["run_id"] == "train-sdpo-42" and row["quantity"] == "distillation loss"
    }
    assert drawn == logged


def test_audit_deltas_are_the_largest_of_each_step(connection):
    expected = defaultdict(float)
    for row in stored(connection, "FROM audits"):
        key = row["layer"], row["step"]
        expected[key] = max(expected[key], row["delta"])
    rows = queries.audits(connection).records()
    assert {(row["layer"], row["step"]): row["delta"] for row in rows} == expected
    assert len(rows) == len(expected)
    assert {row["threshold"] for row in rows} == {1e-6}


def test_the_forest_plot_has_the_last_evaluation_of_each_run_with_wilsons_interval(connection):
    rows = {row["name"]: row for row in queries.comparison(connection).records()}
    assert set(rows) == {"base", "sampled", "sdpo-42 @ 12", "grpo-42 @ 12", "sdpo-43 @ 12"}
    row = rows["grpo-42 @ 12"]
    passed = stored(
        connection,
        "FROM eval_results WHERE run_id = 'train-grpo-42' AND eval_id = 'step-12'",
    )
    k, n, z = sum(r["passed"] for r in passed), len(passed), 1.959964
    assert row["counts"] == f"{k} / {n}"
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    assert row["interval_low"] == pytest.approx(centre - half, abs=1e-6)
    assert row["interval_high"] == pytest.approx(centre + half, abs=1e-6)


def test_the_solve_matrix_has_a_cell_for_each_problem_and_evaluation_of_one_run(connection):
    rows = queries.solve_matrix(connection, ["train-sdpo-42"]).records()
    expected = {
        (row["step"], row["task_id"]): int(row["passed"])
        for row in stored(
            connection,
            """SELECT e.step, task_id, passed FROM eval_results r JOIN evals e USING (run_id, eval_id)
               WHERE run_id = 'train-sdpo-42'""",
        )
    }
    assert {(row["step"], row["task_id"]): row["n_solved"] for row in rows} == expected
    assert len(rows) == 3 * 60
    assert len({row["run_id"] for row in queries.solve_matrix(connection).records()}) == 1


def test_the_solve_matrix_holds_one_of_two_evaluations_at_a_step(changeable):
    """Two in one cell would hide each other: the greedy ones, where as many were sampled beside them."""
    for query in (
        """INSERT INTO evals SELECT * REPLACE (eval_id || '-sampled' AS eval_id, 'sampled' AS decoding)
           FROM evals WHERE run_id = 'train-sdpo-42'""",
        """INSERT INTO eval_results SELECT * REPLACE (eval_id || '-sampled' AS eval_id, NOT passed AS passed)
           FROM eval_results WHERE run_id = 'train-sdpo-42'""",
    ):
        changeable.execute(query)
    rows = queries.solve_matrix(changeable, ["train-sdpo-42"]).records()
    assert len(rows) == len({(row["step"], row["task_id"]) for row in rows}) == 3 * 60
    assert not any(row["eval_id"].endswith("-sampled") for row in rows)


def test_curves_of_other_problems_are_in_a_figure_of_their_own(changeable):
    for query in (
        "INSERT INTO runs SELECT * REPLACE ('other' AS run_id) FROM runs WHERE run_id = 'eval-sampled'",
        """INSERT INTO evals SELECT * REPLACE ('other' AS run_id, 'easy' AS dataset)
           FROM evals WHERE run_id = 'eval-sampled'""",
        """INSERT INTO eval_results SELECT * REPLACE ('other' AS run_id)
           FROM eval_results WHERE run_id = 'eval-sampled'""",
    ):
        changeable.execute(query)
    names = {row["dataset"]: row["name"] for row in queries.pass_at_k(changeable).records()}
    assert len(names) == len(set(names.values())) == 2
    (figure,) = [figure for figure in FIGURES if figure.name == "pass_at_k"]
    assert set(figure.settings) == {"dataset", "protocol"}


def test_groups_without_signal_are_those_of_equal_rewards(connection):
    groups = defaultdict(list)
    for row in stored(connection, "FROM rollouts WHERE run_id = 'train-grpo-42'"):
        groups[row["step"], row["group_index"]].append(row["reward"])
    flat = defaultdict(list)
    for (step, _), rewards in groups.items():
        flat[step].append(len(set(rewards)) == 1)
    rows = queries.signal(connection, ["train-grpo-42"], n_bins=12).records()
    assert {row["step"]: row["flat_fraction"] for row in rows} == {
        step: sum(values) / len(values) for step, values in flat.items()
    }
    for row in rows:
        bounds = (0, row["interval_low"], row["flat_fraction"], row["interval_high"], 1)
        assert all(low <= high + 1e-12 for low, high in itertools.pairwise(bounds))


def test_reward_by_what_the_teacher_was_shown_counts_each_completion_once(connection):
    rewards = defaultdict(list)
    for row in stored(connection, "FROM rollouts WHERE run_id = 'train-sdpo-42'"):
        shown = [
            name
            for name, there in (
                ("demonstration", row["demonstration_member"] is not None),
                ("feedback", row["feedback_used"]),
            )
            if there
        ]
        kind = "no teacher" if row["teacher_prompt"] is None else " + ".join(shown) or "feedback"
        rewards[kind].append(row["reward"])
    rows = queries.teacher_kinds(connection, ["train-sdpo-42"]).records()
    assert {row["teacher_kind"]: row["n"] for row in rows} == {
        kind: len(values) for kind, values in rewards.items()
    }
    for row in rows:
        assert row["reward_mean"] == pytest.approx(statistics.mean(rewards[row["teacher_kind"]]))
    assert queries.teacher_kinds(connection, ["train-grpo-42"]).rows == []


def test_several_samples_are_shown_by_their_mean_as_compare_says_it(connection):
    (row,) = [r for r in queries.comparison(connection).records() if r["label"] == "sampled"]
    ((n, n_passed),) = connection.execute(
        "SELECT count(*), count(*) FILTER (passed) FROM eval_results WHERE run_id = 'eval-sampled'"
    ).fetchall()
    assert (n, row["n"]) == (240, 60) and row["k"] is None
    assert row["pass_at_1"] == pytest.approx(n_passed / 240)
    assert row["counts"] == f"{n_passed} / 240 answers"
    ((low, high),) = connection.execute(
        "SELECT interval_low, interval_high FROM mean_at_n WHERE run_id = 'eval-sampled'"
    ).fetchall()
    assert (row["interval_low"], row["interval_high"]) == (low, high)


@pytest.fixture
def changeable(recorded, warehouse):
    """The recorded runs with rollouts and evaluations, in a warehouse that a test may change."""
    warehouse.execute(f"ATTACH '{recorded}/results/results.duckdb' AS made (READ_ONLY)")
    warehouse.begin()
    for name in ("runs", "rollouts", "evals", "eval_results"):
        warehouse.execute(f"INSERT INTO {name} FROM made.main.{name}")  # noqa: S608
    yield warehouse
    warehouse.rollback()
    warehouse.execute("DETACH made")


def test_completions_of_one_group_do_not_narrow_the_bar_of_what_the_teacher_was_shown(changeable):
    def row():
        (found,) = queries.teacher_kinds(changeable, ["train-sdpo-42"]).records()
        return found

    changeable.execute("UPDATE rollouts SET teacher_prompt = NULL, reward = group_index / 4")
    some = row()
    changeable.execute("DELETE FROM rollouts WHERE member_index > 0")
    one = row()
    for end in ("reward_mean", "interval_low", "interval_high"):
        assert some[end] == pytest.approx(one[end]), "four that are alike say no more than one"
    half = T_975[47] * statistics.stdev([group / 4 for group in range(4)] * 12) / 48**0.5
    assert one["interval_high"] - one["reward_mean"] == pytest.approx(half, rel=1e-3)
    changeable.execute("UPDATE rollouts SET reward = 0.3")
    assert row()["interval_low"] is row()["interval_high"] is None


def test_the_band_of_the_reward_is_students_interval_over_groups(connection):
    (row,) = [
        row
        for row in queries.reward_curve(connection, ["train-grpo-42"], n_bins=1).records()
        if row["algorithm"] == "grpo"
    ]
    groups = defaultdict(list)
    for rollout in stored(connection, "FROM rollouts WHERE run_id = 'train-grpo-42'"):
        groups[rollout["step"], rollout["group_index"]].append(rollout["reward"])
    means = [statistics.mean(rewards) for rewards in groups.values()]
    half = T_975[47] * statistics.stdev(means) / math.sqrt(len(means))
    assert row["n_groups"] == 48
    assert row["reward_mean"] == pytest.approx(statistics.mean(means))
    assert row["interval_low"] == pytest.approx(statistics.mean(means) - half, abs=1e-4)


def test_the_reward_of_a_bin_is_that_of_its_completions_in_the_view_too(changeable):
    """Groups of different sizes: half of the completions of every second group are missing."""
    changeable.execute("DELETE FROM rollouts WHERE member_index > 0 AND group_index % 2 = 1")
    rows = queries.reward_curve(changeable, ["train-grpo-42"], n_bins=12).records()
    ends = ("reward_mean", "interval_low", "interval_high")
    view = stored(
        changeable, "FROM reward_curve WHERE run_id = 'train-grpo-42' AND step > 0 ORDER BY step"
    )
    assert len(rows) == len(view) == 12
    for drawn, seen in zip(rows, view, strict=True):
        assert [drawn[end] for end in ends] == pytest.approx([seen[end] for end in ends])


def test_the_time_of_a_step_is_the_mean_of_each_phase_over_all_steps(connection):
    seconds = defaultdict(list)
    for row in stored(
        connection,
        "FROM metrics WHERE run_id = 'train-sdpo-42' AND name LIKE 'time/%' AND step > 0",
    ):
        seconds[row["name"].removeprefix("time/").removesuffix("_s")].append(row["value"])
    rows = queries.step_time(connection, ["train-sdpo-42"]).records()
    assert {row["phase"] for row in rows} == {"sample", "grade", "teacher", "update"}
    for row in rows:
        assert row["n_steps"] == 12
        assert row["seconds_mean"] == pytest.approx(sum(seconds[row["phase"]]) / 12)


def test_sandbox_latency_is_the_distribution_of_all_executions(connection):
    times = sorted(
        row["wall_ms"]
        for row in stored(connection, "FROM executions WHERE run_id = 'train-grpo-42'")
    )
    rows = queries.sandbox_latency(connection, ["train-grpo-42"]).records()
    assert [row["fraction"] for row in rows] == pytest.approx([i / 100 for i in range(101)])
    assert rows[0]["n"] == len(times)
    assert (rows[0]["wall_ms"], rows[-1]["wall_ms"]) == (times[0], times[-1])
    assert rows[50]["wall_ms"] == pytest.approx(statistics.median(times))


def test_the_heatmap_is_of_the_completion_on_which_they_differ_most(connection):
    values = defaultdict(list)
    for row in stored(connection, "FROM token_stats"):
        key = row["run_id"], row["step"], row["group_index"], row["member_index"]
        values[key].append(row["divergence"])
    worst = max(values, key=lambda key: statistics.mean(values[key]))
    rows = queries.token_divergence(connection).records()
    assert (rows[0]["run_id"], rows[0]["step"]) == worst[:2]
    assert [row["divergence"] for row in rows] == values[worst]


def test_the_text_of_the_heatmap_is_the_completions_with_each_token_in_its_place():
    texts = ["def", " f", "(x", "):\n", "    ", "return", " x", "\n", "\n", "y" * 100, "\ta"]
    tokens = [
        {"token": text, "divergence": i, "student_logprob": -1.0, "teacher_logprob": None}
        for i, text in enumerate(texts)
    ]
    cells = _laid_out(tokens)
    lines = defaultdict(lambda: [" "] * 80)
    for cell in cells:
        assert cell["start"] < cell["end"] <= 73
        for offset, char in enumerate(cell["shown"]):
            lines[cell["line"]][cell["text_start"] + offset] = char
    text = ["".join(lines[line]).rstrip() for line in sorted(lines)]
    assert text[:3] == ["def f(x):⏎", "    return x⏎", "⏎"]
    assert text[3].startswith("yyyy")
    assert "\\ta" in text[4]
    assert [cell["divergence"] for cell in cells] == sorted(cell["divergence"] for cell in cells)
    assert {cell["divergence"] for cell in cells} == set(range(len(texts)))
