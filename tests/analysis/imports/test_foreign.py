"""What other programs logged: metrics, completions, evaluations."""

import json
import math

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.imports.foreign import read_log
from analysis.journal.journal import StoreError
from analysis.statistics.intervals import wilson_of_mean
from analysis.warehouse.warehouse import connect, ingest
from sdpo_bench import main
from tests.analysis.imports.runs import query, run_import
from tests.scale import examples


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_log(path, label="a run", dataset="a set")


def test_a_column_a_metric(tmp_path):
    found = read(
        tmp_path, "a.csv", "step,loss,note,epoch,reward/mean\n1,0.5,x,0.1,\n2,nan,y,0.2,1e-3\n"
    )
    assert found.form == "metrics"
    assert found.left_out == ["note: no numbers"]
    rows = [(r.step, r.name, repr(r.value)) for r in found.records]
    assert rows == [(1, "loss", "0.5"), (2, "loss", "nan"), (2, "reward/mean", "0.001")]


def test_a_column_that_stands_twice_is_refused_and_none_wins(tmp_path):
    with pytest.raises(StoreError, match="column 'loss' stands twice"):
        read(tmp_path, "a.csv", "step,loss, loss\n1,0.5,0.25\n")


def test_a_line_of_json_ends_at_a_line_feed_alone_and_may_begin_with_a_mark(tmp_path):
    text = "a\u2028b\u0085c"
    row = json.dumps({"step": 1, "completion": text}, ensure_ascii=False)
    found = read(tmp_path, "a.jsonl", f"\ufeff{row}\r\n{row}\n")
    assert [r.completion for r in found.records] == [text, text]


def test_a_row_a_metric(tmp_path):
    found = read(tmp_path, "a.csv", "name,step,value\nloss,3,0.25\nloss,4,oops\n")
    assert [(r.step, r.name, r.value) for r in found.records] == [(3, "loss", 0.25)]
    assert found.left_out == ["row 2: no number"]


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


def test_an_evaluation_with_a_second_answer_to_a_problem_is_its_mean(tmp_path):
    (tmp_path / "base.csv").write_text(
        "task_id,passed,completion\n11,True,x\n12,0,y\n12,1,z\n14,passed,\n"
    )
    result = run_import(
        tmp_path, tmp_path / "base.csv", "--label", "base", "--dataset", "mbpp/sanitized/test"
    )
    assert result.exit_code == 0, result.output
    board = query(
        tmp_path, "SELECT label, algorithm, dataset, pass_at_1, k, n, interval_low FROM leaderboard"
    )
    assert board[0][:5] == ("base", "base", "mbpp/sanitized/test", pytest.approx(5 / 6), None)
    low = wilson_of_mean([1.0, 0.5, 1.0]).low
    assert board[0][5:] == (3, pytest.approx(low, abs=1e-6))


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
        ("a.csv", "step,loss\nx,2\n", "a step must be a whole number from 0, got 'x' in row 1"),
        ("a.csv", "step,loss\n1.5,2\n", "a step must be a whole number from 0, got '1.5'"),
        ("a.csv", "step,loss\n1e30,2\n", "a log must hold values that can be stored"),
        (
            "a.csv",
            "task_id,passed\n1,maybe\n",
            "passed true or false, got '1' and 'maybe' in row 1",
        ),
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


@settings(deadline=None, max_examples=examples(150))
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


