"""Writes the tables as Parquet files, partitioned by run: for readers that are not DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb

from analysis.journal.journal import StoreError
from analysis.queries import refused
from analysis.queries.sql import check_text
from analysis.render import written_whole
from analysis.warehouse.tables import record_tables, run_table


def export_parquet(
    connection: duckdb.DuckDBPyConnection, folder: Path, *, whole_tables: bool = False
) -> list[tuple[str, int]]:
    """Write `<folder>/<table>/run_id=<run>/*.parquet`; returns the rows of each table that has some.

    With `whole_tables` it is one file a table, `<folder>/<table>/all.parquet`.

    The folder appears when it is complete; a table without rows gets no files. What an export of this name
    that was killed left is removed.

    Raises:
        StoreError: the folder exists or cannot be written, or the results are damaged.
    """
    check_text(str(folder), "the name of an export")
    if folder.exists():
        raise StoreError(
            f"the folder of an export must not exist yet, got {str(folder)!r}; "
            "remove it or name another"
        )
    written = []
    try:
        with written_whole(folder, folder=True) as temporary:
            for name in (run_table().name, *record_tables()):
                n_rows = connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()[0][0]  # noqa: S608
                if n_rows:
                    target, form = temporary / name, "FORMAT parquet, COMPRESSION zstd"
                    if whole_tables:
                        target.mkdir(parents=True)
                        target = target / "all.parquet"
                    else:
                        form += ", PARTITION_BY (run_id)"
                    connection.execute(f'COPY "{name}" TO ? ({form})', [str(target)])
                    written.append((name, n_rows))
    except duckdb.Error as error:
        raise refused(error) from error
    return written
