"""What other programs logged: metrics, completions, evaluations."""

import json
import math

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.foreign import read_log
from analysis.journal import StoreError
from analysis.warehouse import connect, ingest
from sdpo_bench import main


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_log(path, label="a run", dataset="a set")


def run_import(tmp_path, *arguments):
    return CliRunner().invoke(
        main, ["import", *map(str, arguments), "--runs-dir", str(tmp_path / "runs")]
    )


def query(tmp_path, text):
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        return connection.execute(text).fetchall()


def test_a_column_a_metric(tmp_path):
    found = read(
        tmp_path, "a.csv", "step,loss,note,epoch,reward/mean\n1,0.5,x,0.1,\n2,nan,y,0.2,1e-3\n"
    )
    assert found.form == "metrics"
    assert found.left_out == ["note"]
    rows = [(r.step, r.name, repr(r.value)) for r in found.records]
    assert rows == [(1, "loss", "0.5"), (2, "loss", "nan"), (2, "reward/mean", "0.001")]


def test_a_row_a_metric(tmp_path):
    found = read(tmp_path, "a.csv", "name,step,value\nloss,3,0.25\nloss,4,oops\n")
    assert [(r.step, r.name, r.value) for r in found.records] == [(3, "loss", 0.25)]
    assert found.left_out == ["line 3"]


@pytest.mark.parametrize(
    "column", ["Step", "global_step", "train/global_step", "_step", "\ufeffstep"]
)
def test_a_step_has_several_names(tmp_path, column):
    found = read(tmp_path, "a.csv", f"{column},loss\n5.0,1\n")
    assert [(r.step, r.value) for r in found.records] == [(5, 1.0)]


def test_the_trainer_state_of_trl(tmp_path):
    state = {
        "global_step": 2,
        "log_history": [
            {"step": 1, "epoch": 0.5, "loss": 0.1, "reward": 0.4},
            {"step": 2, "epoch": 1.0, "loss": float("nan"), "completions/mean_length": 31.5},
        ],
    }
    found = read(tmp_path, "trainer_state.json", json.dumps(state))
    rows = {(r.step, r.name): r.value for r in found.records}
    assert rows[1, "reward"] == 0.4
    assert rows[2, "completions/mean_length"] == 31.5
    assert math.isnan(rows[2, "loss"])
    assert len(rows) == 4


def test_the_completions_of_trl_are_grouped_by_prompt(tmp_path):
    path = tmp_path / "completions_00010.parquet"
    rows = "\n UNION ALL ".join(
        f"SELECT 10 AS step, [{{'role': 'user', 'content': '{prompt}'}}] AS prompt, "
        f"[{{'role': 'assistant', 'content': '{text}'}}] AS completion, "
        f"{reward} AS correctness, 0.25 AS format, {reward} - 0.5 AS advantage"
        for prompt, text, reward in (("p1", "a", 1.0), ("p1", "b", 0.0), ("p2", "c", 1.0))
    )
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    found = read_log(path, label="x", dataset="d")
    assert found.form == "completions"
    assert [(r.step, r.group_index, r.member_index) for r in found.records] == [
        (10, 0, 0),
        (10, 0, 1),
        (10, 1, 0),
    ]
    assert [(r.prompt, r.completion, r.reward, r.advantage) for r in found.records] == [
        ("p1", "a", 1.25, 0.5),
        ("p1", "b", 0.25, -0.5),
        ("p2", "c", 1.25, 0.5),
    ]


def test_an_evaluation_is_counted_by_its_first_completions(tmp_path):
    (tmp_path / "base.csv").write_text(
        "task_id,passed,completion\n11,True,x\n12,0,y\n12,1,z\n14,passed,\n"
    )
    result = run_import(
        tmp_path, tmp_path / "base.csv", "--label", "base", "--dataset", "mbpp/sanitized/test"
    )
    assert result.exit_code == 0, result.output
    board = query(tmp_path, "SELECT label, algorithm, dataset, k, n, interval_low FROM leaderboard")
    assert board[0][:5] == ("base", "base", "mbpp/sanitized/test", 2, 3)
    assert board[0][5] == pytest.approx(0.2077, abs=1e-3)  # Wilson, 2 of 3


