"""Recent rows beside a large results file: the same answers, without writing the large file again."""

import os
import random
import shutil
import signal
import threading

import duckdb
import pytest
from click.testing import CliRunner

from analysis.journal.journal import Journal, StoreError
from analysis.records import Metric
from analysis.warehouse.recent import recent_path
from analysis.warehouse.tables import JOURNAL_FILES, VIEWS_SQL, row_tables
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import step_records, synthetic_info, write_training_run
from sdpo_bench import main
from tests.analysis.warehouse.stored import INGEST_FOREVER, WRITE_FOREVER, start
from tests.scale import scaled

VIEWS = [
    line.split()[2] for line in VIEWS_SQL.read_text().splitlines() if line.startswith("CREATE VIEW")
]


@pytest.fixture
def beside(monkeypatch):
    """Any results file counts as large, and any file of recent rows as small."""

    def set_limit(results):
        recent = recent_path(results)
        limit = recent.stat().st_size if recent.exists() else 0
        monkeypatch.setattr("analysis.warehouse.warehouse.MOST_COPIED_BYTES", limit)

    return set_limit


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two runs of twelve steps with an evaluation: what is large here is a question of the limit."""
    folder = tmp_path_factory.mktemp("small")
    for algorithm in ("sdpo", "grpo"):
        write_training_run(
            folder / "runs",
            f"train-{algorithm}-42",
            algorithm=algorithm,
            n_steps=12,
            eval_every=12,
            n_problems=4,
        )
    ingest(folder / "runs", folder / "results" / "results.duckdb")
    return folder


@pytest.fixture
def recorded_copy(small, tmp_path):
    return shutil.copytree(small, tmp_path / "recorded")


@pytest.fixture
def results(recorded_copy):
    return recorded_copy / "results" / "results.duckdb"


TABLES = (*row_tables(), JOURNAL_FILES.name)


def content(results, names=TABLES):
    with connect(results) as connection:
        return {
            name: sorted(map(rounded, connection.execute(f'FROM "{name}"').fetchall()), key=repr)
            for name in names
        }


def rounded(row):
    """A sum of floats depends on the order of its parts in the last digits."""
    return tuple(float(f"{value:.12g}") if isinstance(value, float) else value for value in row)


def add_steps(runs, run_id, steps):
    rng = random.Random(str(steps))
    run_dir = runs / run_id
    journal = Journal.resume(run_dir) if run_dir.exists() else None
    with journal or Journal.create(runs, synthetic_info(run_id)) as journal:
        for step in steps:
            for record in step_records(rng, step=step, skill=0.5):
                journal.append(record)


def test_a_step_is_added_without_writing_the_large_file(recorded_copy, results, beside):
    runs, before = recorded_copy / "runs", results.stat()
    for step in (1, 2):
        beside(results)
        add_steps(runs, "live", [step])
        assert ingest(runs, results).rebuilt is None
        with connect(results) as connection:
            counted = connection.execute(
                "SELECT count(*), max(step) FROM rollouts WHERE run_id = 'live'"
            ).fetchall()
        assert counted == [(16 * step, step)]
    after = results.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert recent_path(results).exists()
    ingest(runs, results)
    assert ingest(runs, results).n_rows == 0


def test_a_run_that_the_large_file_has_goes_on_beside_it(recorded_copy, results, beside):
    runs, inode = recorded_copy / "runs", results.stat().st_ino
    beside(results)
    add_steps(runs, "train-sdpo-42", [13])
    ingest(runs, results)
    assert results.stat().st_ino == inode
    with connect(results) as connection:
        counts = connection.execute(
            "SELECT count(*), max(step) FROM rollouts WHERE run_id = 'train-sdpo-42'"
        ).fetchall()
    assert counts == [(13 * 16, 13)]


@pytest.mark.slow
def test_tables_and_views_are_those_of_one_file(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1, 2, 3])
    add_steps(runs, "train-grpo-42", [13])
    ingest(runs, results)
    assert recent_path(results).exists()
    names = (*row_tables(), JOURNAL_FILES.name, *VIEWS)
    together = content(results, names)
    ingest(runs, results, fold=True)
    assert not recent_path(results).exists()
    assert content(results, names) == together
    ingest(runs, results, rebuild=True)
    rebuilt = content(results, names)
    assert {name: rebuilt[name] for name in names} == together


def test_a_row_that_replaces_one_of_the_large_file_is_folded_in(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "train-sdpo-42", [13])
    ingest(runs, results)
    beside(results)
    with Journal.resume(runs / "train-sdpo-42") as journal:
        journal.append(Metric(step=1, name="loss", value=123.0))
    ingest(runs, results)
    assert not recent_path(results).exists()
    with connect(results) as connection:
        query = "SELECT value FROM metrics WHERE run_id = 'train-sdpo-42' AND name = 'loss' AND step = 1"
        assert connection.execute(query).fetchall() == [(123.0,)]
    assert_rebuild_agrees(runs, results)


def test_a_rewind_of_a_run_in_the_large_file_undoes_its_rows_there(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "train-sdpo-42", [13])
    ingest(runs, results)
    beside(results)
    Journal.resume(runs / "train-sdpo-42", step=5).close()
    ingest(runs, results)
    with connect(results) as connection:
        query = "SELECT max(step) FROM rollouts WHERE run_id = 'train-sdpo-42'"
        assert connection.execute(query).fetchall() == [(5,)]
    assert_rebuild_agrees(runs, results)
    # What follows such a resume stands beside the file again.
    inode = results.stat().st_ino
    beside(results)
    add_steps(runs, "train-sdpo-42", [6])
    ingest(runs, results)
    assert results.stat().st_ino == inode
    assert_rebuild_agrees(runs, results)


def assert_rebuild_agrees(runs, results):
    before = content(results)
    ingest(runs, results, rebuild=True)
    assert content(results) == before


def test_a_run_whose_folder_is_gone_is_kept_by_the_fold(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1])
    ingest(runs, results)
    shutil.rmtree(runs / "live")
    report = ingest(runs, results, fold=True)
    assert "(live): deleted" in report.notices[0]
    assert sum(row[0] == "live" for row in content(results)["rollouts"]) == 16
    assert any(row[1] == "live" for row in content(results)["runs"])


@pytest.mark.slow
def test_recent_rows_of_another_generation_do_not_count(recorded_copy, results, beside):
    """A kill between replacing the large file and removing the small one leaves such a file."""
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1])
    ingest(runs, results)
    stale = recent_path(results).read_bytes()
    ingest(runs, results, fold=True)
    before = content(results)
    recent_path(results).write_bytes(stale)
    assert content(results) == before
    add_steps(runs, "live", [2])
    beside(results)
    ingest(runs, results)
    assert len(content(results)["rollouts"]) == len(before["rollouts"]) + 16
    assert_rebuild_agrees(runs, results)


def test_damaged_recent_rows_are_kept_aside_and_read_again(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1])
    ingest(runs, results)
    before = content(results)
    content_there = recent_path(results).read_bytes()
    recent_path(results).write_bytes(content_there[:4096] + b"not a database\n" * 2000)
    with pytest.raises(StoreError, match="--rebuild"):
        connect(results)
    beside(results)
    report = ingest(runs, results)
    assert "the recent rows were damaged" in report.notices[0]
    assert content(results) == before
    assert recent_path(results).with_name("results.recent.duckdb.damaged").exists()


def test_a_disk_that_fills_leaves_both_files_as_they_were(
    recorded_copy, results, beside, monkeypatch
):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1])
    ingest(runs, results)
    before = content(results)
    add_steps(runs, "live", [2])
    beside(results)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(StoreError, match="No space left on device"):
            ingest(runs, results)
    assert content(results) == before
    assert not list(results.parent.glob(".ingest-*"))
    ingest(runs, results)
    assert len(content(results)["rollouts"]) == len(before["rollouts"]) + 16


def test_a_shell_that_writes_recent_rows_is_noticed(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1])
    ingest(runs, results)
    with duckdb.connect(str(recent_path(results))):
        with pytest.raises(StoreError, match="must not be open for writing"):
            ingest(runs, results)


def test_recent_rows_whose_file_is_cut_off_are_refused_before_a_query_reads_them(
    recorded_copy, results, beside, monkeypatch
):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", range(1, 40))
    ingest(runs, results)
    recent = recent_path(results)
    with duckdb.connect(str(recent), read_only=True) as connection:
        query = "SELECT used_blocks, block_size FROM pragma_database_size()"
        ((n_used, block_bytes),) = connection.execute(query).fetchall()
    whole = recent.read_bytes()
    recent.write_bytes(whole[: (n_used - 1) * block_bytes])
    waits = []
    monkeypatch.setattr("analysis.warehouse.recent.time.sleep", waits.append)
    with pytest.raises(StoreError, match="shorter than the blocks in use.*ingest .*--rebuild"):
        connect(results)
    # the blocks of the catalog may be there, and those of the rows not
    monkeypatch.setattr("analysis.warehouse.recent._continues", lambda *_, **__: True)
    with pytest.raises(StoreError, match="shorter than the blocks in use"):
        connect(results)
    assert len(waits) == 40

    # a file that is whole at the next look is read
    monkeypatch.setattr("analysis.warehouse.recent.time.sleep", lambda _: recent.write_bytes(whole))
    with connect(results) as connection:
        query = "SELECT count(*) FROM rollouts WHERE run_id = 'live'"
        assert connection.execute(query).fetchall() == [(39 * 16,)]


def test_a_table_of_the_user_is_there_beside_recent_rows(recorded_copy, results, beside):
    with duckdb.connect(str(results)) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'keep me' AS note")
    beside(results)
    add_steps(recorded_copy / "runs", "live", [1])
    ingest(recorded_copy / "runs", results)
    assert recent_path(results).exists()
    assert content(results, ["notes"]) == {"notes": [("keep me",)]}


@pytest.mark.slow
def test_fold_gives_other_programs_one_file(recorded_copy, results, beside):
    runs = recorded_copy / "runs"
    beside(results)
    add_steps(runs, "live", [1])
    ingest(runs, results)
    result = CliRunner().invoke(
        main, ["ingest", "--fold", "--runs-dir", str(runs), "--results", str(results)]
    )
    assert result.exit_code == 0, result.output
    with duckdb.connect(str(results), read_only=True) as connection:
        query = "SELECT count(*) FROM rollouts WHERE run_id = 'live'"
        assert connection.execute(query).fetchall() == [(16,)]


@pytest.mark.slow
def test_a_reader_never_sees_fewer_rows_than_before_while_files_are_replaced(
    recorded_copy, results
):
    runs = recorded_copy / "runs"
    writer = start(WRITE_FOREVER, runs, "live", 0)
    ingester = start(INGEST_FOREVER, runs, results)
    try:
        writer.stdout.readline()
        ingester.stdout.readline()
        counts, n_beside = [], 0
        for _ in range(150):
            with connect(results) as connection:
                counts += connection.execute("SELECT count(*) FROM metrics").fetchall()[0]
            n_beside += recent_path(results).exists()
        assert counts == sorted(counts)
        assert counts[-1] > counts[0]
        assert 0 < n_beside < 150, "both kinds of ingest happened"
    finally:
        for process in (writer, ingester):
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_an_ingester_killed_at_random_moments_beside_a_large_file_loses_nothing(
    recorded_copy, results
):
    runs, rng, acknowledged, next_step = recorded_copy / "runs", random.Random(11), set(), 0
    for _ in range(scaled(20)):
        writer = start(WRITE_FOREVER, runs, "live", next_step)
        ingester = start(INGEST_FOREVER, runs, results)
        ingester.stdout.readline()
        timer = threading.Timer(rng.uniform(0.0, 0.5), ingester.kill)
        timer.start()
        ingester.communicate()
        timer.join()
        assert ingester.returncode == -signal.SIGKILL
        writer.kill()
        acknowledged |= {int(line) for line in writer.communicate()[0].split("\n")[:-1]}
        next_step = max(acknowledged, default=0) + 1
        with connect(results) as connection:
            assert connection.execute(
                "SELECT count(*) FROM rollouts WHERE run_id = 'train-sdpo-42'"
            ).fetchall() == [(12 * 16,)]
    ingest(runs, results)
    stored = {row[1] for row in content(results)["metrics"] if row[0] == "live"}
    with connect(results) as connection:
        steps = connection.execute("SELECT step FROM metrics WHERE run_id = 'live'").fetchall()
    assert acknowledged <= {step for (step,) in steps}
    assert len(steps) == len({step for (step,) in steps})
    assert stored
    assert_rebuild_agrees(runs, results)
