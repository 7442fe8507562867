"""Writes the tables as Parquet files, partitioned by run: for readers that are not DuckDB."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from analysis.journal import StoreError
from analysis.queries import refused
from analysis.render import temporary_beside
from analysis.schema import record_tables, run_table


def export_parquet(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[tuple[str, int]]:
    """Write `<folder>/<table>/run_id=<run>/*.parquet`; returns the rows of each table that has some.

    The folder appears when it is complete; a table without rows gets no files.

    Raises:
        StoreError: the folder exists or cannot be written, or the results are damaged.
    """
    if folder.exists():
        raise StoreError(
            f"the folder of an export must not exist yet, got {str(folder)!r}; "
            "remove it or name another"
        )
    temporary = temporary_beside(folder)
    written = []
    try:
        temporary.mkdir(parents=True)
        for name in (run_table().name, *record_tables()):
            n_rows = connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()[0][0]  # noqa: S608
            if n_rows:
                connection.execute(
                    f'COPY "{name}" TO ? (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (run_id))',
                    [str(temporary / name)],
                )
                written.append((name, n_rows))
        os.rename(temporary, folder)
    except duckdb.Error as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise refused(error) from error
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(
            f"the folder of an export must be writable, got {str(folder)!r} ({error.strerror}); "
            "free space or name another"
        ) from error
    return written
