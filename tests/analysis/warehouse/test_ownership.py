"""An ingest replaces what this program wrote and nothing else; a command that reads replaces nothing."""

import os
import re
import shlex
import sqlite3
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from analysis.journal.journal import Journal, StoreError
from analysis.records import Metric
from analysis.warehouse.ownership import move_aside
from analysis.warehouse.recent import recent_path
from analysis.warehouse.tables import FORM
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info
from sdpo_bench import main
from tests.analysis.warehouse.stored import write

READING = (["sql", "SELECT 1 AS one"], ["runs"], ["plots"], ["report"], ["export", "--parquet"])


@pytest.fixture
def runs(tmp_path):
    with Journal.create(tmp_path / "runs", synthetic_info("a")) as journal:
        journal.append(Metric(step=1, name="loss", value=1.0))
    return tmp_path / "runs"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "results.duckdb"


def duckdb_file(path, statement="CREATE TABLE notes AS SELECT 42 AS answer"):
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)


def sqlite_file(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (answer INTEGER)")
    connection.close()


FOREIGN = {
    "duckdb": duckdb_file,
    "duckdb with a table called warehouse": lambda path: duckdb_file(
        path, "CREATE TABLE warehouse AS SELECT 'shelf 3' AS place"
    ),
    "duckdb with a warehouse of another application": lambda path: duckdb_file(
        path, "CREATE TABLE warehouse AS SELECT 'shop' AS application, 2 AS form"
    ),
    "damaged duckdb": lambda path: (
        duckdb_file(path),
        path.write_bytes(path.read_bytes()[:9000]),
    ),
    "sqlite": sqlite_file,
    "text": lambda path: path.write_text("my thesis\n" * 1000),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 40),
}


def everything(folder):
    """Names and contents below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_somebody_else_is_left_as_it_is(runs, results, kind):
    results.parent.mkdir()
    FOREIGN[kind](results)
    before = everything(results.parent)
    for options in ({}, {"rebuild": True}, {"fold": True}, {"may_replace": False}):
        with pytest.raises(StoreError, match="must be one that sdpo-bench wrote") as caught:
            ingest(runs, results, **options)
        assert "\n" not in str(caught.value)
    assert everything(results.parent) == before


@pytest.mark.parametrize("kind", ["duckdb", "sqlite", "text", "empty"])
@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_no_command_touches_a_file_of_somebody_else(runs, tmp_path, kind, command):
    theirs = tmp_path / "mine" / "data.db"
    theirs.parent.mkdir()
    FOREIGN[kind](theirs)
    before = everything(theirs.parent)
    more = [str(tmp_path / "out")] if command[-1] == "--parquet" else []
    found = CliRunner().invoke(
        main, [*command, *more, "--runs-dir", str(runs), "--results", str(theirs)]
    )
    assert found.exit_code == 1
    assert found.stderr.count("\n") == 1
    assert "--no-ingest" in found.stderr
    assert everything(theirs.parent) == before


def test_somebody_elses_duckdb_file_can_be_read_without_ingest(runs, tmp_path):
    duckdb_file(tmp_path / "data.duckdb")
    found = CliRunner().invoke(
        main,
        ["sql", "SELECT answer FROM notes", "--no-ingest", "--format", "csv"]
        + ["--results", str(tmp_path / "data.duckdb")],
    )
    assert found.stdout == "answer\n42\n"


def test_a_folder_and_a_pipe_are_no_results_file(runs, tmp_path):
    (tmp_path / "folder.duckdb").mkdir()
    os.mkfifo(tmp_path / "pipe.duckdb")
    for name in ("folder.duckdb", "pipe.duckdb"):
        for ask in (lambda path: ingest(runs, path), connect):
            with pytest.raises(StoreError, match="must be a file"):
                ask(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "folder.duckdb",
        "pipe.duckdb",
        "runs",
    ]


def test_a_link_is_followed_and_stays_a_link(runs, tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "results.duckdb"
    link.symlink_to(tmp_path / "store" / "real.duckdb")
    ingest(runs, link)
    with Journal.create(runs, synthetic_info("b")):
        pass
    ingest(runs, link)
    assert link.is_symlink()
    with connect(link) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(2,)]


def test_a_link_to_somebody_elses_file_leaves_link_and_file(runs, tmp_path):
    sqlite_file(tmp_path / "theirs.db")
    before = (tmp_path / "theirs.db").read_bytes()
    link = tmp_path / "results.duckdb"
    link.symlink_to(tmp_path / "theirs.db")
    with pytest.raises(StoreError, match="must be one that sdpo-bench wrote"):
        ingest(runs, link)
    assert link.is_symlink() and (tmp_path / "theirs.db").read_bytes() == before


def test_a_link_to_itself_is_one_line(runs, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreError) as caught:
        ingest(runs, tmp_path / "loop")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_left_as_it_is(runs, results, monkeypatch):
    results.parent.mkdir()
    results.write_bytes(b"secret")
    opened = Path.open

    def refuse(self, *args, **kwargs):
        if self == results:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        ingest(runs, results)
    monkeypatch.undo()
    assert everything(results.parent) == {"results.duckdb": b"secret"}


def printed_by(error):
    """What the command in an error's text prints, run as it stands there."""
    command = re.search("run `sdpo-bench ([^`]*)`", str(error))[1]
    done = CliRunner().invoke(main, shlex.split(command))
    assert done.exit_code == 0, done.output
    return done.output