def test_a_missing_reward_is_null_and_not_zero(tmp_path):
    """An empty cell, the word NaN, and a column that the log has not: none is a reward of 0."""
    (tmp_path / "r.csv").write_text(
        "step,prompt,completion,reward\n1,p,a,\n1,p,b,0.5\n2,p,c,nan\n3,p,d,0\n"
    )
    (tmp_path / "parts.csv").write_text(
        "step,prompt,completion,tests,form\n4,p,a,,\n4,p,b,1,\n4,p,c,nan,0.25\n"
    )
    (tmp_path / "none.csv").write_text("step,prompt,completion\n5,p,a\n")
    files = [tmp_path / name for name in ("r.csv", "parts.csv", "none.csv")]
    result = run_import(tmp_path, *files, "--label", "old", "--algorithm", "grpo")
    assert result.exit_code == 0, result.output
    assert "reward is tests + form" in result.stderr
    rewards = query(tmp_path, "SELECT step, member_index, reward FROM rollouts ORDER BY ALL")
    assert rewards == [
        *[(1, 0, None), (1, 1, 0.5), (2, 0, None), (3, 0, 0.0)],
        *[(4, 0, None), (4, 1, 1.0), (4, 2, 0.25), (5, 0, None)],
    ]
    curve = query(
        tmp_path, "SELECT step, reward_mean, flat_group_fraction FROM reward_curve ORDER BY 1"
    )
    assert curve == [
        (1, 0.5, 1.0),
        (2, None, None),
        (3, 0.0, 1.0),
        (4, 0.625, 0.0),
        (5, None, None),
    ]


WANDB = (
    '"Step","sunny-sky-7 - train/reward","sunny-sky-7 - train/reward__MIN",'
    '"sunny-sky-7 - train/reward__MAX","sunny-sky-7 - _step","sunny-sky-7 - _step__MIN"\n'
    '"1","0.25","0.2","0.3","1","1"\n"2","0.75","0.7","0.8","2","2"\n'
)


def test_a_chart_exported_from_weights_and_biases_is_the_runs_metrics(tmp_path):
    found = read(tmp_path, "wandb_export.csv", WANDB)
    assert [(r.step, r.name, r.value) for r in found.records] == [
        (1, "reward", 0.25),
        (2, "reward", 0.75),
    ]
    assert found.left_out == []


@pytest.mark.parametrize(
    "head",
    [
        "Step,run - loss,run - loss__MIN,run - loss__MAX",
        "train/global_step,my - run - 2 - train/loss,my - run - 2 - train/loss__MIN,my - run - 2 - train/loss__MAX",
        "Step,algo: grpo - loss,algo: grpo - loss__MIN,algo: grpo - loss__MAX",
        "Step,loss,loss__MIN,loss__MAX",
        "_step,train/loss,_runtime,_timestamp",
        "_step,loss,,Unnamed: 0",
    ],
)
def test_each_form_of_a_tracker_export_gives_the_metric(tmp_path, head):
    found = read(tmp_path, "a.csv", f"{head}\n3,0.5,0.4,0.6\n")
    assert [(r.step, r.name, r.value) for r in found.records] == [(3, "loss", 0.5)]


def test_a_chart_of_several_runs_needs_one_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Step,one - reward,two - reward\n1,0.1,0.2\n2,,0.4\n")
    refused = run_import(tmp_path, path, "--label", "x")
    assert refused.exit_code == 1
    assert "got 2 ('one', 'two')" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert (
        "must be one of the runs"
        in run_import(tmp_path, path, "--label", "x", "--run", "no").stderr
    )
    taken = run_import(tmp_path, path, "--label", "x", "--run", "two", "--algorithm", "grpo")
    assert taken.exit_code == 0, taken.output
    assert query(tmp_path, "SELECT step, name, value FROM metrics ORDER BY 1") == [
        (1, "reward", 0.2),
        (2, "reward", 0.4),
    ]


def test_two_metrics_of_one_short_name_keep_their_own(tmp_path):
    found = read(tmp_path, "a.csv", "step,reward,train/reward\n1,0.1,0.2\n")
    assert [(r.name, r.value) for r in found.records] == [("reward", 0.1), ("train/reward", 0.2)]


