"""Moves journal lines into warehouse tables: what is unread, in batches, the last row of a key wins.

Lines are checked and taken apart here as bytes; DuckDB parses the rows, a batch at a time, so that
memory does not grow with the journals.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from duckdb import DuckDBPyConnection
from pydantic import ValidationError

from analysis.journal import StoreError, read_run_info, segments
from analysis.records import RunInfo, SegmentHeader
from analysis.schema import DAMAGES, JOURNAL_FILES, Table, record_tables, run_table
from analysis.segment import HEADER_TABLE, Damage, Line, scan

_BATCH_BYTES = 64 << 20
"""Journal bytes staged before they are merged; bounds memory and temporary space."""


@dataclass(frozen=True)
class RunSource:
    """A run that has something unread."""

    info: RunInfo
    new: bool
    """Whether the warehouse has nothing of it."""
    restart: bool
    """A file is shorter than what was read of it: the run's rows are read again from the start."""
    unread: tuple[tuple[int, Path, int], ...]
    """(attempt, file, bytes read before) of the files that have more, in order of attempt."""


@dataclass
class Plan:
    """What an ingest has to read."""

    sources: list[RunSource] = field(default_factory=list)
    run_ids: set[str] = field(default_factory=set)
    """Every run that has a folder."""
    problems: list[str] = field(default_factory=list)


@dataclass
class Loaded:
    """What a load did."""

    n_rows: int = 0
    n_bytes: int = 0
    problems: list[str] = field(default_factory=list)


def plan(runs_dir: Path, read_bytes: Mapping[str, Mapping[str, int]]) -> Plan:
    """Find what is unread under a runs folder.

    Args:
        runs_dir: folder of the runs' folders.
        read_bytes: what the warehouse has: run id -> file name -> bytes read.

    Raises:
        OSError: the runs folder could not be read.
    """
    found = Plan()
    for run_dir in sorted(runs_dir.iterdir()):
        # A dot marks a run that is being created; another folder without run.json is no run.
        if run_dir.name.startswith(".") or not (run_dir / "run.json").exists():
            continue
        try:
            info = read_run_info(run_dir)
            if info.run_id in found.run_ids:
                raise StoreError(
                    f"run ids must be unique, got {info.run_id!r} again in {str(run_dir)!r}; "
                    "remove one of the folders"
                )
            found.run_ids.add(info.run_id)
            source = _plan_run(run_dir, info, read_bytes.get(info.run_id), found.problems)
        except StoreError as error:
            found.problems.append(str(error))
        except OSError as error:
            found.problems.append(f"a run must be readable, got {error}; check its permissions")
        else:
            if source is not None:
                found.sources.append(source)
    return found


def load(connection: DuckDBPyConnection, sources: list[RunSource], staging: Path) -> Loaded:
    """Read the sources into an open transaction of the warehouse.

    Args:
        connection: to a warehouse, writable.
        sources: from `plan`.
        staging: a folder for temporary files.

    Raises:
        OSError: a journal could not be read or the staging folder not written.
        duckdb.Error: DuckDB could not take the rows.
    """
    loaded = Loaded()
    batch = _Batch(connection, staging)
    for source in sources:
        run_id = source.info.run_id
        if source.restart:
            for name in (*record_tables(), JOURNAL_FILES.name, DAMAGES.name):
                connection.execute(f'DELETE FROM "{name}" WHERE run_id = ?', [run_id])  # noqa: S608
        if source.new:
            _insert_run(connection, source.info)
        for attempt, path, start in source.unread:
            _load_file(run_id, attempt, path, start, batch=batch, loaded=loaded)
    batch.merge()
    for source in sources:
        _apply_rewinds(connection, source.info.run_id)
    return loaded


def _plan_run(
    run_dir: Path, info: RunInfo, read_bytes: Mapping[str, int] | None, problems: list[str]
) -> RunSource | None:
    """Find what is unread of one run; None where it is nothing."""
    new = read_bytes is None
    done = dict(read_bytes or {})
    files = segments(run_dir)
    restart = any(path.stat().st_size < done.get(path.name, 0) for _, path in files)
    if restart:
        done = {}
    unread = []
    for attempt, path in files:
        start = done.get(path.name, 0)
        if not _has_line(path, start):
            continue
        if start == 0 and (problem := _form_problem(path)):
            problems.append(problem)
            break  # later attempts may rewind or replace rows of this one
        unread.append((attempt, path, start))
    if not (new or restart or unread):
        return None
    return RunSource(info, new=new, restart=restart, unread=tuple(unread))


