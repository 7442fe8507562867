"""Only runs of equal settings share a curve: a sweep is not averaged into a run that never was."""

import json

import duckdb
import pytest

from analysis import queries
from analysis.queries.arms import series

pytest.importorskip("altair")

POOLED = [queries.reward_curve, queries.signal, queries.eval_curve]


@pytest.fixture
def change(recorded_copy):
    """Changes what the run `train-sdpo-43` stores of itself; gives the results."""
    path = recorded_copy / "results" / "results.duckdb"
    with duckdb.connect(str(path)) as connection:

        def change(**columns):
            for name, value in columns.items():
                connection.execute(
                    f"UPDATE runs SET {name} = $1 WHERE run_id = 'train-sdpo-43'",  # noqa: S608 - ours
                    [json.dumps(value) if name == "config" else value],
                )
            return connection

        yield change


def names(query, connection):
    return {row["series"] for row in query(connection).records() if row["algorithm"] == "sdpo"}


@pytest.mark.parametrize("query", POOLED)
def test_seeds_of_equal_settings_share_a_curve(change, query):
    assert names(query, change()) == {"sdpo"}


@pytest.mark.parametrize(
    "other",
    [
        {"config": {"synthetic": True, "learning_rate": 1e-3, "num_generations": 4}},
        {"model": "another"},
        {"git_commit": "another"},
    ],
)
@pytest.mark.parametrize("query", POOLED)
def test_runs_of_other_settings_have_curves_of_their_own(change, query, other):
    connection = change(**other)
    assert names(query, connection) == {"sdpo-42", "sdpo-43"}


def test_arms_with_the_same_labels_are_told_apart(change):
    connection = change(git_commit="another", label="sdpo-42")
    assert series(connection, ["train-sdpo-42", "train-sdpo-43"]) == {
        "train-sdpo-42": "sdpo-42 (dpo-42)",
        "train-sdpo-43": "sdpo-42 (dpo-43)",
    }


@pytest.mark.parametrize(
    ("query", "chart"),
    [
        (queries.reward_curve, "training_reward"),
        (queries.signal, "signal"),
        (queries.eval_curve, "pass_at_1_over_steps"),
    ],
)
def test_a_chart_draws_each_of_them(change, query, chart):
    from analysis import charts

    drawn = getattr(charts, chart)(query(change(config={"synthetic": False}))).to_dict()
    dashed = [layer for layer in drawn["layer"] if "strokeDash" in layer["encoding"]]
    assert any(layer["encoding"]["strokeDash"].get("field") == "series" for layer in dashed)
    assert all(
        layer["encoding"]["detail"]["field"] in ("series", "run_id")
        for layer in drawn["layer"]
        if layer["mark"]["type"] in ("line", "area")
    )
