"""What was committed is queried, once, in any order of writing and reading."""

import random

import pytest

from analysis.journal.journal import Journal, StoreError, segments
from analysis.journal.lines import encode
from analysis.records import (
    Eval,
    EvalResult,
    ExecutionRow,
    Metric,
    TestResult,
)
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, step_records, synthetic_info
from tests.analysis.warehouse.stored import content, rows, write


def test_what_was_committed_is_queried(runs, results):
    write(runs, values=(1.0, 2.0))
    report = ingest(runs, results)
    assert (report.n_runs, report.problems) == (1, [])
    assert rows(results, "SELECT step, value FROM metrics ORDER BY step") == [(1, 1.0), (2, 2.0)]
    assert rows(results, "SELECT state FROM run_states") == [("finished",)]


def test_ingest_while_a_run_writes_sees_what_is_committed(runs, results):
    with Journal.create(runs, synthetic_info("a")) as journal:
        for step in range(3):
            journal.append(Metric(step=step, name="loss", value=0.0))
            ingest(runs, results)
            assert rows(results, "SELECT count(*) FROM metrics") == [(step,)]
            journal.commit()
            ingest(runs, results)
            assert rows(results, "SELECT count(*) FROM metrics") == [(step + 1,)]


def test_an_ingest_with_nothing_to_read_does_not_touch_the_file(runs, results):
    write(runs)
    ingest(runs, results)
    before = results.stat()
    report = ingest(runs, results)
    assert (report.n_rows, report.rebuilt) == (0, None)
    assert results.stat().st_ino == before.st_ino


def test_a_torn_last_line_is_left_out_until_it_is_complete(runs, results):
    write(runs)
    _, path = segments(runs / "a")[0]
    line = encode("metrics", b'{"step":9,"name":"loss","value":0.5}')
    with path.open("ab") as file:
        file.write(line[:20])
    assert ingest(runs, results).problems == []
    inode = results.stat().st_ino
    assert ingest(runs, results).n_rows == 0
    assert results.stat().st_ino == inode
    with path.open("ab") as file:
        file.write(line[20:])
    assert ingest(runs, results).n_rows == 1
    assert (9,) in rows(results, "SELECT step FROM metrics")


def test_the_later_row_of_a_key_counts(runs, results):
    write(runs, values=(1.0,))
    with Journal.resume(runs / "a") as journal:
        for value in (2.0, 3.0):
            journal.append(Metric(step=1, name="loss", value=value))
    ingest(runs, results)
    assert rows(results, "SELECT value, attempt FROM metrics") == [(3.0, 1)]
    with Journal.resume(runs / "a") as journal:
        journal.append(Metric(step=1, name="loss", value=4.0))
    ingest(runs, results)
    assert rows(results, "SELECT value, attempt FROM metrics") == [(4.0, 2)]


def _execution(execution_id):
    yield ExecutionRow(
        execution_id=execution_id,
        cpu_ms=1.0,
        wall_ms=1.0,
        peak_memory_bytes=1,
        output_tail="",
        output_truncated=False,
    )
    yield TestResult(
        execution_id=execution_id,
        assert_index=0,
        assertion="assert True",
        verdict="passed",
        trusted=True,
        exception=None,
        message=None,
        line=None,
        expected=None,
        got=None,
    )


def _evaluate(step, execution_id):
    eval_id = f"step-{step}"
    yield from _execution(execution_id)
    yield EvalResult(
        eval_id=eval_id,
        task_id=1,
        sample_index=0,
        execution_id=execution_id,
        prompt=None,
        completion="",
        code=None,
        outcome="passed",
        passed=True,
        n_passed=1,
        n_asserts=1,
        n_completion_tokens=None,
        truncated=None,
        feedback=None,
    )
    yield Eval(
        eval_id=eval_id,
        step=step,
        label="x",
        dataset="d",
        protocol="p",
        decoding="greedy",
        n=1,
        k=1,
        interval_low=0.2,
        interval_high=1.0,
        wall_s=1.0,
    )


