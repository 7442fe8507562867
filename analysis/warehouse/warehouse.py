"""The DuckDB file that people query: built from the journals beside it, replaced whole, never locked.

`ingest` works in a copy and puts it in place with one rename, so that a reader sees the file before
or after, and killing the ingester loses nothing. A large file is not copied for each step: its recent
rows stand in a small one beside it (`analysis.warehouse.recent`). The journals stay the truth.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import duckdb

from analysis.journal.journal import StoreError
from analysis.render import first_line
from analysis.warehouse.batches import Replaces
from analysis.warehouse.load import Loaded, Plan, load, plan, with_care
from analysis.warehouse.ownership import (
    Standing,
    ingest_lock,
    lock_path,
    move_aside,
    no_writer,
    remember,
    remove_stale,
    staging_prefix,
    standing,
)
from analysis.warehouse.recent import (
    MOST_COPIED_BYTES,
    QUIET,
    attach_recent,
    extend_recent,
    fold_recent,
    recent_path,
    show_together,
)
from analysis.warehouse.state import State, damaged, ingest_command, is_damage, read_state
from analysis.warehouse.tables import insert_warehouse, quoted, schema_sha256, schema_sql

_STORAGE_VERSION = "v1.4.0"
"""Without it the widespread command line shell (1.5) cannot open the file."""

_MOST_TRIES = 100
"""Times that a reader looks again because the files were replaced while it opened them."""


@dataclass
class IngestReport:
    """What an ingest did."""

    n_runs: int = 0
    """Runs that had something to read."""
    n_rows: int = 0
    n_bytes: int = 0
    rebuilt: str | None = None
    """Why the file was built from nothing; None where it was extended or left as it was."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, one line each; everything else is in the file."""
    notices: list[str] = field(default_factory=list)
    """What a person may want to know; nothing is missing."""


def ingest(
    runs_dir: Path,
    results: Path,
    *,
    rebuild: bool = False,
    fold: bool = False,
    may_replace: bool = True,
) -> IngestReport:
    """Bring the results file up to date with the journals; a second ingester waits for the first.

    Args:
        runs_dir: where the journals are.
        results: the DuckDB file; made where it is missing. Where a link leads, the file is written there.
        rebuild: read every journal from its start instead of what is unread.
        fold: write everything into the one file, however large, and none beside it.
        may_replace: build a damaged file, or one of another form, anew; without it they are refused.
            Commands that read only add rows.

    Raises:
        StoreError: no runs folder, a results folder that cannot be written, a file that this program did
            not write, or one that another process has open for writing. What was there is as it was.
    """
    if not runs_dir.is_dir():
        raise StoreError(
            f"the runs folder must exist, got {str(runs_dir)!r}; "
            "train or evaluate first, or name another folder"
        )
    results = _followed(results)
    if results.exists() and not lock_path(results).exists():
        # Nothing of ours was ever here: look before even a lock file is made beside it.
        standing(results, lock_path(results))
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        with ingest_lock(results), no_writer(results), no_writer(recent_path(results)):
            return _ingest(
                runs_dir, results, rebuild=rebuild, fold=fold, may_replace=may_replace or rebuild
            )
    except duckdb.Error as error:
        raise StoreError(
            f"the journals must fit into {str(results)!r}, got {first_line(error)!r}; "
            "nothing was changed: free space, or report this"
        ) from error
    except OSError as error:
        raise StoreError(
            f"the results folder must be writable, got {str(results.parent)!r} ({error}); "
            "free space, mend its permissions, name another file, or read it as it is with --no-ingest"
        ) from error


def connect(results: Path) -> duckdb.DuckDBPyConnection:
    """Open the results for reading; blocks no other process, and reads the newest rows.

    The file is attached to a database of this connection's own: DuckDB would give a process that has it
    open already the file as it was then.

    Raises:
        StoreError: there are none, they are damaged, or another process has them open for writing.
    """
    results = _followed(results)
    try:
        for _ in range(_MOST_TRIES):
            with results.open("rb") as file, no_writer(results), no_writer(recent_path(results)):
                connection = _open(results)
                is_open = _attach(connection, results)
                if is_open or os.path.samestat(os.fstat(file.fileno()), results.stat()):
                    return connection
                connection.close()  # replaced meanwhile: the recent rows went into the new file
    except OSError as error:
        raise StoreError(
            f"a results file must be readable, got {str(results)!r} ({error.strerror}); "
            f"run `{ingest_command(None, results)}` or name another file"
        ) from error
    except duckdb.Error as error:
        raise damaged(results, error, ingest_command(None, results, "--rebuild")) from error
    raise StoreError(
        f"a results file must stay for the time of opening it, got {str(results)!r} replaced "
        f"{_MOST_TRIES} times; try again"
    )


