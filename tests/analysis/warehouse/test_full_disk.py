"""A disk that fills loses no acknowledged row and leaves the results file whole."""

import errno
import os
import shutil
import subprocess

import pytest

from analysis.journal.journal import Journal, StoreError
from analysis.records import Metric
from analysis.warehouse.warehouse import ingest
from benchmarks.synthetic import synthetic_info
from tests.analysis.warehouse.stored import end, journal_steps, rows, start, write


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
