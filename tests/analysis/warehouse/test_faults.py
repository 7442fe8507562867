"""Kills and several processes at once lose no acknowledged row."""

import random
import signal
import threading

import duckdb
import pytest

from analysis.journal.journal import StoreError
from analysis.warehouse.warehouse import connect, ingest
from tests.analysis.warehouse.stored import end, journal_steps, rows, start, write
from tests.scale import scaled

WRITER = """
import sys
from pathlib import Path
from analysis.journal.journal import Journal
from analysis.records import Metric
from benchmarks.synthetic import synthetic_info
runs, run_id = Path(sys.argv[1]), sys.argv[2]
run_dir = runs / run_id
step = int(sys.argv[3])
journal = Journal.resume(run_dir) if run_dir.exists() else Journal.create(runs, synthetic_info(run_id))
while True:
    for name in ("a", "b", "c"):
        journal.append(Metric(step=step, name=name * 2000, value=step))
    journal.commit()
    print(step, flush=True)
    step += 1
"""


INGESTER = """
import sys
from pathlib import Path
from analysis.warehouse.warehouse import ingest
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    ingest(Path(sys.argv[1]), Path(sys.argv[2]), rebuild=sys.argv[4] == "rebuild")
"""


SHELL = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.readline()
if sys.argv[2] == "read":
    print(connection.execute("SELECT count(*) FROM metrics").fetchone()[0], flush=True)