def test_a_damaged_file_that_is_opened_names_a_command_that_mends_it(runs):
    results = runs.with_name(f"{runs.name}.duckdb")
    ingest(runs, results)
    content = results.read_bytes()
    results.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="--rebuild") as caught:
        connect(results)
    printed_by(caught.value)
    with connect(results) as connection:
        assert connection.execute("SELECT value FROM metrics").fetchall() == [(1.0,)]


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_our_own_truncated_file_is_rebuilt_by_ingest_and_refused_by_a_reader(runs, results, kept):
    ingest(runs, results)
    content = results.read_bytes()
    results.write_bytes(content[: int(len(content) * kept)])
    before = everything(results.parent)
    with pytest.raises(StoreError, match="run `sdpo-bench ingest") as caught:
        ingest(runs, results, may_replace=False)
    assert everything(results.parent) == before
    assert "the file was damaged" in printed_by(caught.value)
    with connect(results) as connection:
        assert connection.execute("SELECT value FROM metrics").fetchall() == [(1.0,)]


def test_damaged_files_are_numbered_and_none_is_lost(runs, results):
    ingest(runs, results)
    kept = []
    for n in range(3):
        kept.append(results.read_bytes()[: 9000 + n])
        results.write_bytes(kept[-1])
        ingest(runs, results)
    names = ["results.duckdb.damaged", "results.duckdb.damaged-2", "results.duckdb.damaged-3"]
    assert [results.with_name(name).read_bytes() for name in names] == kept


def test_moving_aside_goes_round_folders_and_broken_links(tmp_path):
    path = tmp_path / "a"
    path.write_text("x")
    (tmp_path / "a.damaged").mkdir()
    (tmp_path / "a.damaged-2").symlink_to(tmp_path / "nowhere")
    assert move_aside(path).endswith("a.damaged-3")


def set_form(results, form):
    with duckdb.connect(str(results)) as connection:
        connection.execute("UPDATE warehouse SET form = ?, schema_sha256 = 'another'", [form])


def test_our_own_file_of_a_later_form_waits_for_a_later_program(runs, results):
    ingest(runs, results)
    set_form(results, FORM + 1)
    before = everything(results.parent)
    for options in ({}, {"may_replace": False}, {"fold": True}):
        with pytest.raises(StoreError, match="upgrade"):
            ingest(runs, results, **options)
    assert everything(results.parent) == before
    report = ingest(runs, results, rebuild=True)
    assert "results.duckdb.newer" in report.notices[0]
    assert results.with_name("results.duckdb.newer").read_bytes() == before["results.duckdb"]


def test_our_own_file_of_an_earlier_form_is_rebuilt_by_ingest_alone(runs, results):
    ingest(runs, results)
    set_form(results, FORM - 1)
    before = everything(results.parent)
    command = f"run `sdpo-bench ingest --runs-dir {runs} --results {results}`"
    with pytest.raises(StoreError, match=re.escape(command)):
        ingest(runs, results, may_replace=False)
    assert everything(results.parent) == before
    assert ingest(runs, results).rebuilt == "it was built by another version"


def test_a_file_of_the_first_form_which_names_no_program_is_ours(runs, results):
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("ALTER TABLE warehouse DROP COLUMN application")
        connection.execute("ALTER TABLE warehouse DROP COLUMN form")
        connection.execute("UPDATE warehouse SET schema_sha256 = 'first'")
    assert ingest(runs, results).rebuilt == "it was built by another version"


def test_somebody_elses_file_of_recent_rows_is_left_as_it_is(runs, results):
    ingest(runs, results)
    duckdb_file(recent_path(results))
    with Journal.create(runs, synthetic_info("b")):
        pass
    before = everything(results.parent)
    for options in ({}, {"fold": True}, {"rebuild": True}):
        with pytest.raises(StoreError, match="must be one that sdpo-bench wrote"):
            ingest(runs, results, **options)
    assert everything(results.parent) == before


def test_a_log_of_another_database_is_not_taken_for_ours(runs, results):
    results.parent.mkdir()
    results.with_name("results.duckdb.wal").write_bytes(b"theirs")
    with pytest.raises(StoreError, match="write-ahead log"):
        ingest(runs, results)
    assert results.with_name("results.duckdb.wal").read_bytes() == b"theirs"


def test_the_folder_of_an_ingester_beside_is_left_alone(runs, results):
    results.parent.mkdir()
    (results.parent / ".ingest-other.duckdb-abc").mkdir()
    ingest(runs, results)
    assert (results.parent / ".ingest-other.duckdb-abc").is_dir()


def test_an_ingest_removes_the_folders_of_killed_ingesters_of_its_own_file_alone(tmp_path):
    write(tmp_path / "runs", values=(1.0,))
    kept = {".ingest-r-2-abcdefgh", ".ingest-r-mine", ".ingest-rx-abcdefgh"}
    for name in {".ingest-r-0a_bcdef", *kept}:
        (tmp_path / name).mkdir()
    ingest(tmp_path / "runs", tmp_path / "r")
    assert {path.name for path in tmp_path.glob(".ingest-*")} == kept