@pytest.mark.parametrize("ingest_before", [False, True])
def test_a_rewind_drops_later_steps_with_all_that_hangs_on_them(runs, results, ingest_before):
    rng = random.Random(0)
    with Journal.create(runs, synthetic_info("a")) as journal:
        for step in (1, 2, 3):
            for record in step_records(rng, step=step, skill=0.5):
                journal.append(record)
            for record in _evaluate(step, f"e{step}"):
                journal.append(record)
    if ingest_before:
        ingest(runs, results)
    with Journal.resume(runs / "a", step=1) as journal:
        for record in step_records(rng, step=2, skill=0.5, n_groups=1):
            journal.append(record)
    ingest(runs, results)
    counted = "SELECT step, count(*) FROM rollouts GROUP BY 1 ORDER BY 1"
    assert rows(results, counted) == [(1, 16), (2, 4)]
    assert rows(results, "SELECT step FROM evals") == [(1,)]
    assert rows(results, "SELECT eval_id FROM eval_results") == [("step-1",)]
    assert rows(results, "SELECT max(step) FROM metrics") == [(2,)]
    orphans = """SELECT count(*) FROM {} WHERE execution_id NOT IN
                 (SELECT execution_id FROM rollouts UNION SELECT execution_id FROM eval_results)"""
    assert rows(results, orphans.format("executions")) == [(0,)]
    assert rows(results, orphans.format("test_results")) == [(0,)]
    assert rows(results, "SELECT count(*) FROM executions") == [(21,)]


def test_rebuilding_gives_the_same_rows(recorded_copy):
    results = recorded_copy / "results" / "results.duckdb"
    before = content(results)
    report = ingest(recorded_copy / "runs", results, rebuild=True)
    assert report.rebuilt == "as asked"
    assert content(results) == before
    assert len(before["rollouts"]) == 3 * 12 * 16 + 6 * 16


@pytest.mark.slow
def test_many_ingests_of_rows_that_replace_each_other_never_rebuild(runs, results):
    """Deleted rows leave free blocks that DuckDB cuts off the file; that is no damage."""
    rng = random.Random(0)
    with Journal.create(runs, synthetic_info("a")) as journal:
        for size in (600_000, 300_000, 900_000, 10, 500_000, 10, 10):
            text = rng.randbytes(size).hex()
            journal.append(Eval(**{**list(_evaluate(1, "e"))[-1].model_dump(), "label": text}))
            journal.commit()
            assert ingest(runs, results).rebuilt in (None, "there was none")
    assert ingest(runs, results).rebuilt is None


def test_the_file_opens_in_the_older_shell(recorded):
    with connect(recorded / "results" / "results.duckdb") as connection:
        (tags,) = connection.execute(
            "SELECT tags FROM duckdb_databases() WHERE database_name = 'results'"
        ).fetchone()
    assert tags["storage_version"].startswith("v1.4")


def test_no_temporary_file_is_left(runs, results):
    write(runs)
    ingest(runs, results)
    assert sorted(path.name for path in results.parent.iterdir()) == [
        ".results.duckdb.lock",
        "results.duckdb",
    ]


def test_a_missing_runs_folder_is_one_line(tmp_path, results):
    with pytest.raises(StoreError, match="the runs folder must exist") as caught:
        ingest(tmp_path / "nowhere", results)
    assert "\n" not in str(caught.value)
    assert not results.parent.exists()


def test_hostile_text_comes_back_as_it_was_written(runs, results):
    texts = [
        "\x00\x1b[2J",
        "\ud800",
        "<script>",
        "'; DROP TABLE runs; --",
        "a\nb\u2028c",
        '{"table":"metrics"}',
        "é" * 3_000_000,
    ]
    with Journal.create(runs, synthetic_info("a")) as journal:
        for step, text in enumerate(texts):
            journal.append(Metric(step=step, name=text, value=0.0))
    assert ingest(runs, results).problems == []
    stored = [row[0] for row in rows(results, "SELECT name FROM metrics ORDER BY step")]
    assert stored == [text.encode("utf-8", "backslashreplace").decode() for text in texts]


def test_numbers_that_are_not_finite_come_back(runs, results):
    write(runs, values=(float("nan"), float("inf"), float("-inf")))
    ingest(runs, results)
    assert [repr(v) for (v,) in rows(results, "SELECT value FROM metrics ORDER BY step")] == [
        "nan",
        "inf",
        "-inf",
    ]


@pytest.mark.slow
def test_a_batch_boundary_changes_nothing(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.warehouse.batches._BATCH_BYTES", 50_000)
    results = tmp_path / "results.duckdb"
    ingest(recorded / "runs", results)
    assert content(results) == content(recorded / "results" / "results.duckdb")


def test_an_evaluation_that_was_cut_short_has_rows_but_no_summary(runs, results):
    with Journal.create(runs, synthetic_info("a")) as journal:
        records = list(eval_records(random.Random(0), step=5, skill=0.5, n_problems=3))
        for record in records[:-1]:
            journal.append(record)
    ingest(runs, results)
    assert rows(results, "SELECT count(*) FROM eval_results") == [(3,)]
    assert rows(results, "FROM leaderboard") == []
