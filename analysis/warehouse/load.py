"""Finds the unread part of the journals and reads it into the warehouse's tables.

Lines are checked and taken apart here as bytes; `analysis.warehouse.batches` moves the rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import duckdb
from duckdb import DuckDBPyConnection
from pydantic import ValidationError

from analysis.journal.durable import open_file
from analysis.journal.journal import StoreError, read_run_info, segments
from analysis.journal.lines import HEADER_TABLE, Damage, Line, scan
from analysis.records import RECORDS, RunInfo, SegmentHeader
from analysis.reward_hacking.suspects import examine
from analysis.storable import invalid
from analysis.warehouse.batches import Batch, Replaces
from analysis.warehouse.tables import DAMAGES, JOURNAL_FILES, record_tables, run_table

T = TypeVar("T")


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
    each_row: bool = False
    """Whether each row is tried before it is loaded; see `with_care`."""


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


def with_care(found: Plan, write: Callable[[], T]) -> T:
    """Write what was planned; where DuckDB cannot read a row, again without the rows that are none.

    A line whose checksum is right can hold anything: its writer need not have been this program.
    """
    try:
        return write()
    except duckdb.InvalidInputException as error:
        if "JSON" not in str(error):
            raise
        found.sources = [replace(source, each_row=True) for source in found.sources]
        return write()


def plan(runs_dir: Path, read_bytes: Mapping[str, Mapping[str, int]]) -> Plan:
    """Find what is unread under a runs folder; `read_bytes`, by run id and file name, is what the warehouse has.

    Raises:
        OSError: the runs folder could not be read.
    """
    found = Plan()
    for run_dir in sorted(runs_dir.iterdir()):
        if run_dir.name.startswith("."):
            continue  # a run that is being created
        try:
            if not (run_dir / "run.json").exists():
                if run_dir.is_dir() and segments(run_dir):
                    raise StoreError(
                        f"a run's folder must hold run.json beside its journal, got none in {str(run_dir)!r}; "
                        "restore it or remove the folder"
                    )
                continue  # no run
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
            found.problems.append(f"a run must be readable, got {error}; mend or remove it")
        else:
            if source is not None:
                found.sources.append(source)
    return found


def load(
    connection: DuckDBPyConnection,
    sources: list[RunSource],
    staging: Path,
    *,
    split: frozenset[str] | None = None,
) -> Loaded:
    """Read the sources of a plan into an open transaction of the warehouse, staged in a folder for temporary files.

    `split` are those runs that have rows in a results file, attached as `base`, which these rows continue; None
    where the warehouse holds everything.

    Raises:
        Replaces: a row replaces or undoes one of the base.
        OSError: a journal could not be read or the staging folder not written.
        duckdb.Error: DuckDB could not take the rows.
    """
    loaded = Loaded()
    batch = Batch(connection, staging, split)
    for source in sources:
        run_id = source.info.run_id
        if source.restart:
            if split and run_id in split:
                raise Replaces
            for name in (*record_tables(), JOURNAL_FILES.name, DAMAGES.name):
                connection.execute(f'DELETE FROM "{name}" WHERE run_id = ?', [run_id])  # noqa: S608
        if source.new:
            _insert_run(connection, source.info)
        for attempt, path, start in source.unread:
            _load_file(source, attempt, path, start, batch=batch, loaded=loaded)
    batch.merge()
    for source in sources:
        run_id = source.info.run_id
        if split and run_id in split:
            # The base's rewinds are applied to all it holds, and what came later they do not concern.
            if connection.execute("FROM rewinds WHERE run_id = ?", [run_id]).fetchall():
                raise Replaces
        else:
            _apply_rewinds(connection, run_id)
    examine(connection, [source.info.run_id for source in sources])
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
    with open_file(path) as file:
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
        return (
            f"a journal must be in a form that this program reads, got {str(path)!r} "
            f"({invalid(error)}); upgrade sdpo-bench"
        )
    return None


def _load_file(
    source: RunSource, attempt: int, path: Path, start: int, *, batch: Batch, loaded: Loaded
) -> None:
    """Stage the complete lines of one file from byte `start` on, and record how far it was read."""
    tables, run_id = record_tables(), source.info.run_id
    end = start
    for item in scan(path, start):
        end = item.end
        if source.each_row and isinstance(item, Line) and not _is_row(item):
            item = Damage(path, item.offset, item.end, f"no row of the table {item.table!r}")
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


def _is_row(line: Line) -> bool:
    """Whether a line holds what its table takes; columns of a later version may be there."""
    kind = next((kind for kind in RECORDS if kind.table == line.table), None)
    if kind is None:
        return True  # told apart by the table's name
    try:
        row = json.loads(line.row)
        kind.model_validate({name: row[name] for name in kind.model_fields if name in row})
    except (ValueError, TypeError, RecursionError):
        return False
    return not {"_run_id", "_attempt", "_position"} & set(row)


def _insert_run(connection: DuckDBPyConnection, info: RunInfo) -> None:
    row = info.model_dump(mode="json")
    values = [
        json.dumps(row[column.name]) if column.sql_type == "JSON" else row[column.name]
        for column in run_table().columns
    ]
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO runs VALUES ({places})", values)  # noqa: S608


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