def _has_line(path: Path, start: int) -> bool:
    """Whether a complete line stands in a file from byte `start` on; a torn one is nothing to read."""
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(1 << 16):
            if b"\n" in chunk:
                return True
    return False


def _form_problem(path: Path) -> str | None:
    """Say why a file's form is not one this program reads; None where it is."""
    first = next(iter(scan(path)))
    if isinstance(first, Damage) or first.table != HEADER_TABLE:
        return None  # found again and reported when the lines are read
    try:
        SegmentHeader.model_validate_json(first.row)
    except ValidationError as error:
        reason = error.errors()[0]
        return (
            f"a journal must be in a form that this program reads, got {str(path)!r} "
            f"({reason['loc'][0]}: {reason['msg']}); upgrade sdpo-bench"
        )
    return None


def _load_file(
    run_id: str, attempt: int, path: Path, start: int, *, batch: _Batch, loaded: Loaded
) -> None:
    """Stage the complete lines of one file from byte `start` on, and record how far it was read."""
    tables = record_tables()
    end = start
    for item in scan(path, start):
        end = item.end
        if isinstance(item, Line) and item.table in tables:
            batch.add(run_id, attempt, item)
            loaded.n_rows += 1
        elif isinstance(item, Line) and item.table != HEADER_TABLE:
            item = Damage(path, item.offset, item.end, f"no table is called {item.table!r}")
        if isinstance(item, Damage):
            loaded.problems.append(str(item))
            batch.connection.execute(
                f"INSERT INTO {DAMAGES.name} VALUES (?, ?, ?, ?)",  # noqa: S608
                [run_id, path.name, item.offset, item.reason],
            )
    loaded.n_bytes += end - start
    batch.connection.execute(
        f"DELETE FROM {JOURNAL_FILES.name} WHERE run_id = ? AND file = ?",  # noqa: S608
        [run_id, path.name],
    )
    batch.connection.execute(
        f"INSERT INTO {JOURNAL_FILES.name} VALUES (?, ?, ?)",  # noqa: S608
        [run_id, path.name, end],
    )


def _insert_run(connection: DuckDBPyConnection, info: RunInfo) -> None:
    """Add the row of `runs`."""
    row = info.model_dump(mode="json")
    values = [
        json.dumps(row[column.name]) if column.sql_type == "JSON" else row[column.name]
        for column in run_table().columns
    ]
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO runs VALUES ({places})", values)  # noqa: S608


class _Batch:
    """Rows on their way into the warehouse: one temporary file a table, merged when there is enough."""

    def __init__(self, connection: DuckDBPyConnection, staging: Path) -> None:
        self.connection = connection
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


def _apply_rewinds(connection: DuckDBPyConnection, run_id: str) -> None:
    """Drop what earlier attempts wrote about steps that a resume did again (`records.Rewind`)."""
    rewinds = connection.execute(
        "SELECT attempt, step FROM rewinds WHERE run_id = ? ORDER BY attempt", [run_id]
    ).fetchall()
    stepped = [name for name, table in record_tables().items() if table.follows_steps]
    for attempt, step in rewinds:
        for name in stepped:
            connection.execute(
                f'DELETE FROM "{name}" WHERE run_id = ? AND attempt < ? AND step > ?',  # noqa: S608
                [run_id, attempt, step],
            )
        connection.execute(
            """DELETE FROM eval_results WHERE run_id = $1 AND attempt < $2
               AND eval_id NOT IN (SELECT eval_id FROM evals WHERE run_id = $1)""",
            [run_id, attempt],
        )
        for name in ("executions", "test_results"):
            connection.execute(
                f"""DELETE FROM {name} WHERE run_id = $1 AND attempt < $2 AND execution_id NOT IN (
                    SELECT execution_id FROM rollouts WHERE run_id = $1
                    UNION ALL SELECT execution_id FROM eval_results WHERE run_id = $1)""",  # noqa: S608
                [run_id, attempt],
            )
