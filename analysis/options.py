"""What the commands over the results share: options, one-line errors, what an ingest has to say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import duckdb

from analysis.journal import StoreError
from analysis.queries import run_query
from analysis.warehouse import IngestReport

F = TypeVar("F", bound=Callable[..., Any])

RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of the runs' folders.",
)
RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("results/results.duckdb"),
    show_default=True,
    help="The DuckDB file.",
)
INGEST = click.option(
    "--ingest/--no-ingest",
    "ingest_first",
    default=True,
    show_default=True,
    help="Read what the journals have first.",
)
JSON_FILE = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the table to this file, as a JSON array of objects.",
)


def one_line_errors(command: F) -> F:
    """Turn a results error into one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passes through
        try:
            return command(*args, **kwargs)
        except StoreError as error:
            raise click.ClickException(str(error)) from error

    return wrapped  # type: ignore[return-value]


def say(report: IngestReport) -> None:
    """Print what an ingest found amiss to standard error, one line each."""
    for line in [*report.notices, *report.problems]:
        click.echo(f"warning: {line}", err=True)


def check_runs(connection: duckdb.DuckDBPyConnection, run_ids: tuple[str, ...]) -> None:
    """Refuse names that are no runs, with what there is."""
    known = [row[0] for row in run_query(connection, "SELECT run_id FROM runs ORDER BY 1").rows]
    unknown = [run_id for run_id in run_ids if run_id not in known]
    if unknown:
        raise click.ClickException(
            f"a run must be in the results, got {unknown[0]!r}; "
            f"there are: {', '.join(known[:5]) or 'none'}{', ...' if len(known) > 5 else ''}"
        )
