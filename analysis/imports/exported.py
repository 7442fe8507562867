"""Reads an export back: the Parquet files of `analysis.report.export` become the runs that they came from."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection as Connection
from pydantic import ValidationError

from analysis.journal.journal import StoreError, checked_run_id
from analysis.journal.restored import write_restored
from analysis.provenance import check_label
from analysis.records import RECORDS, Record, Row, RunInfo
from analysis.render import first_line, visible
from analysis.storable import invalid
from analysis.warehouse.tables import record_tables, run_table

_ROWS_AT_ONCE = 1000
_PARQUET = (
    "read_parquet(?, hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"
)


@dataclass
class Restored:
    """What became of the runs of an export."""

    written: list[tuple[str, int]] = field(default_factory=list)
    """Run id and number of rows."""
    present: list[str] = field(default_factory=list)
    """Ids of the runs that were there and stay as they are."""
    left_out: list[str] = field(default_factory=list)
    """Why a run cannot be stored, a line each."""
    notes: list[str] = field(default_factory=list)


def restore(folder: Path, runs_dir: Path) -> Restored:
    """Write every run of an export into a runs folder, each whole or not at all.

    A run that is there already is left as it is; one that cannot be stored keeps no other back.

    Raises:
        StoreError: the folder is no export, no run of it can be stored, or the runs folder cannot be written.
            Runs that were written before stay.
    """
    found = Restored()
    try:
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            for info in _runs(connection, folder, found):
                if (runs_dir / info.run_id).exists():
                    found.present.append(info.run_id)
                    continue
                rows = _records(connection, folder, info.run_id)
                try:
                    found.written.append((info.run_id, write_restored(runs_dir, info, rows)))
                except ValidationError as error:
                    found.left_out.append(f"{info.run_id}: {visible(invalid(error), 200)}")
    except duckdb.Error as error:
        raise _no_export(folder, first_line(error)) from error
    if found.left_out and not found.written and not found.present:
        raise _no_export(folder, found.left_out[0])
    return found


def _no_export(folder: Path, reason: str) -> StoreError:
    inside = [str(path.parent) for path in sorted(folder.glob(f"*/{run_table().name}"))]
    return StoreError(
        f"a folder to restore must be one that `sdpo-bench export` of this version or an earlier one wrote, "
        f"got {str(folder)!r} ({visible(reason, 200)}); name {' or '.join(inside[:5]) or 'another'}"
    )


def _runs(connection: Connection, folder: Path, found: Restored) -> list[RunInfo]:
    """The runs of an export that can be stored, the oldest first."""
    for path in folder.glob("*/**/*.parquet"):
        if not path.is_file():  # to open a pipe would wait for ever
            raise _no_export(folder, f"{path.relative_to(folder)} is no file")
    if not (folder / run_table().name).is_dir():
        raise _no_export(folder, f"no folder {run_table().name!r} in it")
    rows = _read(connection, folder, run_table().name, RunInfo)
    infos = []
    for row in rows:
        try:
            info = RunInfo.model_validate(row)
            checked_run_id(info.run_id)
        except ValidationError as error:
            named = visible(str(row.get("run_id")), 80)
            found.left_out.append(f"{named}: {visible(invalid(error), 200)}")
            continue
        except StoreError as error:
            found.left_out.append(visible(str(error), 300))
            continue
        infos.append(info)
        try:
            check_label(info.label)
        except StoreError:  # of an earlier version: rows are worth more than their label
            found.notes.append(
                f"{info.run_id} has a label by which it cannot be named, {visible(info.label, 60)!r}: "
                "name it by its id"
            )
    return sorted(infos, key=lambda info: info.order)


def _records(connection: Connection, folder: Path, run_id: str) -> Iterator[tuple[int, Record]]:
    """The rows of a run with their attempts, by ascending attempt."""
    kinds = [kind for kind in RECORDS if (folder / kind.table).is_dir()]
    attempts: set[int] = set()
    for kind in kinds:
        query = f"SELECT DISTINCT attempt FROM {_PARQUET} WHERE run_id = ?"  # noqa: S608 - no text of a person
        found = connection.execute(query, [_files(folder, kind.table), run_id]).fetchall()
        attempts.update(attempt for (attempt,) in found)
    for attempt in sorted(attempts):
        for kind in kinds:
            for row in _read(connection, folder, kind.table, kind, run_id=run_id, attempt=attempt):
                yield attempt, kind.model_validate(row)


def _files(folder: Path, table: str) -> str:
    """The pattern of a table's files, whether one or one a run. A folder's name may hold signs of a pattern."""
    return f"{glob.escape(str(folder / table))}/**/*.parquet"


def _read(
    connection: Connection, folder: Path, table: str, kind: type[Row], **where: str | int
) -> Iterator[dict[str, Any]]:
    """The rows of a table as what `kind` takes."""
    known = {
        column.name: column for column in {"runs": run_table(), **record_tables()}[table].columns
    }
    condition = " AND ".join(f"{name} = ?" for name in where) or "true"
    cursor = connection.cursor().execute(
        f"SELECT * FROM {_PARQUET} WHERE {condition}",  # noqa: S608 - names of our own
        [_files(folder, table), *where.values()],
    )
    names = [description[0] for description in cursor.description or ()]
    if unknown := [name for name in names if name not in known]:
        raise _no_export(folder, f"column {unknown[0]!r} of {table}")
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        for row in rows:
            yield {
                name: json.loads(value) if value and known[name].sql_type == "JSON" else value
                for name, value in zip(names, row, strict=True)
                if name in kind.model_fields
            }
