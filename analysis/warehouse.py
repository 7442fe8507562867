"""The DuckDB file that people query: built from the journals beside it, replaced whole, never locked.

`ingest` works in a copy and puts it in place with one rename, so that a reader sees the file before
or after, and killing the ingester loses nothing. The journals stay the truth.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from analysis.journal import StoreError
from analysis.load import Plan, load, plan
from analysis.schema import schema_sha256, schema_sql

_STORAGE_VERSION = "v1.4.0"
"""Without it the widespread command line shell (1.5) cannot open the file."""

_LIMITS = {"memory_limit": "1GB", "autoinstall_known_extensions": False}


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


@dataclass(frozen=True)
class _State:
    """What a results file has."""

    schema_sha256: str
    read_bytes: dict[str, dict[str, int]]
    """Run id -> file name -> bytes read."""
    damages: list[str]


def ingest(runs_dir: Path, results: Path, *, rebuild: bool = False) -> IngestReport:
    """Bring the results file up to date with the journals; a second ingester waits for the first.

    Args:
        runs_dir: folder of the runs' folders.
        results: the DuckDB file; made where it is missing.
        rebuild: read every journal from its start instead of what is unread.

    Raises:
        StoreError: no runs folder, a results folder that cannot be written, or a results file that
            another process has open for writing. The results file is as it was.
    """
    if not runs_dir.is_dir():
        raise StoreError(
            f"the runs folder must exist, got {str(runs_dir)!r}; "
            "train or evaluate first, or name another folder"
        )
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        with _ingest_lock(results), _no_writer(results):
            return _ingest(runs_dir, results, rebuild=rebuild)
    except duckdb.Error as error:
        raise StoreError(
            f"the journals must fit into {str(results)!r}, got {_first_line(error)!r}; "
            "nothing was changed: free space, or report this"
        ) from error
    except OSError as error:
        raise StoreError(
            f"the results folder must be writable, got {str(results.parent)!r} ({error}); "
            "free space, mend its permissions or name another file"
        ) from error


def connect(results: Path) -> duckdb.DuckDBPyConnection:
    """Open the results file for reading; blocks nobody, sees the file as it is now.

    Raises:
        StoreError: there is none, it is damaged, or another process has it open for writing.
    """
    try:
        with results.open("rb"), _no_writer(results):
            return duckdb.connect(str(results), read_only=True)
    except OSError as error:
        raise StoreError(
            f"a results file must be readable, got {str(results)!r} ({error.strerror}); "
            "run `sdpo-bench ingest` or name another file"
        ) from error
    except duckdb.Error as error:
        raise StoreError(
            f"a results file must be an intact DuckDB file, got {str(results)!r} "
            f"({_first_line(error)}); run `sdpo-bench ingest --rebuild`"
        ) from error


def _ingest(runs_dir: Path, results: Path, *, rebuild: bool) -> IngestReport:
    """Do the work of `ingest` under its locks."""
    for stale in results.parent.glob(".ingest-*"):
        shutil.rmtree(stale)  # of an ingester that was killed
    report = IngestReport(rebuilt="as asked" if rebuild else None)
    state = None
    if results.exists():
        try:
            state = _read_state(results)
        except duckdb.Error as error:
            return _replace_damaged(runs_dir, results, error)
    elif not rebuild:
        report.rebuilt = "there was none"
    if state and not rebuild and state.schema_sha256 != schema_sha256():
        report.rebuilt = "it was built by another version"
    found = plan(runs_dir, state.read_bytes if state and not report.rebuilt else {})
    report.problems += found.problems
    _check_vanished(state, found, report, asked=rebuild)
    if state and not report.rebuilt:
        report.problems += state.damages
        if not found.sources:
            return report
    try:
        _build(found, results, report)
    except duckdb.Error as error:
        if not is_damage(error):
            raise
        return _replace_damaged(runs_dir, results, error)
    return report


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB found its file altered or cut, by its message: the class says too little."""
    return any(
        sign in str(error) for sign in ("checksum", "Corrupt", "Could not read enough bytes")
    )


def _replace_damaged(runs_dir: Path, results: Path, error: duckdb.Error) -> IngestReport:
    """Build anew from the journals, and keep the damaged file aside: it may hold more than they."""
    aside = results.with_name(results.name + ".damaged")
    report = IngestReport(rebuilt=f"the file was damaged ({_first_line(error)})")
    report.notices.append(f"the damaged file was moved to {aside}")
    found = plan(runs_dir, {})
    report.problems += found.problems
    _build(found, results, report, aside=aside)
    return report


