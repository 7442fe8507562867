"""Commands over the results as tables: ingest, sql, runs, export."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click
import duckdb

from analysis.cli.options import (
    INGEST,
    JSON_FILE,
    RESULTS,
    RUNS_DIR,
    one_line_errors,
    read_journals,
    say,
    writable_file,
)
from analysis.cli.run_list import print_runs
from analysis.installation import package_command
from analysis.journal.journal import StoreError, is_being_written
from analysis.queries import refused, run_query, runs_overview
from analysis.queries.sql import check_text
from analysis.render import (
    Result,
    echo,
    print_table,
    printable,
    to_csv,
    to_json,
    visible,
    write_text,
    written_whole,
)
from analysis.report.export import export_parquet
from analysis.warehouse.warehouse import connect
from analysis.warehouse.warehouse import ingest as ingest_journals


@click.command()
@RUNS_DIR
@RESULTS
@click.option("--rebuild", is_flag=True, help="Read every journal again from its start.")
@click.option("--fold", is_flag=True, help="Put all rows into the one file, however large.")
@JSON_FILE
@one_line_errors
def ingest(
    runs_dir: Path, results: Path, *, rebuild: bool, fold: bool, json_file: Path | None
) -> None:
    """Bring the DuckDB file up to date with the journals under the runs folder.

    When the file is over 32 MB, the last steps go into a small file beside it. Every command reads both;
    --fold puts all rows into the one file, for other programs.

    Exit status 1 means that something could not be read; everything else is in the file.

    \b
    Example:  sdpo-bench ingest
              sdpo-bench ingest --rebuild
              sdpo-bench ingest --fold
    """
    started = time.monotonic()
    report = ingest_journals(runs_dir, results, rebuild=rebuild, fold=fold)
    seconds = time.monotonic() - started
    why = f"; built anew: {report.rebuilt}" if report.rebuilt else ""
    echo(
        f"{results}: read {report.n_rows:,} rows of {report.n_runs} run(s) "
        f"({report.n_bytes / 1e6:.1f} MB) in {seconds:.1f} s{why}"
    )
    if json_file:
        row = (report.n_runs, report.n_rows, report.n_bytes, report.rebuilt, report.problems)
        names = ("n_runs", "n_rows", "n_bytes", "rebuilt", "problems")
        write_text(json_file, to_json(Result(names, [row])))
    say(report)
    if report.problems:
        sys.exit(1)


# Long because it lists every option of the help, in its order.
@click.command()
@click.argument("query", required=False)
@click.option(
    "--file", "file", type=click.File("r", encoding="utf-8"), help="Read the query from this file."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="Format of the output; parquet needs --output.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=writable_file,
    help="Write the output to this file instead of the terminal.",
)
@click.option(
    "--escape-formulas",
    is_flag=True,
    help="In CSV put ' before text that a spreadsheet would run as a formula (begins with = + - @, tab or CR).",
)
@click.option(
    "--max-rows",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Show at most this many rows of a table.",
)
@RUNS_DIR
@RESULTS
@INGEST
@JSON_FILE
@one_line_errors
def sql(
    query: str | None,
    *,
    file: Any,  # noqa: ANN401 - an open text file, of a type that click keeps to itself
    form: str,
    output: Path | None,
    escape_formulas: bool,
    max_rows: int,
    runs_dir: Path,
    results: Path,
    ingest_first: bool,
    json_file: Path | None,
) -> None:
    """Query the results with SQL; the file is opened read-only.

    The query is an argument, a file, or standard input; with neither, on a terminal, the duckdb
    shell opens. DESCRIBE a table to see its columns; their comments have units and ranges.

    On a terminal, control characters are shown as escapes; in a file or pipe the text is as it was stored.
    CSV for a spreadsheet: --escape-formulas.

    \b
    Example:  sdpo-bench sql "FROM leaderboard"
              sdpo-bench sql "SELECT outcome, count(*) FROM rollouts GROUP BY 1" --format csv
              sdpo-bench sql --file question.sql --format parquet --output answer.parquet
    """
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    if query is not None and file is not None:
        raise click.UsageError("give the query as an argument or with --file, not both")
    interactive = query is None and file is None and sys.stdin.isatty()
    if ingest_first:
        read_journals(runs_dir, results, fold=interactive)
    if interactive:
        _open_shell(results)
        return
    if query is None or query == "-":
        query = _read_query(file or sys.stdin)
    if not query.strip():
        raise click.UsageError('the query is empty; try "FROM leaderboard"')
    with connect(results) as connection:
        if form == "parquet" and output is not None:
            _write_parquet(connection, query, output)
            return
        result = run_query(connection, query)
    if json_file:
        write_text(json_file, to_json(result))
    if form == "table" and output is None:
        _print(result, max_rows=max_rows)
        return
    text = to_json(result) if form == "json" else to_csv(result, escape_formulas=escape_formulas)
    if output is not None:
        write_text(output, text)
    else:
        # A terminal must not obey a model; a program behind a pipe gets every byte.
        click.echo((printable(text) if sys.stdout.isatty() else text).rstrip("\n"))


@click.command()
@RUNS_DIR
@RESULTS
@INGEST
@JSON_FILE
@one_line_errors
def runs(runs_dir: Path, results: Path, *, ingest_first: bool, json_file: Path | None) -> None:
    """List the runs with their state, progress and last evaluation.

    A run whose last state is running, but which no process writes, was killed: it is shown as interrupted.

    \b
    Example:  sdpo-bench runs
              sdpo-bench runs --json runs.json
    """
    if ingest_first:
        read_journals(runs_dir, results)
    with connect(results) as connection:
        result = runs_overview(connection)
    rows = result.records()
    for row in rows:
        if row["state"] == "running" and not is_being_written(runs_dir / row["run_id"]):
            row["state"] = "interrupted"
    result = Result(result.columns, [tuple(row.values()) for row in rows])
    if json_file:
        write_text(json_file, to_json(result))
    if not rows:
        echo(f"no runs under {runs_dir}; start one with `sdpo-bench train` or `eval`")
        return
    print_runs(result)


@click.command()
@click.option(
    "--parquet",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="New folder for the files: <table>/run_id=<run>/*.parquet.",
)
@click.option(
    "--whole-tables",
    is_flag=True,
    help="Write one file for each table, instead of one folder for each table and run.",
)
@RUNS_DIR
@RESULTS
@INGEST
@one_line_errors
def export(
    *, folder: Path, whole_tables: bool, runs_dir: Path, results: Path, ingest_first: bool
) -> None:
    """Write every table as Parquet files, partitioned by run, for other programs.

    `sdpo-bench restore` turns them into runs again.

    \b
    Example:  sdpo-bench export --parquet results/parquet
    """
    if ingest_first:
        read_journals(runs_dir, results)
    with connect(results) as connection:
        rows = export_parquet(connection, folder, whole_tables=whole_tables)
    for table, n_rows in rows:
        echo(f"{folder / table}: {n_rows:,} rows")


def _read_query(file: Any) -> str:  # noqa: ANN401 - an open text file
    """Read a query whole. StoreError: it is no text."""
    try:
        return str(file.read())
    except UnicodeDecodeError as error:
        raise StoreError(
            f"a query must be UTF-8, got byte {error.object[error.start]:#x} at {error.start}; save it as UTF-8"
        ) from error


def _print(result: Result, *, max_rows: int) -> None:
    """Print a table, or one line where there is nothing in it."""
    if not result.columns:
        click.echo("done; the statement returns no rows")
    elif not result.rows:
        echo(f"no rows (columns: {', '.join(visible(name, 60) for name in result.columns)})")
    else:
        print_table(result, max_rows=max_rows)


def _open_shell(results: Path) -> None:
    """Replace this process by the duckdb shell, reading only."""
    beside = Path(sys.executable).with_name("duckdb")  # where pip puts it, in PATH or not
    shell = shutil.which("duckdb") or shutil.which(beside)
    if shell is None:
        raise click.UsageError(
            "a query must be given where the duckdb shell is not installed; "
            f'{package_command("install", "duckdb-cli")}, or try sdpo-bench sql "FROM leaderboard"'
        )
    os.execv(shell, [shell, "-readonly", str(results)])  # noqa: S606 - the user's own shell


def _write_parquet(connection: duckdb.DuckDBPyConnection, query: str, output: Path) -> None:
    """Write a query's rows as a Parquet file, whole or not at all."""
    check_text(query, "a query")
    check_text(str(output), "the name of a Parquet file")
    try:
        with written_whole(output) as temporary:
            rows = connection.sql(query)
            if rows is None:
                raise StoreError("a Parquet file must hold rows, got a query without; select some")
            rows.write_parquet(str(temporary))
    except duckdb.Error as error:
        raise refused(error) from error
