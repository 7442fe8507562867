import json
import random
import shutil

import duckdb
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from analysis.journal.journal import Journal, StoreError, segments
from analysis.journal.lines import encode
from analysis.records import (
    Eval,
    EvalResult,
    ExecutionRow,
    Metric,
    RunState,
    TestResult,
)
from analysis.warehouse.tables import record_tables
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, step_records, synthetic_info

TABLES = ["runs", *record_tables()]


def rows(results, query):
    with connect(results) as connection:
        return connection.sql(query).fetchall()


def content(results):
    """Every row of every table that a run writes, in an order of its own."""
    with connect(results) as connection:
        return {
            name: sorted(connection.sql(f'FROM "{name}"').fetchall(), key=repr) for name in TABLES
        }


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "results.duckdb"


def write(runs, run_id="a", *, values=(1.0,), step=1):
    with Journal.create(runs, synthetic_info(run_id)) as journal:
        for offset, value in enumerate(values):
            journal.append(Metric(step=step + offset, name="loss", value=value))


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


def test_a_damaged_line_is_reported_with_file_and_offset_and_the_rest_is_there(runs, results):
    write(runs, values=(1.0, 2.0, 3.0))
    _, path = segments(runs / "a")[0]
    damaged = path.read_bytes().replace(b'"value":2.0', b'"value":7.0')
    offset = damaged.rindex(b"\n", 0, damaged.index(b'"value":7.0')) + 1
    path.write_bytes(damaged)
    report = ingest(runs, results)
    assert report.problems == [
        f"{path}: damaged line at byte {offset}: checksum differs from the line's content"
    ]
    assert rows(results, "SELECT value FROM metrics ORDER BY 1") == [(1.0,), (3.0,)]
    assert "left out before" in ingest(runs, results).problems[0]


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


def test_a_run_of_a_newer_version_is_left_out_with_one_line_and_the_others_are_there(runs, results):
    write(runs, "new")
    write(runs, "old")
    path = runs / "new" / "run.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    report = ingest(runs, results)
    assert len(report.problems) == 1
    assert "schema version 1 or earlier" in report.problems[0]
    assert rows(results, "SELECT run_id FROM runs") == [("old",)]


def test_a_file_of_a_newer_version_waits_for_a_program_that_reads_it(runs, results):
    write(runs, values=(1.0,))
    newer = runs / "a" / "segment-0001-1.jsonl"
    newer.write_bytes(
        encode(
            "segment",
            b'{"schema_version":2,"run_id":"a","attempt":1,"pid":1,"host":"h","opened_at":"t"}',
        )
        + encode("metrics", b'{"step":2,"name":"loss","value":2.0}')
    )
    report = ingest(runs, results)
    assert "upgrade sdpo-bench" in report.problems[0]
    assert rows(results, "SELECT value FROM metrics") == [(1.0,)]
    newer.write_bytes(newer.read_bytes()[:0])
    assert ingest(runs, results).problems == []


def test_a_row_of_an_earlier_form_without_a_later_field_is_read(runs, results):
    write(runs, values=())
    _, path = segments(runs / "a")[0]
    with path.open("ab") as file:
        file.write(encode("artifacts", b'{"path":"adapter","kind":"adapter","n_bytes":3}'))
    assert ingest(runs, results).problems == []
    assert rows(results, "SELECT path, step, sha256 FROM artifacts") == [("adapter", None, None)]


def test_a_line_of_no_table_is_damage(runs, results):
    write(runs, values=(1.0,))
    _, path = segments(runs / "a")[0]
    with path.open("ab") as file:
        file.write(encode("metric", b'{"step":1}'))
    assert "no table is called 'metric'" in ingest(runs, results).problems[0]


def test_a_deleted_run_keeps_its_rows_until_a_rebuild(runs, results):
    write(runs, "a")
    write(runs, "b")
    ingest(runs, results)
    shutil.rmtree(runs / "a")
    report = ingest(runs, results)
    assert report.problems == []
    assert "a); their rows are kept" in report.notices[0]
    assert rows(results, "SELECT run_id FROM metrics ORDER BY 1") == [("a",), ("b",)]
    ingest(runs, results, rebuild=True)
    assert rows(results, "SELECT run_id FROM metrics") == [("b",)]


def test_two_folders_of_one_run_id_are_not_mixed(runs, results):
    write(runs, "a", values=(1.0,))
    shutil.copytree(runs / "a", runs / "copy")
    report = ingest(runs, results)
    assert "run ids must be unique, got 'a' again" in report.problems[0]
    assert rows(results, "SELECT count(*) FROM metrics") == [(1,)]