"""


def test_a_writer_killed_at_random_moments_loses_nothing_acknowledged(tmp_path, results):
    """Each writer dies by SIGKILL between or within commits; the next resumes the run."""
    runs, rng, acknowledged = tmp_path / "runs", random.Random(5), set()
    next_step = 0
    for _ in range(3):
        process = start(WRITER, runs, "a", next_step)
        for _ in range(rng.randrange(1, 30)):
            acknowledged.add(int(process.stdout.readline()))
        rest = end(process, kill=True)
        acknowledged |= {int(line) for line in rest.split("\n")[:-1] if line}
        next_step = max(acknowledged) + 1
        ingest(runs, results)
    stored = {row[0] for row in rows(results, "SELECT step FROM metrics")}
    assert acknowledged <= stored
    # A batch that was written but not acknowledged may be there, whole or in part: at most one a kill.
    assert len(stored - acknowledged) <= 3
    whole = rows(results, "SELECT step FROM metrics GROUP BY 1 HAVING count(*) = 3")
    assert acknowledged <= {row[0] for row in whole}
    assert ingest(runs, results).problems == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_of_writer_and_ingester_lose_nothing_acknowledged(tmp_path, results):
    runs, rng, acknowledged = tmp_path / "runs", random.Random(7), set()
    next_step = 0
    for kill in range(scaled(50)):
        writer = start(WRITER, runs, "a", next_step)
        ingester = start(INGESTER, runs, results, 1000, "increment")
        ingester.stdout.readline()
        for _ in range(rng.randrange(1, 40)):
            acknowledged.add(int(writer.stdout.readline()))
        first, second = (writer, ingester) if kill % 2 else (ingester, writer)
        for process in (first, second):
            rest = end(process, kill=True)
            if process is writer:
                acknowledged |= {int(line) for line in rest.split("\n")[:-1] if line}
        next_step = max(acknowledged) + 1
        if results.exists():
            assert rows(results, "SELECT count(*) FROM runs") == [(1,)]
    assert ingest(runs, results).problems == []
    stored = {row[0] for row in rows(results, "SELECT step FROM metrics")}
    assert acknowledged <= stored


@pytest.mark.slow
def test_an_ingester_killed_at_random_moments_leaves_a_whole_file(recorded_copy, tmp_path, results):
    runs, rng = recorded_copy / "runs", random.Random(3)
    ingest(runs, results)
    before = rows(results, "SELECT count(*), sum(reward) FROM rollouts")
    for _ in range(3):
        process = start(INGESTER, runs, results, 1000, "rebuild")
        process.stdout.readline()
        timer = threading.Timer(rng.uniform(0.0, 0.4), process.kill)
        timer.start()
        process.communicate()
        timer.join()
        assert process.returncode == -signal.SIGKILL
        assert rows(results, "SELECT count(*), sum(reward) FROM rollouts") == before
    ingest(runs, results, rebuild=True)
    assert rows(results, "SELECT count(*), sum(reward) FROM rollouts") == before
    assert not list(results.parent.glob(".ingest-*"))


@pytest.mark.slow
def test_writers_ingesters_and_a_reader_at_once(tmp_path, results):
    """Two writers and two ingesters run while a reader keeps the first file open."""
    runs = tmp_path / "runs"
    write(runs, "first", values=(1.0,))
    ingest(runs, results)
    reader = start(SHELL, results, "read")
    reader.stdout.readline()
    writers = [start(WRITER, runs, name, 0) for name in "ab"]
    for writer in writers:
        writer.stdout.readline()
    ingesters = [start(INGESTER, runs, results, 1, "increment") for _ in range(2)]
    for ingester in ingesters:
        end(ingester)
        assert ingester.returncode == 0
    acknowledged = [end(writer, kill=True).split("\n")[:-1] for writer in writers]
    out, _ = reader.communicate("go\n")
    assert out.strip() == "1", "a reader sees the file as it was when it opened it"
    ingest(runs, results)
    for name, steps in zip("ab", acknowledged, strict=True):
        stored = {
            row[0]
            for row in rows(results, f"SELECT step FROM metrics WHERE run_id = '{name}'")  # noqa: S608
        }
        assert {int(step) for step in steps} <= stored


def test_an_open_shell_that_writes_is_noticed_and_left_alone(tmp_path, results):
    write(tmp_path / "runs", "a")
    ingest(tmp_path / "runs", results)
    inode = results.stat().st_ino
    shell = start(SHELL, results, "write")
    shell.stdout.readline()
    write(tmp_path / "runs", "b")
    for ask in (lambda: ingest(tmp_path / "runs", results), lambda: connect(results)):
        with pytest.raises(StoreError, match="close that SQL shell or open it with -readonly"):
            ask()
    assert results.stat().st_ino == inode
    shell.communicate("go\n")
    ingest(tmp_path / "runs", results)
    assert rows(results, "SELECT count(*) FROM runs") == [(2,)]


def test_an_open_connection_of_this_process_that_writes_is_noticed(tmp_path, results):
    write(tmp_path / "runs")
    ingest(tmp_path / "runs", results)
    with duckdb.connect(str(results)):
        with pytest.raises(StoreError, match="must not be open for writing"):
            ingest(tmp_path / "runs", results)


def test_what_a_killed_shell_left_in_its_log_is_kept(tmp_path, results):
    write(tmp_path / "runs", "a")
    ingest(tmp_path / "runs", results)
    code = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute('CREATE TABLE notes AS SELECT 1 AS one'); os._exit(9)"
    )
    end(start(code, results))
    assert results.with_name("results.duckdb.wal").exists()
    write(tmp_path / "runs", "b")
    ingest(tmp_path / "runs", results)
    assert not results.with_name("results.duckdb.wal").exists()
    assert rows(results, "FROM notes") == [(1,)]
    assert rows(results, "SELECT count(*) FROM runs") == [(2,)]


def test_two_processes_that_create_one_run_make_one(tmp_path):
    code = (
        "import sys; from pathlib import Path; from analysis.journal.journal import Journal, StoreError\n"
        "from benchmarks.synthetic import synthetic_info\n"
        "try: Journal.create(Path(sys.argv[1]), synthetic_info('a')); print('made')\n"
        "except StoreError: print('refused')"
    )
    processes = [start(code, tmp_path) for _ in range(3)]
    assert sorted(end(process).strip() for process in processes) == ["made", "refused", "refused"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert journal_steps(tmp_path / "a") == []
