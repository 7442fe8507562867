"""The list of runs says of each what is true of its last attempt and last evaluation, in two lines."""

import io

import pytest
from rich.console import Console

from analysis.cli.run_list import print_runs
from analysis.journal.journal import Journal
from analysis.queries import runs_overview
from analysis.records import Eval, Metric, RunState
from analysis.render import Result
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def overview(runs):
    ingest(runs, runs.parent / "results.duckdb")
    with connect(runs.parent / "results.duckdb") as connection:
        rows = connection.execute("FROM run_overview").fetchall()
        names = [column[0] for column in connection.description]
        return [dict(zip(names, row, strict=True)) for row in rows]


def attempt(runs, state, error=None, run_id="a"):
    """One process of a run that ends so."""
    run_dir = runs / run_id
    journal = (
        Journal.resume(run_dir)
        if run_dir.exists()
        else Journal.create(runs, synthetic_info(run_id))
    )
    with journal:
        if state != "running":
            journal.finish(state, error)
            return
        journal.commit()
        journal._state = "over"  # as if it were killed: no last state is written


@pytest.mark.parametrize(
    ("attempts", "state", "error"),
    [
        ([("failed", "disk full"), ("finished", None)], "finished", None),
        ([("failed", "disk full"), ("running", None)], "running", None),
        ([("finished", None), ("failed", "again")], "failed", "again"),
        ([("stopped", "interrupted"), ("failed", "x"), ("finished", None)], "finished", None),
        ([("failed", "a"), ("stopped", "interrupted")], "stopped", "interrupted"),
    ],
)
def test_the_error_shown_is_that_of_the_last_attempt(runs, attempts, state, error):
    for how in attempts:
        attempt(runs, *how)
    (row,) = overview(runs)
    assert (row["state"], row["error"], row["n_attempts"]) == (state, error, len(attempts))
    assert row["state_at"] is not None


def evaluated(eval_id, step, k, n, decoding="greedy"):
    return Eval(
        eval_id=eval_id,
        step=step,
        label="x",
        dataset="d",
        protocol="mbpp",
        decoding=decoding,
        n=n,
        k=k,
        interval_low=0.0,
        interval_high=1.0,
        wall_s=None,
    )


@pytest.mark.parametrize("turn", [1, -1])
def test_the_headline_is_of_one_evaluation_the_greedy_one_of_the_last_step(runs, turn):
    rows = [
        evaluated("step-0", 0, 9, 10),
        evaluated("step-50-sampled", 50, 7, 8, "sampled"),
        evaluated("step-50", 50, 3, 10),
    ]
    with Journal.create(runs, synthetic_info("a")) as journal:
        for row in rows[::turn]:
            journal.append(row)
    (row,) = overview(runs)
    assert (row["k"], row["n"]) == (3, 10)


def test_an_evaluation_without_a_step_is_the_last(runs):
    with Journal.create(runs, synthetic_info("a")) as journal:
        journal.append(evaluated("final", None, 4, 10))
        journal.append(evaluated("step-50", 50, 3, 10))
    assert overview(runs)[0]["k"] == 4


def test_the_last_reward_is_that_of_the_last_step(runs):
    with Journal.create(runs, synthetic_info("a")) as journal:
        for step, value in ((2, 0.5), (10, 0.25), (1, 0.75)):
            journal.append(Metric(step=step, name="reward", value=value))
        journal.append(Metric(step=11, name="loss", value=1.0))
    assert overview(runs)[0]["last_reward"] == 0.25


def test_runs_are_listed_in_the_order_in_which_they_began(runs):
    for name, year in (("z", 2031), ("m", 2026), ("a", 2027)):
        info = synthetic_info(name).model_copy(
            update={"created_at": f"{year}-01-01T00:00:00+00:00"}
        )
        Journal.create(runs, info).close()
    assert [row["run_id"] for row in overview(runs)] == ["z", "m", "a"]


def listed(runs, width, **options):
    out = io.StringIO()
    ingest(runs, runs.parent / "results.duckdb")
    with connect(runs.parent / "results.duckdb") as connection:
        result = runs_overview(connection)
    console = Console(file=out, width=width, force_terminal=True, color_system=None, **options)
    print_runs(result, console=console)
    return out.getvalue().splitlines()


@pytest.fixture
def several(runs):
    long = "train-sdpo-with-a-long-name-20261124T101500Z-abcdef"
    with Journal.create(
        runs, synthetic_info(long, label="SDPO, the third of its kind, long")
    ) as journal:
        journal.append(Metric(step=120, name="reward", value=0.123456))
        journal.append(evaluated("step-120", 120, 101, 257))
        journal.append(
            RunState(attempt=0, state="failed", changed_at="x", error="OSError: " + "x" * 300)
        )
    for i in range(3):
        Journal.create(runs, synthetic_info(f"eval-base-{i}", kind="eval", algorithm=None)).close()
    return runs


@pytest.mark.parametrize("width", [80, 100])
def test_a_run_takes_two_lines_of_a_terminal_and_none_is_longer(several, width):
    lines = listed(several, width)
    assert len(lines) == 1 + 2 * 4
    assert max(map(len, lines)) <= width
    assert "label" in lines[0]


def test_the_two_lines_hold_label_state_figures_id_and_error(several):
    head, first, second, *_ = listed(several, 80)
    for text in ("failed", "sdpo", "42", "120", "0.123", "101/257", "39.3%"):
        assert text in first
    assert "train-sdpo-with-a-long-name-20261124T101500Z-abcdef" in second
    assert "OSError" in second


def test_a_wide_terminal_gets_a_line_a_run(several):
    assert len(listed(several, 400)) == 1 + 4


def test_a_hostile_label_or_error_stays_on_its_line(runs):
    with Journal.create(runs, synthetic_info("a", label="x\x1b[2J\ny")) as journal:
        journal.finish("failed", "boom\x1b]0;t\x07\nnext")
    lines = listed(runs, 80)
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_of_several_answers_a_problem_the_list_counts_answers_and_says_so():
    row = {
        **{"run_id": "r", "label": "sampled", "state": "finished", "algorithm": "eval", "seed": 1},
        **{"step": None, "of": None, "rollouts": 0, "reward": None, "error": None},
        **{"k": None, "n": 3000, "n_passed": 1, "n_answers": 6000, "pass_at_1": 1 / 6000},
    }
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, no_color=True)
    print_runs(Result(tuple(row), [tuple(row.values())]), console=console)
    assert "1/6000 answers  0.02%" in out.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
def test_no_figure_of_the_list_is_cut_however_narrow_the_terminal(width):
    row = {
        **{"run_id": "r" * 50, "label": "x" * 40, "state": "interrupted", "algorithm": "hybrid"},
        **{"seed": 42, "step": 100, "of": 100, "rollouts": 12800, "reward": 0.4438, "error": None},
        **{"k": 123, "n": 257, "n_passed": 123, "n_answers": 257, "pass_at_1": 123 / 257},
    }
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, no_color=True)
    print_runs(Result(tuple(row), [tuple(row.values())]), console=console)
    assert "47.9%" in out.getvalue() or "0.4786" in out.getvalue()
