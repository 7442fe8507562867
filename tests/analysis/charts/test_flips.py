"""Which two evaluations the figure of gained and lost problems is of, and when it has a test."""

import pytest

from analysis import queries
from tests.analysis.view_rows import evaluation, put, result


@pytest.fixture
def two_arms(connection_of_own):
    """GRPO and SDPO of one seed, each with a greedy evaluation of six problems."""
    for name, solved in (("grpo", {1, 2}), ("sdpo", {2, 3, 4, 5})):
        run = {"run_id": name, "kind": "train", "algorithm": name, "label": name, "seed": 42}
        run |= {"created_at": "2026-01-01", "config": "{}", "config_sha256": "c", "model": "m"}
        run |= {"dataset": "d", "dataset_sha256": "d", "protocol": "p", "protocol_sha256": "p"}
        put(connection_of_own, "runs", run | {"sandbox": "docker"})
        put(connection_of_own, "evals", evaluation(name, step=20, n=6, k=len(solved)))
        answers = [result(name, t, t in solved, completion=f"{name} {t}") for t in range(6)]
        put(connection_of_own, "eval_results", *answers)
    return connection_of_own


@pytest.fixture
def connection_of_own(warehouse):
    warehouse.begin()
    yield warehouse
    warehouse.rollback()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("SELECT 1", None),
        ("UPDATE runs SET sandbox = 'gvisor' WHERE run_id = 'sdpo'", "sandbox (docker, gvisor)"),
        ("UPDATE runs SET model_sha256 = run_id", "model (m (sha256 grpo), m (sha256 sdpo))"),
        ("UPDATE evals SET dataset_sha256 = run_id", "evaluated with problems (mbpp (sha256 grpo)"),
        ("UPDATE evals SET step = 10 WHERE run_id = 'sdpo'", "step (20, 10)"),
        ("DELETE FROM eval_results WHERE task_id = '3' AND run_id = 'sdpo'", "other problems"),
        ("UPDATE eval_results SET completion = 'x', passed = true", "the same answers"),
    ],
)
def test_problems_gained_and_lost_are_tested_only_where_the_judge_would_compare(
    two_arms, change, why
):
    two_arms.execute(change)
    rows = queries.flips(two_arms).records()
    assert (rows[0]["name_a"][:4], rows[0]["name_b"][:4]) == ("grpo", "sdpo")
    if why is None:
        assert [(row["change"], row["n"]) for row in rows][:2] == [("gained", 3), ("lost", 1)]
        assert rows[0]["p_value"] == pytest.approx(0.625) and rows[0]["no_test"] is None
    else:
        assert rows[0]["p_value"] is None and why in rows[0]["no_test"]


def test_a_pair_that_can_be_tested_is_shown_before_one_that_cannot(two_arms):
    two_arms.execute("UPDATE runs SET sandbox = 'gvisor' WHERE run_id = 'grpo'")
    for table, plus in (
        ("runs", "algorithm = 'hybrid', label = 'hybrid', sandbox = 'docker'"),
        ("evals", "step = 20"),
        ("eval_results", "completion = 'of its own'"),
    ):
        two_arms.execute(f"CREATE TEMP TABLE copied AS FROM {table} WHERE run_id = 'grpo'")  # noqa: S608
        two_arms.execute(f"UPDATE copied SET run_id = 'hybrid', {plus}")  # noqa: S608
        two_arms.execute(f"INSERT INTO {table} FROM copied")  # noqa: S608
        two_arms.execute("DROP TABLE copied")
    rows = queries.flips(two_arms).records()
    assert {row["algorithm_a"] for row in rows} | {row["algorithm"] for row in rows} == {
        "hybrid",
        "sdpo",
    }
    assert rows[0]["p_value"] is not None


def test_several_answers_a_problem_are_neither_gained_nor_lost(two_arms):
    put(two_arms, "eval_results", result("sdpo", 1, True, 1))
    assert queries.flips(two_arms).rows == []
