"""Moves rows into warehouse tables in batches; of two rows with one key the later one counts.

DuckDB parses the rows, a batch at a time, so that memory does not grow with the journals.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

from duckdb import DuckDBPyConnection

from analysis.journal.lines import Line
from analysis.warehouse.tables import Table, record_tables

_BATCH_BYTES = 64 << 20
"""Journal bytes staged before they are merged; bounds memory and temporary space."""


class Replaces(Exception):
    """A row replaces or undoes one of the base, which is only read."""


class Batch:
    """Rows on their way into the warehouse: one temporary file a table, merged when there is enough."""

    def __init__(
        self, connection: DuckDBPyConnection, staging: Path, split: frozenset[str] | None = None
    ) -> None:
        """Stage in a folder; refuse rows that replace some of the base's of the runs of `split`."""
        self.connection = connection
        self._split = split
        self._folder = staging / "rows"
        self._files: dict[str, BinaryIO] = {}
        self._longest = 0
        self._n_bytes = 0
        self._position = 0

    def add(self, run_id: str, attempt: int, line: Line) -> None:
        """Stage one row; its position decides which of two rows with one key is the later."""
        if line.table not in self._files:
            self._folder.mkdir(exist_ok=True)
            self._files[line.table] = (self._folder / line.table).open("wb")
        self._position += 1
        lead = b'{"_run_id":"%s","_attempt":%d,"_position":%d,' % (
            run_id.encode(),  # a run id needs no escapes: the journal admits plain names only
            attempt,
            self._position,
        )
        n_bytes = self._files[line.table].write(lead) + self._files[line.table].write(line.row[1:])
        self._files[line.table].write(b"\n")
        self._longest = max(self._longest, n_bytes)
        self._n_bytes += n_bytes
        if self._n_bytes >= _BATCH_BYTES:
            self.merge()

    def merge(self) -> None:
        """Put what is staged into the tables and start anew."""
        for name, file in self._files.items():
            file.close()
            self._merge_table(record_tables()[name], Path(file.name))
        self._files.clear()
        self._n_bytes = self._longest = 0
        shutil.rmtree(self._folder, ignore_errors=True)

    def _merge_table(self, table: Table, rows: Path) -> None:
        """Replace rows of equal key, then add the staged ones."""
        types = {"_run_id": "VARCHAR", "_attempt": "BIGINT", "_position": "BIGINT"}
        types |= {c.name: c.sql_type for c in table.columns if c.name not in table.added}
        columns = ", ".join(f"\"{name}\": '{kind}'" for name, kind in types.items())
        self.connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE staged AS
            SELECT _position, {", ".join(table.from_staged)}
            FROM read_json(?, format = 'newline_delimited', columns = {{{columns}}},
                           maximum_object_size = {self._longest + 1024})""",  # noqa: S608
            [str(rows)],
        )
        key = ", ".join(f'"{name}"' for name in table.key)
        if self._split:
            self._refuse_replacing(table, key, self._split)
        same = " AND ".join(f'old."{name}" = staged."{name}"' for name in table.key)
        staged_same = " AND ".join(f'staged."{name}" = last."{name}"' for name in table.key)
        self.connection.execute(
            f"""DELETE FROM staged USING (
                SELECT {key}, max(_position) AS position FROM staged
                GROUP BY {key} HAVING count(*) > 1) last
            WHERE {staged_same} AND staged._position < last.position"""  # noqa: S608
        )
        self.connection.execute(f'DELETE FROM "{table.name}" old USING staged WHERE {same}')  # noqa: S608
        self.connection.execute(
            f'INSERT INTO "{table.name}" SELECT * EXCLUDE (_position) FROM staged'  # noqa: S608
        )
        self.connection.execute("DROP TABLE staged")

    def _refuse_replacing(self, table: Table, key: str, split: frozenset[str]) -> None:
        """Stop where a staged row has the key of a row of the base."""
        found = self.connection.execute(
            f"""SELECT 1 FROM base.main."{table.name}" SEMI JOIN staged USING ({key})
                WHERE run_id IN (SELECT unnest($1)) LIMIT 1""",  # noqa: S608 - our own names
            [sorted(split)],
        ).fetchall()
        if found:
            raise Replaces