def test_the_reward_of_a_run_without_completions_is_drawn(tmp_path):
    from analysis.queries import reward_curve

    (tmp_path / "w.csv").write_text(WANDB)
    assert (
        run_import(tmp_path, tmp_path / "w.csv", "--label", "w", "--algorithm", "grpo").exit_code
        == 0
    )
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        rows = reward_curve(connection).records()
    assert [(r["step"], r["reward_mean"], r["n_completions"], r["interval_low"]) for r in rows] == [
        (1, 0.25, 0, None),
        (2, 0.75, 0, None),
    ]
    pytest.importorskip("altair")
    from analysis.charts import training_reward
    from analysis.render import Result

    chart = training_reward(Result(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    assert "as the log gives it" in json.dumps(chart.to_dict())
    assert query(tmp_path, "SELECT last_reward FROM run_overview") == [(0.75,)]


def test_a_deeply_nested_json_file_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="must be whole"):
        read(tmp_path, "a.json", "[" * 200_000)


def test_a_label_that_another_run_has_is_told(tmp_path):
    (tmp_path / "m.csv").write_text("step,loss\n1,2\n")
    first, second = (run_import(tmp_path, tmp_path / "m.csv", "--label", "x") for _ in range(2))
    assert "have the label" not in first.stderr
    assert "1 run(s) have the label 'x' already" in second.stderr


def test_an_evaluation_may_name_its_problems(tmp_path):
    found = read(tmp_path, "e.csv", "task_id,passed\nmine/1,1\n7.0,0\n")
    ids = [r.task_id for r in found.records if r.table == "eval_results"]
    assert ids == ["mine/1", 7]
    with pytest.raises(StoreError, match="task_id must be a number or a name"):
        read(tmp_path, "e.csv", "task_id,passed\n<b>,1\n")


def test_an_imported_evaluation_counts_the_rows_of_its_file_and_is_shown_without_what_it_lacks(
    tmp_path,
):
    (tmp_path / "e.csv").write_text("task_id,passed,completion\n56,1,x = 1\n57,0,y\n")
    assert (
        "e.csv: 2 rows of evaluation"
        in run_import(tmp_path, tmp_path / "e.csv", "--label", "e").stdout
    )
    words = ["show", "e", "56", "--runs-dir", str(tmp_path / "runs")]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0 and "x = 1" in shown.stdout and "None" not in shown.stdout


def test_ids_that_a_float_would_round_or_read_otherwise_stay_apart(tmp_path):
    ids = ["9007199254740992", "9007199254740993", "2_1", "21", "5.0", "12345678901234567891"]
    found = read(tmp_path, "a.csv", "task_id,passed\n" + "".join(f"{i},true\n" for i in ids))
    stored = [record.task_id for record in found.records[:-1]]
    assert stored == [2**53, 2**53 + 1, "2_1", 21, 5, "12345678901234567891"]
    rows = [{"task_id": int(i), "passed": True} for i in (ids[1], ids[5])]
    found = read(tmp_path, "a.json", json.dumps(rows))
    assert [record.task_id for record in found.records[:-1]] == [2**53 + 1, ids[5]]


def test_answers_of_two_files_do_not_become_one_evaluation(tmp_path):
    for name, content in (("a", "1,true\n2,true"), ("b", "1,false")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "eval.csv").write_text(f"task_id,passed\n{content}\n")
    files = [str(tmp_path / name / "eval.csv") for name in "ab"]
    result = run_import(tmp_path, *files, "--label", "x")
    assert result.exit_code == 1 and "'eval'" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_row_that_gives_way_to_another_of_its_step_and_name_is_told(tmp_path):
    (tmp_path / "m.csv").write_text("step,reward\n1,1_000\n2,0.5\n2,0.7\n")
    (tmp_path / "m2.csv").write_text("step,reward\n2,0.5\n2,0.5\n3,1\n3,1\n")
    said = [
        run_import(tmp_path, str(tmp_path / f), "--label", f).stderr for f in ("m.csv", "m2.csv")
    ]
    assert "reward" in said[0] and said[1] == ""
    (tmp_path / "m.csv").write_text("step,reward\n2,0.5\n2,0.7\n")
    said = run_import(tmp_path, str(tmp_path / "m.csv"), "--label", "z").stderr
    assert "1 row(s) have the step and name of a later one" in said