def _build(found: Plan, results: Path, report: IngestReport, *, aside: Path | None = None) -> None:
    """Make the new file beside the old one and put it in its place."""
    with tempfile.TemporaryDirectory(prefix=".ingest-", dir=results.parent) as folder:
        copy = Path(folder) / "results.duckdb"
        if not report.rebuilt:
            shutil.copyfile(results, copy)
            with contextlib.suppress(FileNotFoundError):  # left by a shell that was killed
                shutil.copyfile(_wal(results), _wal(copy))
        config = {"storage_compatibility_version": _STORAGE_VERSION, "temp_directory": folder}
        with duckdb.connect(str(copy), config=config | _LIMITS) as connection:
            connection.execute("BEGIN")
            if report.rebuilt:
                connection.execute(schema_sql())
                connection.execute("INSERT INTO warehouse VALUES (?)", [schema_sha256()])
            loaded = load(connection, found.sources, Path(folder))
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
        if aside:
            os.replace(results, aside)
        _wal(results).unlink(missing_ok=True)
        os.replace(copy, results)
    report.n_runs, report.n_rows = len(found.sources), loaded.n_rows
    report.n_bytes = loaded.n_bytes
    report.problems += loaded.problems


def _read_state(results: Path) -> _State:
    """Read what a results file has.

    Raises:
        duckdb.Error: it is damaged, or no results file.
    """
    with duckdb.connect(str(results), read_only=True) as connection:
        # Free blocks at the end may be cut off the file, so that only the used ones must be there.
        n_used, block_bytes = connection.execute(
            "SELECT used_blocks, block_size FROM pragma_database_size()"
        ).fetchall()[0]
        if results.stat().st_size < n_used * block_bytes:
            raise duckdb.IOException("Corrupt: the file is shorter than the blocks in use")
        row = connection.execute("SELECT schema_sha256 FROM warehouse").fetchone()
        read_bytes: dict[str, dict[str, int]] = defaultdict(dict)
        for (run_id,) in connection.execute("SELECT run_id FROM runs").fetchall():
            read_bytes[run_id] = {}
        files = connection.execute("SELECT run_id, file, n_bytes FROM journal_files").fetchall()
        for run_id, file, n_bytes in files:
            read_bytes[run_id][file] = n_bytes
        damages = connection.execute(
            "SELECT run_id, file, byte_offset, reason FROM damages ORDER BY ALL"
        ).fetchall()
    return _State(
        schema_sha256=row[0] if row else "",
        read_bytes=dict(read_bytes),
        damages=[
            f"{run_id}/{file}: damaged line at byte {offset}: {reason} (left out before)"
            for run_id, file, offset, reason in damages
        ],
    )


def _check_vanished(
    state: _State | None, found: Plan, report: IngestReport, *, asked: bool
) -> None:
    """Keep rows whose journals are gone: the results file may be all that is left of them.

    Raises:
        StoreError: the file has to be rebuilt, which would lose such rows, and nobody asked for it.
    """
    vanished = sorted(set(state.read_bytes) - found.run_ids) if state else []
    if not vanished or asked:
        return
    names = ", ".join(vanished[:3]) + (", ..." if len(vanished) > 3 else "")
    if report.rebuilt:
        raise StoreError(
            f"a results file of another version needs all its journals to be rebuilt, "
            f"got no folder for {names}; restore them, or drop them with `sdpo-bench ingest --rebuild`"
        )
    report.notices.append(
        f"{len(vanished)} run(s) have no folder any more ({names}); "
        "their rows are kept until `sdpo-bench ingest --rebuild`"
    )


def _wal(path: Path) -> Path:
    """DuckDB's write-ahead log beside a file; only a writer that did not close leaves one."""
    return path.with_name(path.name + ".wal")


@contextlib.contextmanager
def _ingest_lock(results: Path) -> Iterator[None]:
    """Hold the lock that only one ingester has; wait for it."""
    with results.with_name("." + results.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _no_writer(results: Path) -> Iterator[None]:
    """Make sure that nobody has the file open for writing, now or before this ends.

    A writer's log would lie beside the replaced file and be applied to it. DuckDB locks its file
    with fcntl; a lock of the open-file-description kind sees that one, and unlike the classic kind
    does not vanish when some other descriptor of the file is closed in this process.

    Raises:
        StoreError: a process has it open for writing.
    """
    try:
        file = results.open("rb")
    except FileNotFoundError:
        yield
        return
    with file:
        request = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, request)
        except BlockingIOError as error:
            raise StoreError(
                f"a results file must not be open for writing, got {str(results)!r} held by "
                "another process; close that SQL shell or open it with -readonly"
            ) from error
        yield


def _first_line(error: Exception) -> str:
    """First line of an error's text."""
    return str(error).strip().partition("\n")[0]