def test_files_of_one_run_become_one_run_and_what_they_do_not_say_is_null(tmp_path):
    (tmp_path / "m.csv").write_text("step,loss\n1,0.5\n")
    (tmp_path / "c.csv").write_text('step,prompt,completion,reward\n1,p,"a\nb",0.5\n')
    result = run_import(
        tmp_path, tmp_path / "m.csv", tmp_path / "c.csv", "--label", "old", "--algorithm", "grpo"
    )
    assert result.exit_code == 0, result.output
    assert query(tmp_path, "SELECT algorithm, label, state, n_rollouts FROM run_overview") == [
        ("grpo", "old", "finished", 1)
    ]
    assert query(tmp_path, "SELECT completion, reward, n_passed, truncated FROM rollouts") == [
        ("a\nb", 0.5, None, None)
    ]
    assert query(
        tmp_path, "SELECT reward_mean, solved_fraction, truncated_fraction FROM reward_curve"
    ) == [(0.5, None, None)]


@pytest.mark.slow
def test_an_imported_run_can_be_drawn_and_reported(tmp_path):
    pytest.importorskip("altair")
    (tmp_path / "c.csv").write_text(
        "step,prompt,completion,reward\n"
        + "".join(f"{i},p{i % 4},c,{i % 2}\n" for i in range(1, 9))
    )
    (tmp_path / "e.csv").write_text("task_id,passed\n1,1\n2,0\n")
    arguments = ("--label", "old", "--algorithm", "grpo")
    assert run_import(tmp_path, tmp_path / "c.csv", *arguments).exit_code == 0
    assert run_import(tmp_path, tmp_path / "e.csv", *arguments).exit_code == 0
    result = CliRunner().invoke(
        main,
        ["report", "--runs-dir", str(tmp_path / "runs"), "--results", str(tmp_path / "r.duckdb")]
        + ["--output", str(tmp_path / "report.html")],
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "a log must have rows"),
        ("a.csv", "step,loss\n", "a log must have rows"),
        ("a.csv", "epoch,loss\n1,2\n", "a log must have the columns"),
        ("a.csv", "step,loss\n1,2,3\n", "line 2 has 3 cells and the first 2"),
        ("a.csv", "step,loss\nx,2\n", "a step must be a whole number from 0, got 'x' in line 2"),
        ("a.csv", "step,loss\n1.5,2\n", "a step must be a whole number from 0, got '1.5'"),
        ("a.csv", "step,loss\n1e30,2\n", "a log must hold values that can be stored"),
        ("a.csv", "task_id,passed\n1,maybe\n", "passed true or false, got line 2"),
        ("a.json", "[1]", "a log must be whole"),
        ("a.json", "{", "a log must be whole"),
        ("a.jsonl", '{"step": 1}\n{', "a log must be whole"),
        ("a.parquet", "PAR1", "a log must be whole"),
        ("a.xlsx", "x", "a log must be .csv"),
        ("a.csv", b"step,\xff\xfe\n1,2\n\x00", "a log must be whole"),
    ],
)
def test_what_is_no_log_is_one_line_and_leaves_nothing(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert not (tmp_path / "runs").exists()


def test_one_bad_file_of_two_leaves_nothing(tmp_path):
    (tmp_path / "good.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "bad.csv").write_text("x\n1\n")
    assert run_import(
        tmp_path, tmp_path / "good.csv", tmp_path / "bad.csv", "--label", "x"
    ).exit_code
    assert not (tmp_path / "runs").exists()


@settings(deadline=None, max_examples=150)
@given(content=st.binary(max_size=200) | st.text(st.sampled_from('step,\n"1.e-\x00x'), max_size=60))
@example(content=b"step,a\n-1,2\n")
@example(content="step,step\n1,2\n")
@example(content=b"task_id,passed\n1e999,1\n")
def test_any_bytes_are_a_log_or_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        read(folder, "a.csv", content)
    except StoreError as error:
        assert "\n" not in str(error)
