"""Logs with gaps, figures of several answers, files whose name alone says what they hold."""

import json
import subprocess
import sys
import tracemalloc

import pytest

from analysis.imports.log_files import escaped_bytes
from analysis.queries import failure_classes
from analysis.warehouse.warehouse import connect, ingest
from tests.analysis.imports.runs import query, run_import
from tests.analysis.imports.test_foreign import read
from tests.analysis.imports.test_foreign_evals import LM_EVAL_RESULTS, lines, lm_eval_sample


def test_one_cell_without_a_number_costs_no_other_cell(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("step,reward,note\n1,N/A,x\n2,0.2,y\n3,0.3,7\n")
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 0, result.output
    assert query(tmp_path, "SELECT step, name, value FROM metrics ORDER BY ALL") == [
        (2, "reward", 0.2),
        (3, "reward", 0.3),
    ]
    said = "left out: reward: 1 cell(s) without a number, the first in row 1; note: 1 of 3 cells numbers"
    assert said in result.stderr


def test_a_missing_reward_of_one_completion_leaves_the_others(tmp_path):
    rows = [
        {"step": 1, "prompt": "p", "completion": "c", "f": f, "kind": "k"} for f in (1, "-", 0.5)
    ]
    found = read(tmp_path, "a.jsonl", lines(rows))
    assert [r.reward for r in found.records] == [1.0, None, 0.5]
    assert found.left_out == [
        "f: 1 cell(s) without a number, the first in row 2",
        "kind: no numbers",
    ]


def test_rows_without_a_step_are_left_out_and_counted(tmp_path):
    rows = [{"config": {"lr": 1}}, {"step": 1, "loss": 2.0}, {"loss": 3.0}, {"step": 2, "loss": 1}]
    found = read(tmp_path, "a.jsonl", lines(rows))
    assert [(r.step, r.value) for r in found.records] == [(1, 2.0), (2, 1.0)]
    assert "2 row(s) without a step, the first is row 1" in found.left_out


def test_a_log_without_one_number_makes_no_run(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("step,acc\n1,10%\n2,20%\n")
    result = run_import(tmp_path, path, "--label", "x")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "must hold numbers beside their steps" in result.stderr
    assert "acc: no numbers" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_tensorboards_files_are_told_apart_by_their_names(tmp_path):
    for tag, value in (("train_reward", 0.5), ("eval_loss", 0.25)):
        path = tmp_path / f"run-my-tag_x-tag-{tag}.csv"
        path.write_text(f"Wall time,Step,Value\n1.7e9,1,{value}\n")
    result = run_import(tmp_path, *tmp_path.glob("*.csv"), "--label", "x")
    assert result.exit_code == 0, result.output
    assert query(tmp_path, "SELECT name, value FROM metrics ORDER BY ALL") == [
        ("eval_loss", 0.25),
        ("reward", 0.5),
    ]
    assert "the metric is reward, as the file is called" in result.stderr


@pytest.mark.parametrize("column", ["name", "tag", "metric", "key"])
def test_the_column_of_names_has_several_names(tmp_path, column):
    found = read(tmp_path, "a.csv", f"step,{column},value\n1,loss,0.5\n1,,2\n1,reward,1\n")
    assert [(r.name, r.value) for r in found.records] == [("loss", 0.5), ("reward", 1.0)]
    assert found.left_out == ["row 2: no name"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_a_log_may_be_utf_16_with_its_mark(tmp_path, encoding, name):
    row = {"step": 1, "completion": "é"}
    text = {
        "a.csv": "step,completion\n1,é\n",
        "a.jsonl": json.dumps(row, ensure_ascii=False),
        "a.json": json.dumps([row], ensure_ascii=False),
    }[name]
    if encoding == "utf-16-le-mark":
        content = b"\xff\xfe" + text.encode("utf-16-le")
    else:
        content = text.encode(encoding)
    assert [r.completion for r in read(tmp_path, name, content).records] == ["é"]


def several(value, metric, *, texts=("a", "b", "c"), filtered=None, chosen="none"):
    sample = lm_eval_sample(0, value, metric=metric, chosen=chosen)
    return {**sample, "resps": [list(texts)], "filtered_resps": filtered or [list(texts)]}


def test_a_figure_of_several_answers_is_no_verdict_on_each(tmp_path):
    """pass@3 of 1.0 says that one of three passes."""
    path = tmp_path / "samples_t_2026-01-02T03-04-05.jsonl"
    path.write_text(lines([several(1.0, "pass@3")]))
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 1
    assert "got a share of several in line 1" in result.stderr
    found = read(tmp_path, path.name, lines([several(1.0, "pass@1")]))
    assert [r.passed for r in found.records if r.table == "eval_results"] == [True] * 3


def test_what_a_filter_chose_of_several_answers_is_the_answer(tmp_path):
    """The verdict on a vote is not that on each vote, and two filters are two rows of the leaderboard."""
    rows = [
        several(v, "exact_match", texts=("5", "6", "5"), filtered=[text], chosen=chosen)
        for chosen, text, v in (("maj@3", "5", 1.0), ("score-first", "6", 0.0))
    ]
    path = tmp_path / "samples_t_2026-01-02T03-04-05.jsonl"
    path.write_text(lines(rows))
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 0, result.output
    assert query(tmp_path, "SELECT completion, passed FROM eval_results ORDER BY ALL") == [
        ("5", True),
        ("6", False),
    ]
    assert query(tmp_path, "SELECT eval_id, decoding, k, n FROM leaderboard ORDER BY 1") == [
        ("t-maj@3", "imported, maj@3", 1, 1),
        ("t-score-first", "imported, score-first", 0, 1),
    ]


def test_a_mean_over_several_answers_is_no_number_of_problems_solved(tmp_path):
    repeated = {**LM_EVAL_RESULTS, "configs": {"mbpp": {"repeats": 2}}}
    found = read(tmp_path, "results_x.json", json.dumps(repeated))
    assert [r.table for r in found.records] == ["metrics"]
    assert found.notes == ["mbpp: figures only, no number of problems solved"]


def test_a_refused_value_is_one_line_of_the_whole_process(tmp_path):
    """What is said at the end of an interpreter counts, too."""
    (tmp_path / "a.csv").write_text("step,loss\n1e20,1\n")
    words = [
        "import",
        str(tmp_path / "a.csv"),
        "--label",
        "x",
        "--runs-dir",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "sdpo_bench", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "an integer must fit 64 bits, got 100000000000000000000" in line


def test_how_imported_completions_end_is_not_drawn_since_the_log_does_not_say(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines([{"step": 1, "prompt": "p", "completion": "c", "reward": 1.0}]))
    assert run_import(tmp_path, path, "--label", "x").exit_code == 0
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        assert failure_classes(connection).rows == []


@pytest.mark.parametrize(
    ("content", "at"),
    [
        ("step,completion\n1,café\n".encode("latin-1"), 21),
        (b"x" * ((1 << 20) - 1) + "é".encode(), None),
        (b"x" * ((1 << 20) - 1) + b"\xc3(", (1 << 20) - 1),
        ("é".encode() + b"\xc3", 2),
        ("step\n1\n".encode("utf-8-sig") + b"\xe9", 10),
        ("step\n1\né".encode("utf-16"), None),
    ],
)
def test_where_bytes_are_no_text_is_found(tmp_path, content, at):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert escaped_bytes(path) == at


def test_a_large_log_is_looked_through_in_parts(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"x" * (16 << 20) + b"\xe9")
    tracemalloc.start()
    try:
        assert escaped_bytes(path) == 16 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_log_in_another_encoding_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("step,completion\n1,café\n".encode("latin-1"))
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 0
    assert "byte 21 and perhaps others are no UTF-8 and stored as escapes" in result.stderr
    assert query(tmp_path, "SELECT completion FROM rollouts") == [("caf\\xe9",)]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([1, 2, 3, 4, 2, 3], "rows of steps 4 to 4 were logged before it"),
        ([1, 2, 3, 4, 5, 1, 2, 1, 2, 3], "rows of steps 4 to 5 were logged before it"),
        ([1, 2, 3, 2, 3, 4], ""),
        ([1, 1, 2, 2], ""),
        (list(range(30, 0, -1)), ""),
    ],
)
def test_steps_of_before_a_restart_that_stay_are_told(tmp_path, steps, said):
    path = tmp_path / "a.csv"
    path.write_text(
        "step,loss,note\n" + "".join(f"{step},0.{at},\n" for at, step in enumerate(steps))
    )
    result = run_import(tmp_path, path, "--label", "x")
    assert result.exit_code == 0, result.output
    assert said in result.stderr
    assert bool(said) is ("go back" in result.stderr)