def test_a_file_that_got_shorter_is_read_again_from_its_start(runs, results):
    write(runs, values=(1.0, 2.0))
    ingest(runs, results)
    _, path = segments(runs / "a")[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    ingest(runs, results)
    assert rows(results, "SELECT value FROM metrics") == [(1.0,)]


def test_a_results_file_of_another_form_is_rebuilt(runs, results):
    write(runs)
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("UPDATE warehouse SET schema_sha256 = 'other'")
    assert ingest(runs, results).rebuilt == "it was built by another version"
    assert rows(results, "SELECT count(*) FROM metrics") == [(1,)]


def test_a_rebuild_for_a_new_form_does_not_drop_runs_whose_folder_is_gone(runs, results):
    write(runs, "a")
    write(runs, "b")
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("UPDATE warehouse SET schema_sha256 = 'other'")
    shutil.rmtree(runs / "a")
    with pytest.raises(StoreError, match="got no folder for a; restore them"):
        ingest(runs, results)
    assert rows(results, "SELECT count(*) FROM metrics") == [(2,)]


def test_a_table_of_the_user_survives_an_ingest(runs, results):
    write(runs, "a")
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'keep me' AS note")
    write(runs, "b")
    ingest(runs, results)
    assert rows(results, "FROM notes") == [("keep me",)]


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


class JournalAndWarehouse(RuleBasedStateMachine):
    """Any order of appends, commits, kills, resumes, rewinds and ingests agrees with a dictionary."""

    @initialize(folder=st.just(None))
    def start(self, folder):
        import tempfile
        from pathlib import Path

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.results = self.folder / "results.duckdb"
        self.journal = Journal.create(self.folder / "runs", synthetic_info("a"))
        self.committed, self.pending = {}, {}

    @rule(step=st.integers(0, 4), name=st.sampled_from("ab"), value=st.integers(0, 99))
    def append(self, step, name, value):
        self.journal.append(Metric(step=step, name=name, value=value))
        self.pending[step, name] = float(value)

    @rule()
    def commit(self):
        self.journal.commit()
        self.committed |= self.pending
        self.pending = {}

    @rule(step=st.none() | st.integers(0, 4), torn=st.booleans())
    def kill_and_resume(self, step, torn):
        self.journal._release()
        if torn:
            with self.journal.path.open("ab") as file:
                file.write(encode(RunState.table, b'{"attempt":0}')[:-3])
        self.pending = {}
        self.journal = Journal.resume(self.journal.run_dir, step=step)
        if step is not None:
            self.committed = {key: v for key, v in self.committed.items() if key[0] <= step}

    @precondition(lambda self: hasattr(self, "journal"))
    @rule(rebuild=st.booleans())
    def ingested_rows_are_the_committed_ones(self, rebuild):
        ingest(self.folder / "runs", self.results, rebuild=rebuild)
        stored = rows(self.results, "SELECT step, name, value FROM metrics")
        assert {(step, name): value for step, name, value in stored} == self.committed
        assert len(stored) == len(self.committed)

    @invariant()
    def the_run_has_one_folder(self):
        if hasattr(self, "folder"):
            assert [p.name for p in (self.folder / "runs").iterdir()] == ["a"]

    def teardown(self):
        if hasattr(self, "journal"):
            self.journal._release()
            self.temporary.cleanup()


TestJournalAndWarehouse = JournalAndWarehouse.TestCase
TestJournalAndWarehouse.settings = settings(
    max_examples=6,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_an_evaluation_that_was_cut_short_has_rows_but_no_summary(runs, results):
    with Journal.create(runs, synthetic_info("a")) as journal:
        records = list(eval_records(random.Random(0), step=5, skill=0.5, n_problems=3))
        for record in records[:-1]:
            journal.append(record)
    ingest(runs, results)
    assert rows(results, "SELECT count(*) FROM eval_results") == [(3,)]
    assert rows(results, "FROM leaderboard") == []


SHOWN = {
    # prompt, member, feedback used, recorded context -> what the view says
    (None, None, False, None): "none",
    ("p", 1, False, "peer"): "demonstration",
    ("p", 1, True, "peer"): "demonstration + feedback",
    ("p", None, False, "reference"): "reference",
    ("p", None, True, "reference"): "reference + feedback",
    ("p", None, True, "feedback"): "feedback",
    ("p", None, False, "nothing"): "own prompt",
}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "from before it was"])
@pytest.mark.parametrize("configured", ["peer", "reference", "nothing"])
def test_what_a_teacher_was_shown_is_asked_of_new_runs_and_old_ones(
    runs, results, recorded, configured
):
    """A row from before the column was is read as NULL, and its run's configuration answers for it."""
    info = synthetic_info("a")
    bench = {**info.config.get("bench", {}), "teacher_context": configured}
    rollout = next(
        r for r in step_records(random.Random(1), step=1, skill=0.5) if r.table == "rollouts"
    )
    of_the_run = {
        "peer": ("none", "demonstration", "demonstration + feedback", "feedback"),
        "reference": ("none", "reference", "reference + feedback"),
        "nothing": ("none", "own prompt"),
    }[configured]
    expected = {given: kind for given, kind in SHOWN.items() if kind in of_the_run}
    with Journal.create(
        runs, info.model_copy(update={"config": {**info.config, "bench": bench}})
    ) as j:
        for member, (prompt, peer, feedback, context) in enumerate(expected):
            row = rollout.model_copy(
                update={
                    "member_index": member,
                    "teacher_prompt": prompt,
                    "demonstration_member": peer,
                    "feedback_used": feedback,
                    "teacher_context": context,
                }
            )
            j.append(row)
    if not recorded:
        ((_, path),) = segments(runs / "a")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["row"].pop("teacher_context", None)
        path.write_bytes(
            b"".join(encode(line["table"], json.dumps(line["row"]).encode()) for line in lines)
        )
    ingest(runs, results)
    found = rows(results, "SELECT teacher_kind FROM shown_to_teacher ORDER BY member_index")
    assert [kind for (kind,) in found] == list(expected.values())
    contexts = rows(results, "SELECT teacher_context FROM rollouts ORDER BY member_index")
    assert [c for (c,) in contexts] == [c if recorded else None for *_, c in expected]
