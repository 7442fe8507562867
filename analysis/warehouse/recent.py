"""The file of recent rows, which were added after a large results file was last written whole.

A step adds some kilobytes to a file of hundreds of megabytes. Beyond `MOST_COPIED_BYTES` an ingest
therefore copies, extends and replaces only the small file beside it, `results.recent.duckdb`, and a
reader sees both behind the same names. It holds additions only: a row that replaces or undoes one
of the large file makes the ingest write everything whole. It names the generation of the large file
that it continues; beside any other it is stale and does not count, so that a kill between replacing
the one and removing the other shows no row twice.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import duckdb

from analysis.warehouse.load import Loaded, RunSource, load
from analysis.warehouse.ownership import lock_path, remember
from analysis.warehouse.tables import (
    JOURNAL_FILES,
    VIEWS_SQL,
    insert_warehouse,
    quoted,
    row_tables,
    schema_sha256,
    tables_sql,
)

MOST_COPIED_BYTES = 32 << 20
"""A results file up to this size is copied whole by each ingest; a larger one is continued beside."""

_MOST_LOOKS, _LOOK_AGAIN_S = 20, 0.02
"""A reader's looks at a file of recent rows that is too short, and its wait between two, in seconds."""

QUIET = "SET enable_progress_bar = false"
"""DuckDB draws the bar of a long statement into logs too."""


def recent_path(results: Path) -> Path:
    """Where the recent rows of a results file lie."""
    return results.with_stem(results.stem + ".recent")


def read_bytes(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, int]]:
    """How far each journal was read: run id -> file name -> bytes."""
    runs = connection.execute("SELECT run_id FROM runs").fetchall()
    done: dict[str, dict[str, int]] = {run_id: {} for (run_id,) in runs}
    files = connection.execute("SELECT run_id, file, n_bytes FROM journal_files").fetchall()
    for run_id, file, n_bytes in files:
        done.setdefault(run_id, {})[file] = n_bytes
    return done


def read_recent(results: Path, generation: str) -> dict[str, dict[str, int]] | None:
    """How far the journals were read beyond the large file; None where nothing continues it. duckdb.Error: damage."""
    path = recent_path(results)
    if not path.exists():
        return None
    with duckdb.connect(str(path), read_only=True) as connection:
        if not _continues(connection, generation):
            return None
        return read_bytes(connection)


def extend_recent(
    results: Path,
    generation: str,
    sources: list[RunSource],
    *,
    in_base: set[str],
    continued: bool,
    folder: Path,
    config: dict[str, str | bool],
) -> Loaded:
    """Add unread rows to the file of recent rows; it is replaced whole, like any results file.

    Args:
        results: the large file; only read.
        generation: of the large file.
        sources: what is unread.
        in_base: runs that the large file has rows of.
        continued: whether the file of recent rows is there and continues this generation.
        folder: for temporary files, on the same file system.
        config: settings of the database.

    Raises as `load` does; nothing was changed then.
    """
    path, copy = recent_path(results), folder / "recent.duckdb"
    if continued:
        shutil.copyfile(path, copy)
    with duckdb.connect(str(copy), config=config) as connection:
        connection.execute(QUIET)
        connection.execute(f"ATTACH {quoted(results)} AS base (READ_ONLY)")
        connection.execute("BEGIN")
        if not continued:
            connection.execute(tables_sql())
            insert_warehouse(connection, generation)
        split = frozenset(source.info.run_id for source in sources) & in_base
        loaded = load(connection, sources, folder, split=split)
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
    remember(copy, lock_path(results))
    os.replace(copy, path)
    return loaded


def fold_recent(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the recent rows, attached as `recent`, to an open transaction of a copy. duckdb.Error: damage."""
    connection.execute(
        """DELETE FROM journal_files f USING recent.journal_files r
           WHERE f.run_id = r.run_id AND f.file = r.file"""
    )
    for name in (*row_tables(), JOURNAL_FILES.name):
        connection.execute(f'INSERT INTO "{name}" FROM recent."{name}"')


def attach_recent(connection: duckdb.DuckDBPyConnection, results: Path, generation: str) -> bool:
    """Attach the recent rows, if some continue this generation of the large file, as `recent`. duckdb.Error: damage."""
    path = recent_path(results)
    for _ in range(_MOST_LOOKS):
        if not path.exists():
            return False
        try:
            connection.execute(f"ATTACH {quoted(path)} AS recent (READ_ONLY)")
            continues = _continues(connection, generation, lead="recent.main.")
            if continues and _is_whole(connection, path):
                return True
        except duckdb.IOException as error:
            # without a file it was folded in meanwhile
            if path.exists() and "enough bytes" not in str(error):
                raise
            continues = True
        connection.execute("DETACH DATABASE IF EXISTS recent")
        if not continues:
            return False
        # replaced meanwhile, or a file system that shows the new file in the length of the old one
        time.sleep(_LOOK_AGAIN_S)
    raise duckdb.IOException("Corrupt: the file of recent rows is shorter than the blocks in use")


def show_together(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every table and view name of this connection show the rows of both files, `results` and `recent`."""
    for name in row_tables():
        connection.execute(
            f'CREATE VIEW "{name}" AS FROM results.main."{name}" UNION ALL FROM recent.main."{name}"'
        )
    connection.execute(
        """CREATE VIEW journal_files AS FROM recent.main.journal_files
           UNION ALL FROM results.main.journal_files
           ANTI JOIN recent.main.journal_files USING (run_id, file)"""
    )
    lines = VIEWS_SQL.read_text(encoding="utf-8").splitlines()
    # The comments stand in the large file; to add them to each connection takes longer than a query.
    connection.execute("\n".join(line for line in lines if not line.startswith("COMMENT ON")))


def _continues(connection: duckdb.DuckDBPyConnection, generation: str, *, lead: str = "") -> bool:
    """Whether the file of recent rows belongs to this generation of the large file."""
    rows = connection.execute(
        f"SELECT schema_sha256, generation FROM {lead}warehouse"  # noqa: S608 - our own names
    ).fetchall()
    return bool(rows == [(schema_sha256(), generation)])


def _is_whole(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether every block in use is in the file: else a query ends in an error as it reads the missing one."""
    used = connection.execute(
        "SELECT used_blocks * block_size FROM pragma_database_size() WHERE database_name = 'recent'"
    ).fetchall()
    try:
        return bool(path.stat().st_size >= used[0][0])
    except FileNotFoundError:
        return False
