"""An export read back: the same rows under the same names, whole or not at all."""

import math
import os
import shutil
import typing

import duckdb
import pytest
from click.testing import CliRunner

from analysis.imports.exported import restore
from analysis.journal.journal import (
    Journal,
    StoreError,
    labelled_runs,
    lock_run,
    read_run_info,
)
from analysis.records import RECORDS, Metric, Rewind
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info
from sdpo_bench import main
from tests.analysis.warehouse.stored import TABLES

LOSSES = {1: 0.5, 2: math.nan, 3: -math.inf}
TEXT = "a\n'\"\\ \u2028 é 😀 \x1b[31m\tNULL\r\n{}%s,;"


def filled(kind, n):
    """A row with an odd value in every field, or NULL where one may stand and n is odd."""

    def value(annotation):
        parts = typing.get_args(annotation)
        if n % 2 and type(None) in parts:
            return None
        match typing.get_origin(annotation):
            case None:
                floats = [5e-324, math.nan, -0.0, -math.inf]
                return {str: f"{n} {TEXT}", int: n, float: floats[n], bool: n == 0}[annotation]
            case typing.Literal:
                return parts[n]
            case origin if origin is dict:
                return {"a": n, TEXT: "b"}
        return value(parts[0])

    return kind.model_validate({name: value(f.annotation) for name, f in kind.model_fields.items()})


@pytest.fixture(scope="module")
def exported(recorded, tmp_path_factory):
    """Runs of every kind, one of them resumed from a checkpoint, and their exports in both forms."""
    folder = tmp_path_factory.mktemp("exported")
    runs = shutil.copytree(recorded / "runs", folder / "runs")
    with Journal.create(runs, synthetic_info("full")) as journal:
        for kind in RECORDS:
            for n in () if kind is Rewind else range(4):
                journal.append(filled(kind, n))
    with Journal.create(runs, synthetic_info("resumed", label="a 'b' [c]*")) as journal:
        for step in (1, 2, 3):
            journal.append(Metric(step=step, name="loss", value=9.0))
    with Journal.resume(runs / "resumed", step=1) as journal:
        for step, loss in LOSSES.items():
            journal.append(Metric(step=step, name="loss", value=loss))
    for form in ([], ["--whole-tables"]):
        words = ["--parquet", str(folder / f"parts [{len(form)}]"), "--runs-dir", str(runs)]
        result = CliRunner().invoke(
            main, ["export", *words, "--results", str(folder / "results.duckdb"), *form]
        )
        assert result.exit_code == 0, result.output
    return folder


def content(results):
    """Every row of a results file but the number of its run within the folder."""
    with connect(results) as connection:
        tables = {name: connection.table(name) for name in TABLES}
        tables["runs"] = tables["runs"].project("* EXCLUDE (sequence)")
        return {name: sorted(map(repr, table.fetchall())) for name, table in tables.items()}