def _open(results: Path) -> duckdb.DuckDBPyConnection:
    """Attach the large file to a database in memory. duckdb.Error: it is damaged or no DuckDB file."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    try:
        connection.execute(f"ATTACH {quoted(results)} AS results (READ_ONLY)")
        connection.execute("USE results")
        connection.execute(QUIET)
    except duckdb.Error:
        connection.close()
        raise
    return connection


def _attach(connection: duckdb.DuckDBPyConnection, results: Path) -> bool:
    """Show the recent rows too; False where none continue the file that is open."""
    try:
        rows = connection.execute("SELECT generation FROM results.main.warehouse").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        rows = []  # of an earlier form: the next ingest builds it anew
    if not rows or not attach_recent(connection, results, rows[0][0]):
        return False
    connection.execute("USE memory")
    show_together(connection)
    connection.execute("SET search_path = 'memory.main,results.main'")
    return True


def _followed(results: Path) -> Path:
    """Where a link leads: that file is replaced, not the link. StoreError: it is no file, such as a pipe."""
    try:
        str(results).encode()  # DuckDB takes no other name
        followed = results.resolve()
        is_other = followed.exists() and not followed.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(
            f"a results file must be the name of a file, got {str(results)!r} ({error}); name another"
        ) from error
    if is_other:
        raise StoreError(
            f"a results file must be a file, got {str(results)!r}, which is none; name another"
        )
    return followed


def _ingest(
    runs_dir: Path, results: Path, *, rebuild: bool, fold: bool, may_replace: bool
) -> IngestReport:
    """Do the work of `ingest` under its locks."""
    report = IngestReport(rebuilt="as asked" if rebuild else None)
    found_there = standing(results, lock_path(results))
    standing(recent_path(results), lock_path(results))  # refuses what is none of ours
    remove_stale(results)
    if found_there is Standing.NEWER:
        if not rebuild:
            raise StoreError(
                f"a results file must be of this version, got {str(results)!r} of a later one; upgrade "
                "sdpo-bench, name another file by --results, or build one with "
                f"`{ingest_command(runs_dir, results, '--rebuild')}`"
            )
        return _build_anew(runs_dir, results, report, ".newer")
    state = None
    if found_there is not Standing.ABSENT:
        try:
            state = read_state(results, report.notices, runs_dir=runs_dir, may_replace=may_replace)
        except duckdb.Error as error:
            return _replace_damaged(runs_dir, results, error, may_replace=may_replace)
    elif not rebuild:
        report.rebuilt = "there was none"
    if state and not rebuild and state.schema_sha256 != schema_sha256():
        if not may_replace:
            raise StoreError(
                f"a results file must be of this version, got {str(results)!r} of an earlier one; "
                f"run `{ingest_command(runs_dir, results)}`, which builds it anew from the journals"
            )
        report.rebuilt = "it was built by another version"
    found = plan(runs_dir, state.read_bytes if state and not report.rebuilt else {})
    report.problems += found.problems
    if not rebuild:
        _check_vanished(state, found, report, ingest_command(runs_dir, results, "--rebuild"))
    if state and not report.rebuilt:
        report.problems += state.damages
        if not found.sources and not (fold and state.continued):
            return report
    try:
        if state and not report.rebuilt and not fold:
            if with_care(found, partial(_extend, found, results, report, state)):
                return report
        fold = state is not None and state.continued
        with_care(found, partial(_build, found, results, report, fold=fold))
    except duckdb.Error as error:
        if not is_damage(error):
            raise
        return _replace_damaged(runs_dir, results, error, may_replace=may_replace)
    return report


def _extend(found: Plan, results: Path, report: IngestReport, state: State) -> bool:
    """Put what is unread into the file of recent rows; False where everything must be written."""
    if results.stat().st_size <= MOST_COPIED_BYTES:
        return False
    if state.continued and recent_path(results).stat().st_size > MOST_COPIED_BYTES:
        return False
    with tempfile.TemporaryDirectory(prefix=staging_prefix(results), dir=results.parent) as folder:
        try:
            loaded = extend_recent(
                results,
                state.generation,
                found.sources,
                in_base=state.in_base,
                continued=state.continued,
                folder=Path(folder),
                config=_config(folder),
            )
        except Replaces:
            return False
    _count(report, found, loaded)
    return True


def _replace_damaged(
    runs_dir: Path, results: Path, error: duckdb.Error, *, may_replace: bool
) -> IngestReport:
    """Build anew, or refuse where nothing may be replaced."""
    if not may_replace:
        raise damaged(results, error, ingest_command(runs_dir, results)) from error
    report = IngestReport(rebuilt=f"the file was damaged ({first_line(error)})")
    return _build_anew(runs_dir, results, report, ".damaged")


def _build_anew(
    runs_dir: Path, results: Path, report: IngestReport, set_aside: str
) -> IngestReport:
    """Build from all journals; what was there gets a name with that suffix, since it may hold more than they."""
    found = plan(runs_dir, {})
    report.problems += found.problems
    with_care(found, partial(_build, found, results, report, set_aside=set_aside))
    return report


def _build(
    found: Plan,
    results: Path,
    report: IngestReport,
    *,
    fold: bool = False,
    set_aside: str | None = None,
) -> None:
    """Make the new file beside the old one and put it in its place; recent rows go into it.

    With `set_aside` what was there gets a name with that suffix.
    """
    recent = recent_path(results)
    with tempfile.TemporaryDirectory(prefix=staging_prefix(results), dir=results.parent) as folder:
        copy = Path(folder) / "results.duckdb"
        if not report.rebuilt:
            shutil.copyfile(results, copy)
            with contextlib.suppress(FileNotFoundError):  # left by a shell that was killed
                shutil.copyfile(_wal(results), _wal(copy))
        with duckdb.connect(str(copy), config=_config(folder)) as connection:
            connection.execute(QUIET)
            if fold and not report.rebuilt:
                connection.execute(f"ATTACH {quoted(recent)} AS recent (READ_ONLY)")
            connection.execute("BEGIN")
            if report.rebuilt:
                connection.execute(schema_sql())
            elif fold:
                fold_recent(connection)
            connection.execute("DELETE FROM warehouse")
            insert_warehouse(connection, secrets.token_hex(8))
            loaded = load(connection, found.sources, Path(folder))
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
        if set_aside:
            for path in (results, _wal(results), recent):
                if path.exists():
                    report.notices.append(move_aside(path, set_aside))
        remember(copy, lock_path(results))
        _wal(results).unlink(missing_ok=True)
        os.replace(copy, results)
        # Of another generation now, so that a kill before this line shows no row twice.
        recent.unlink(missing_ok=True)
    _count(report, found, loaded)


def _config(folder: str) -> dict[str, str | bool]:
    return {
        "storage_compatibility_version": _STORAGE_VERSION,
        "temp_directory": folder,
        "memory_limit": "1GB",
        "autoinstall_known_extensions": False,
    }


def _count(report: IngestReport, found: Plan, loaded: Loaded) -> None:
    report.n_runs, report.n_rows = len(found.sources), loaded.n_rows
    report.n_bytes = loaded.n_bytes
    report.problems += loaded.problems


def _check_vanished(state: State | None, found: Plan, report: IngestReport, rebuild: str) -> None:
    """Keep rows whose journals are gone: nothing else may be left of them. StoreError: a rebuild would lose them."""
    if not (vanished := sorted(set(state.read_bytes) - found.run_ids) if state else []):
        return
    names = ", ".join(vanished[:3]) + (", ..." if len(vanished) > 3 else "")
    if report.rebuilt:
        raise StoreError(
            "a results file of another version needs all its journals to be rebuilt, "
            f"got no folder for {names}; restore them, or drop them with `{rebuild}`"
        )
    report.notices.append(
        f"{len(vanished)} run(s) of the results file have no folder here ({names}): deleted, or of another --runs-dir, "
        f"which wants a --results of its own; their rows are kept until `{rebuild}`"
    )


def _wal(path: Path) -> Path:
    """DuckDB's write-ahead log beside a file; only a writer that did not close leaves one."""
    return path.with_name(path.name + ".wal")
