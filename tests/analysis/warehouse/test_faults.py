"""What must not lose an acknowledged row: kills, full disks, damage, several processes at once."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import duckdb
import pytest

from analysis.journal.journal import Journal, StoreError, segments
from analysis.journal.lines import Line, scan
from analysis.records import Metric
from analysis.warehouse.state import is_damage
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info

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


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process, *, kill=False):
    """What it printed that was not read yet; `communicate` would leave out what `readline` read ahead."""
    if kill:
        process.kill()
    process.stdin.close()
    with process.stdout:
        out = process.stdout.read()
    process.wait()
    return out


def write(runs, run_id="a", values=(1.0,)):
    with Journal.create(runs, synthetic_info(run_id)) as journal:
        for step, value in enumerate(values):
            journal.append(Metric(step=step, name="loss", value=value))


def rows(results, query):
    with connect(results) as connection:
        return connection.execute(query).fetchall()


def journal_steps(run_dir):
    return [
        json.loads(item.row)["step"]
        for _, path in segments(run_dir)
        for item in scan(path)
        if isinstance(item, Line) and item.table == "metrics"
    ]


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "results.duckdb"


def test_a_writer_killed_at_random_moments_loses_nothing_acknowledged(tmp_path, results):
    """Each writer dies by SIGKILL between or within commits; the next resumes the run."""
    runs, rng, acknowledged = tmp_path / "runs", random.Random(5), set()
    next_step = 0
    for _ in range(4):
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
    assert len(stored - acknowledged) <= 4
    whole = rows(results, "SELECT step FROM metrics GROUP BY 1 HAVING count(*) = 3")
    assert acknowledged <= {row[0] for row in whole}
    assert ingest(runs, results).problems == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_of_writer_and_ingester_lose_nothing_acknowledged(tmp_path, results):
    runs, rng, acknowledged = tmp_path / "runs", random.Random(7), set()
    next_step = 0
    for kill in range(50):
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


def test_an_ingester_killed_at_random_moments_leaves_a_whole_file(recorded_copy, tmp_path, results):
    runs, rng = recorded_copy / "runs", random.Random(3)
    ingest(runs, results)
    before = rows(results, "SELECT count(*), sum(reward) FROM rollouts")
    for _ in range(4):
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


def test_writers_ingesters_and_a_reader_at_once(tmp_path, results):
    """Four writers and two ingesters run while a reader keeps the first file open."""
    runs = tmp_path / "runs"
    write(runs, "first", values=(1.0,))
    ingest(runs, results)
    reader = start(SHELL, results, "read")
    reader.stdout.readline()
    writers = [start(WRITER, runs, name, 0) for name in "abcd"]
    for writer in writers:
        writer.stdout.readline()
    ingesters = [start(INGESTER, runs, results, 3, "increment") for _ in range(2)]
    for ingester in ingesters:
        end(ingester)
        assert ingester.returncode == 0
    acknowledged = [end(writer, kill=True).split("\n")[:-1] for writer in writers]
    out, _ = reader.communicate("go\n")
    assert out.strip() == "1", "a reader sees the file as it was when it opened it"
    ingest(runs, results)
    for name, steps in zip("abcd", acknowledged, strict=True):
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


@pytest.mark.parametrize("stage", ["copy", "replace"])
def test_a_disk_that_fills_during_ingest_leaves_the_old_file(tmp_path, results, monkeypatch, stage):
    write(tmp_path / "runs", "a")
    ingest(tmp_path / "runs", results)
    write(tmp_path / "runs", "b")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(*{"copy": (shutil, "copyfile"), "replace": (os, "replace")}[stage], fail)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            ingest(tmp_path / "runs", results)
    assert "\n" not in str(caught.value)
    assert rows(results, "SELECT count(*) FROM runs") == [(1,)]
    assert not list(results.parent.glob(".ingest-*"))
    ingest(tmp_path / "runs", results)
    assert rows(results, "SELECT count(*) FROM runs") == [(2,)]


def test_a_file_size_limit_during_ingest_leaves_the_old_file(tmp_path, results):
    """DuckDB itself meets the limit, as on a full disk, in a child process."""
    runs = tmp_path / "runs"
    write(runs, "a")
    ingest(runs, results)
    write(runs, "b", values=[float(i) for i in range(3000)])
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from analysis.warehouse.warehouse import ingest; from analysis.journal.journal import StoreError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: ingest(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except StoreError as error: print(str(error).count(chr(10)), error)"
    )
    out = end(start(code, runs, results))
    assert out.startswith("0 the "), out
    assert rows(results, "SELECT count(*) FROM runs") == [(1,)]
    ingest(runs, results)
    assert rows(results, "SELECT count(*) FROM metrics") == [(3001,)]


@pytest.mark.parametrize("damage", ["header", "truncated"])
def test_a_damaged_results_file_is_rebuilt_from_the_journals_and_kept_aside(
    tmp_path, results, damage
):
    write(tmp_path / "runs", values=(1.0, 2.0))
    ingest(tmp_path / "runs", results)
    content = bytearray(results.read_bytes())
    match damage:
        case "header":
            content[4096 + 20] ^= 0xFF
            content[8192 + 20] ^= 0xFF
        case "truncated":
            content = content[: len(content) // 2]
    results.write_bytes(content)
    if damage != "truncated":  # found when a missing part is read
        with pytest.raises(StoreError, match="--rebuild") as caught:
            connect(results)
        assert "\n" not in str(caught.value)
    report = ingest(tmp_path / "runs", results)
    assert report.rebuilt.startswith("the file was damaged")
    assert rows(results, "SELECT count(*) FROM metrics") == [(2,)]
    aside = results.with_name("results.duckdb.damaged")
    assert aside.read_bytes() == bytes(content)


def test_a_flipped_byte_in_a_stored_row_is_noticed_when_it_is_read(tmp_path, results):
    from analysis.queries import run_query

    text = "needle-in-the-file-" * 400
    with Journal.create(tmp_path / "runs", synthetic_info("a")) as journal:
        journal.append(Metric(step=1, name=text, value=1.0))
    ingest(tmp_path / "runs", results)
    content = bytearray(results.read_bytes())
    place = content.find(b"needle-in-the-file")
    assert place > 0
    content[place] ^= 1
    results.write_bytes(content)
    with pytest.raises(StoreError, match="rebuild") as caught:
        with connect(results) as connection:
            run_query(connection, "SELECT name FROM metrics")
    assert "\n" not in str(caught.value)
    ingest(tmp_path / "runs", results, rebuild=True)
    assert rows(results, "SELECT name FROM metrics") == [(text,)]


@pytest.mark.slow
def test_a_byte_flipped_anywhere_in_the_results_is_found_or_changes_nothing(recorded_copy):
    """Some bytes of the file belong to no row; of every other one DuckDB has a checksum."""
    from analysis.warehouse.tables import record_tables

    runs, results = recorded_copy / "runs", recorded_copy / "results" / "results.duckdb"
    rng = random.Random(13)

    def everything():
        with connect(results) as connection:
            return {
                name: sorted(connection.execute(f'FROM "{name}"').fetchall(), key=repr)
                for name in ("runs", *record_tables())
            }

    whole, content, n_found = everything(), results.read_bytes(), 0
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        results.write_bytes(flipped)
        try:
            assert everything() == whole
        except (StoreError, duckdb.Error) as error:
            assert is_damage(error) or isinstance(error, StoreError), error
            n_found += 1
    assert n_found > 30
    ingest(runs, results, rebuild=True)
    assert everything() == whole


@pytest.fixture
def small_disk(tmp_path):
    """A file system that is really full after some bytes; only root may make one."""
    mounted = []

    def mount(n_bytes):
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_journal_on_a_full_disk_stops_with_everything_acknowledged(small_disk):
    disk = small_disk(512 << 10)
    journal = Journal.create(disk / "runs", synthetic_info("a"))
    acknowledged = []
    with pytest.raises(StoreError, match="No space left on device") as caught:
        for step in range(100_000):
            journal.append(Metric(step=step, name="x" * 5000, value=1.0))
            journal.commit()
            acknowledged.append(step)
    assert "\n" not in str(caught.value)
    assert len(acknowledged) > 10
    assert journal_steps(disk / "runs" / "a") == acknowledged
    journal._release()


@pytest.mark.parametrize("n_bytes", [1 << 20, 3 << 20])
def test_an_ingest_on_a_full_disk_leaves_the_old_file(tmp_path, small_disk, n_bytes):
    """Wherever the space ends, in the copy, its log or the staged rows."""
    runs, disk = tmp_path / "runs", small_disk(n_bytes)
    write(runs, "a")
    results = disk / "results.duckdb"
    try:
        ingest(runs, results)
    except StoreError:
        assert not results.exists()
        return
    write(runs, "b", values=[float(i) for i in range(30_000)])
    (disk / "filler").write_bytes(b"x" * (shutil.disk_usage(disk).free - (256 << 10)))
    with pytest.raises(StoreError) as caught:
        ingest(runs, results)
    assert "\n" not in str(caught.value)
    assert rows(results, "SELECT count(*) FROM runs") == [(1,)]
    assert sorted(path.name for path in disk.iterdir()) == [
        ".results.duckdb.lock",
        "filler",
        "results.duckdb",
    ]


@pytest.mark.slow
def test_a_10_mb_completion_goes_through_to_sql_and_the_report(tmp_path, results):
    from analysis.records import Rollout
    from benchmarks.synthetic import step_records

    text = "x = 'é\x00<b>'\n" * 800_000
    with Journal.create(tmp_path / "runs", synthetic_info("a")) as journal:
        for record in step_records(random.Random(0), step=1, skill=0.5):
            if isinstance(record, Rollout):
                record = record.model_copy(update={"completion": text})
                journal.append(record)
                break
    assert ingest(tmp_path / "runs", results).problems == []
    assert len(text.encode()) > 10_000_000
    assert rows(results, "SELECT completion FROM rollouts") == [(text,)]
    pytest.importorskip("altair")
    from analysis.report.report import build_report

    with connect(results) as connection:
        assert len(build_report(connection)) < 1_000_000


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, results, monkeypatch):
    clock = iter(f"2026-01-0{9 - i // 3}T00:00:00.000+00:00" for i in range(20))
    monkeypatch.setattr("analysis.journal.journal._now", lambda: next(clock))
    runs = tmp_path / "runs"
    write(runs, values=(1.0,))
    with Journal.resume(runs / "a") as journal:
        journal.append(Metric(step=0, name="loss", value=2.0))
    ingest(runs, results)
    assert rows(results, "SELECT value FROM metrics") == [(2.0,)]
    assert rows(results, "SELECT state, n_attempts FROM run_overview") == [("finished", 2)]


def test_a_damaged_run_json_leaves_the_other_runs(tmp_path, results):
    write(tmp_path / "runs", "a")
    write(tmp_path / "runs", "b")
    (tmp_path / "runs" / "a" / "run.json").write_bytes(b'{"run_id": "a", \xff')
    report = ingest(tmp_path / "runs", results)
    assert len(report.problems) == 1
    assert "run.json must describe a run" in report.problems[0]
    assert "\n" not in report.problems[0]
    assert rows(results, "SELECT run_id FROM runs") == [("b",)]


def test_bytes_that_are_no_utf8_are_damage_and_nothing_else_is_lost(tmp_path, results):
    write(tmp_path / "runs", values=(1.0, 2.0))
    _, path = segments(tmp_path / "runs" / "a")[0]
    with path.open("ab") as file:
        file.write(b'\xff\xfe{"table"\n')
    report = ingest(tmp_path / "runs", results)
    assert "not a journal line" in report.problems[0]
    assert rows(results, "SELECT count(*) FROM metrics") == [(2,)]


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