@pytest.mark.parametrize("form", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_row_of_every_table_comes_back(exported, tmp_path, form):
    found = restore(exported / f"parts [{form}]", tmp_path / "runs")
    written = found.written
    assert len(written) == 9
    assert not found.present and not found.left_out and not found.notes
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    before, after = content(exported / "results.duckdb"), content(tmp_path / "results.duckdb")
    assert all(before.values())
    assert after == before
    assert sum(n_rows for _, n_rows in written) == sum(map(len, after.values())) - len(
        after["runs"]
    )


@pytest.mark.slow
def test_the_order_of_the_runs_is_kept_and_one_that_is_there_is_left(exported, tmp_path):
    runs = tmp_path / "runs"
    with Journal.create(runs, synthetic_info("resumed", label="mine")):
        pass
    mine = (runs / "resumed" / "run.json").read_bytes()
    found = restore(exported / "parts [0]", runs)
    assert found.present == ["resumed"]
    assert (runs / "resumed" / "run.json").read_bytes() == mine
    ingest(runs, tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        order = [
            row[0] for row in connection.sql("SELECT run_id FROM runs ORDER BY sequence").fetchall()
        ]
    assert order == ["resumed", *(run_id for run_id, _ in found.written)]
    again = restore(exported / "parts [0]", runs)
    assert (again.written, again.present) == ([], [r for r, _ in found.written] + ["resumed"])


def write(folder, table, query, *values):
    (folder / table).mkdir(parents=True)
    duckdb.sql(query, params=values).write_parquet(str(folder / table / "all.parquet"))


def test_what_is_no_export_is_refused_in_one_line(exported, tmp_path):
    with pytest.raises(StoreError, match="no folder 'runs' in it"):
        restore(tmp_path, tmp_path / "runs")
    write(tmp_path / "a", "runs", "SELECT 'r' AS run_id, 1 AS colour")
    with pytest.raises(StoreError, match="column 'colour' of runs"):
        restore(tmp_path / "a", tmp_path / "runs")
    write(tmp_path / "b", "runs", "SELECT 'r' AS run_id")
    with pytest.raises(StoreError, match="kind: Field required"):
        restore(tmp_path / "b", tmp_path / "runs")
    damaged = shutil.copytree(exported / "parts [1]", tmp_path / "c")
    (damaged / "metrics" / "all.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"metrics/all.parquet.*; name another"):
        restore(damaged, tmp_path / "runs")
    assert not any((tmp_path / "runs").glob("*")), "half a run stands there"


def test_a_folder_of_exports_names_those_in_it(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "runs").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    with pytest.raises(StoreError) as caught:
        restore(tmp_path, tmp_path / "runs")
    assert str(caught.value).endswith(f"; name {tmp_path / 'one'} or {tmp_path / 'two'}")


@pytest.mark.parametrize("run_id", ["../out", "/tmp/out", ".", "a/b", "", "x" * 201, "a\nb"])
def test_a_run_id_that_is_no_file_name_writes_nothing(exported, tmp_path, run_id):
    source = shutil.copy(exported / "parts [1]" / "runs" / "all.parquet", tmp_path)
    query = "SELECT * REPLACE (? AS run_id) FROM read_parquet(?) LIMIT 1"
    write(tmp_path / "in", "runs", query, run_id, str(source))
    (tmp_path / "out" / "runs").mkdir(parents=True)
    with pytest.raises(StoreError, match="a run id must be"):
        restore(tmp_path / "in", tmp_path / "out" / "runs")
    assert not list(tmp_path.glob("out/**/*.jsonl"))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "all.parquet"}


def test_the_command_says_what_it_wrote(exported, tmp_path):
    words = ["restore", str(exported / "parts [1]"), "--runs-dir", str(tmp_path / "runs")]
    first, second = (CliRunner().invoke(main, words) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert "rows" in first.stdout
    assert "left as it is" in second.stdout


def test_what_a_killed_restore_left_is_no_run_and_goes_with_the_next(exported, tmp_path):
    runs = tmp_path / "runs"
    (run_id, _), *_ = restore(exported / "parts [0]", runs).written
    label = read_run_info(runs / run_id).label
    n_labelled = len(labelled_runs(runs, label))
    for end in ("0123abcd", "89abcdef", "mine"):
        shutil.copytree(runs / run_id, runs / f".new-{run_id}-{end}")
    shutil.rmtree(runs / run_id)
    assert len(labelled_runs(runs, label)) == n_labelled - 1
    living = lock_run(runs / f".new-{run_id}-89abcdef")
    restore(exported / "parts [0]", runs)
    os.close(living)
    left = sorted(path.name for path in runs.iterdir() if path.name.startswith("."))
    assert left == [f".new-{run_id}-89abcdef", f".new-{run_id}-mine"]


def test_one_run_that_cannot_be_stored_keeps_no_other_back(exported, tmp_path):
    """Of each run the rows of an earlier version or of another hand: a label, a kind, an id, a metric."""
    source = exported / "parts [1]"
    shutil.copytree(source, tmp_path / "in")
    (tmp_path / "in" / "runs" / "all.parquet").unlink()
    labelled, kind, name, row, *others = [
        run_id
        for (run_id,) in duckdb.sql(
            "SELECT run_id FROM read_parquet(?) ORDER BY run_id",
            params=[str(source / "runs" / "all.parquet")],
        ).fetchall()
    ]
    duckdb.sql(
        """SELECT * REPLACE (
               CASE run_id WHEN ? THEN 'a, b\x1b[31m' ELSE label END AS label,
               CASE run_id WHEN ? THEN 'other' ELSE kind END AS kind,
               CASE run_id WHEN ? THEN '../out' ELSE run_id END AS run_id)
           FROM read_parquet(?)""",
        params=[labelled, kind, name, str(source / "runs" / "all.parquet")],
    ).write_parquet(str(tmp_path / "in" / "runs" / "all.parquet"))
    write(
        tmp_path / "broken",
        "metrics",
        "SELECT ? AS run_id, 0 AS attempt, 1 AS step, 'x' AS name, NULL::DOUBLE AS value",
        row,
    )
    shutil.copy(
        tmp_path / "broken" / "metrics" / "all.parquet", tmp_path / "in" / "metrics" / "b.parquet"
    )
    words = ["restore", str(tmp_path / "in"), "--runs-dir", str(tmp_path / "runs")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {labelled, *others}
    said = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["note", *["warning"] * 3]
    assert f"{labelled} has a label by which it cannot be named" in said[0]
    assert all(any(word in line for line in said[1:]) for word in (kind, "../out", row))
    assert "\x1b" not in done.stderr
    assert read_run_info(tmp_path / "runs" / labelled).label == "a, b\x1b[31m"


@pytest.mark.parametrize("table", ["runs", "metrics"])
def test_a_pipe_in_an_export_is_refused_and_nobody_waits_for_it(exported, tmp_path, table):
    shutil.copytree(exported / "parts [1]", tmp_path / "in")
    os.mkfifo(tmp_path / "in" / table / "pipe.parquet")
    with pytest.raises(StoreError, match=f"{table}/pipe.parquet is no file"):
        restore(tmp_path / "in", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
