"""What the commands over the results share: options, one-line errors, what an ingest has to say."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from duckdb import DuckDBPyConnection

from analysis.journal.durable import check_output
from analysis.journal.journal import StoreError
from analysis.queries import run_query
from analysis.render import echo, printable, unwritable, visible
from analysis.warehouse.warehouse import IngestReport, ingest

P = ParamSpec("P")
R = TypeVar("R")

_USUAL_RUNS, _USUAL_RESULTS = Path("runs"), Path("results/results.duckdb")


def _results_of(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path:
    """Return the file that is named, or that of the runs folder: rows of two folders do not meet in one file."""
    if path is not None:
        return path
    runs_dir: Path = ctx.params["runs_dir"]
    if runs_dir.resolve() == _USUAL_RUNS.resolve():
        return _USUAL_RESULTS
    return Path(f"{runs_dir if runs_dir.name.strip('.') else runs_dir.resolve()}.duckdb")


RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=_USUAL_RUNS,
    show_default=True,
    is_eager=True,  # the file's default follows from it
    help="Folder that holds the runs.",
)
RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_results_of,
    help=f"The DuckDB file.  [default: {_USUAL_RESULTS}, with --runs-dir DIR: DIR.duckdb]",
)
INGEST = click.option(
    "--ingest/--no-ingest",
    "ingest_first",
    default=True,
    show_default=True,
    help="Read the journals first.",
)


def writable_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse an output file that cannot be written, before any work is done for it."""
    if path is not None:
        try:
            check_output(path)
        except OSError as error:
            raise click.ClickException(str(unwritable(path, error))) from error
    return path


JSON_FILE = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=writable_file,
    help="Also write the table to this file, as a JSON array of objects.",
)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a results error into one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except StoreError as error:
            raise click.ClickException(printable(str(error), line_breaks=False)) from error

    return wrapped


def read_journals(runs_dir: Path, results: Path, *, fold: bool = False) -> None:
    """Bring the results up to date for a command that reads; say what was amiss. StoreError: nothing was replaced."""
    say(ingest(runs_dir, results, fold=fold, may_replace=False))


def say(report: IngestReport) -> None:
    """Print what an ingest found amiss to standard error, one line each."""
    for line in [*report.notices, *report.problems]:
        echo(f"warning: {visible(line, 1000)}", err=True)


def chosen_runs(connection: DuckDBPyConnection, names: Sequence[str]) -> tuple[str, ...]:
    """Return the runs that names stand for: what `compare` takes, ids, `run/evaluation`, labels, with commas.

    Of several runs with one label it is the newest, and a line says so.

    Raises:
        StoreError: a name stands for nothing.
    """
    known = run_query(
        connection,
        """SELECT run_id, r.label, list(DISTINCT e.label) FILTER (e.label IS NOT NULL) AS labels
           FROM runs r LEFT JOIN (SELECT run_id, label FROM evals) e USING (run_id)
           GROUP BY run_id, r.label, r.sequence, r.created_at
           ORDER BY r.sequence NULLS FIRST, r.created_at, run_id""",
    ).rows
    ids = [row[0] for row in known]
    chosen: dict[str, None] = {}
    for name in (part.strip() for text in names for part in text.split(",")):
        labelled = [run for run, label, labels in known if name == label or name in (labels or [])]
        if name in ids or not labelled and name.partition("/")[0] in ids:
            run_id = name if name in ids else name.partition("/")[0]
            chosen[run_id] = None
            if others := [run for run in labelled if run != run_id]:
                echo(
                    f"note: {name!r} is the id of a run, which was taken, and the label of {others[-1]}: "
                    "name that by its id",
                    err=True,
                )
            continue
        if not labelled:
            some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            raise StoreError(
                f"a run must be in the results, got {name!r}; name it by its id or label, "
                f"there are: {some or 'none'}"
            )
        if len(labelled) > 1:
            echo(
                f"note: {name!r} is the label of {len(labelled)} runs: took the newest, "
                f"{labelled[-1]}; name runs to take others",
                err=True,
            )
        chosen[labelled[-1]] = None
    return tuple(chosen)
