"""The warehouse's tables, derived from the records that journals hold; views stand in views.sql."""

from __future__ import annotations

import hashlib
import types
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from pydantic.fields import FieldInfo

from analysis.records import RECORDS, Row, RunInfo

VIEWS_SQL = Path(__file__).with_name("views.sql")
APPLICATION = "sdpo-bench"
"""What a results file says of who wrote it."""
FORM = 4
"""Number of the warehouse's form; raise it with every change of its tables, so that an earlier version of
this program can tell that a file is of a later one."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    sql_type: str
    comment: str


@dataclass(frozen=True)
class Table:
    """One table; within a run, a later row with the same key replaces the earlier one."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    added: tuple[str, ...] = ()
    """Leading columns that no row holds: they come from where the row was read."""

    @property
    def from_staged(self) -> list[str]:
        """Expressions for the columns, over rows that are staged with where they were read."""
        return [
            f'_{column.name} AS "{column.name}"'
            if column.name in self.added
            else f'"{column.name}"'
            for column in self.columns
        ]

    @property
    def follows_steps(self) -> bool:
        """Whether its rows are about an optimizer step, so that a rewind can undo them."""
        names = {column.name for column in self.columns}
        return "step" in names and "attempt" in self.added

    @property
    def create(self) -> str:
        """The statement that creates the table. No index: scans are fast enough."""
        columns = ", ".join(f'"{column.name}" {column.sql_type}' for column in self.columns)
        return f'CREATE TABLE "{self.name}" ({columns});\n'

    @property
    def comments(self) -> str:
        """The statements that say what the table and its columns hold."""
        return f'COMMENT ON TABLE "{self.name}" IS {quoted(self.comment)};\n' + "".join(
            f'COMMENT ON COLUMN "{self.name}"."{column.name}" IS {quoted(column.comment)};\n'
            for column in self.columns
        )


_RUN_ID = Column("run_id", "VARCHAR", "key into runs")
_ATTEMPT = Column(
    "attempt", "BIGINT", "process that wrote the row: 0 for the first, +1 for each resume"
)

JOURNAL_FILES = Table(
    "journal_files",
    "Journal files that were read, and how far.",
    (
        _RUN_ID,
        Column("file", "VARCHAR", "name of the file in the run's folder"),
        Column("n_bytes", "BIGINT", "bytes read, always up to the end of a line"),
    ),
    ("run_id", "file"),
)
DAMAGES = Table(
    "damages",
    "Journal lines that were found damaged and left out.",
    (
        _RUN_ID,
        Column("file", "VARCHAR", "name of the file in the run's folder"),
        Column("byte_offset", "BIGINT", "where the line starts in the file, bytes"),
        Column("reason", "VARCHAR", "what is wrong with it"),
    ),
    ("run_id", "file", "byte_offset"),
)
WAREHOUSE = Table(
    "warehouse",
    "One row: what built this file.",
    (
        Column("application", "VARCHAR", "the program that wrote this file"),
        Column("form", "BIGINT", "number of the form of its tables, from 2; higher is later"),
        Column("schema_sha256", "VARCHAR", "sha256 of the statements that made tables and views"),
        Column(
            "generation", "VARCHAR", "random name of this file, different each time it is written"
        ),
    ),
    ("schema_sha256",),
)


@cache
def run_table() -> Table:
    """Return the table `runs`: one row a run, from its run.json."""
    return Table("runs", _summary(RunInfo), _columns(RunInfo), ("run_id",))


@cache
def record_tables() -> dict[str, Table]:
    """Return the tables that journal lines go into, by name."""
    tables = {}
    for record in RECORDS:
        lead = (_RUN_ID,) if "attempt" in record.model_fields else (_RUN_ID, _ATTEMPT)
        tables[record.table] = Table(
            record.table,
            _summary(record),
            lead + _columns(record),
            ("run_id", *record.key),
            added=tuple(column.name for column in lead),
        )
    return tables


def row_tables() -> tuple[str, ...]:
    """Names of the tables that hold what was read from the journals."""
    return (run_table().name, *record_tables(), DAMAGES.name)


@cache
def tables_sql() -> str:
    """Return every statement that makes the empty tables, without comments and views."""
    return "".join(table.create for table in _tables())


@cache
def schema_sql() -> str:
    """Return every statement that makes an empty warehouse."""
    comments = "".join(table.comments for table in _tables())
    return tables_sql() + comments + VIEWS_SQL.read_text(encoding="utf-8")


def _tables() -> tuple[Table, ...]:
    return (run_table(), *record_tables().values(), JOURNAL_FILES, DAMAGES, WAREHOUSE)


@cache
def schema_sha256() -> str:
    """Return what tells one form of the warehouse from another: a file of another form is rebuilt."""
    return hashlib.sha256(schema_sql().encode()).hexdigest()


def insert_warehouse(connection: DuckDBPyConnection, generation: str) -> None:
    """Add the one row of the table `warehouse`."""
    row = [APPLICATION, FORM, schema_sha256(), generation]
    connection.execute("INSERT INTO warehouse VALUES (?, ?, ?, ?)", row)


def _columns(row: type[Row]) -> tuple[Column, ...]:
    """Columns of a record, in the order of its fields."""
    return tuple(
        Column(name, _sql_type(field), field.description or name)
        for name, field in row.model_fields.items()
    )


_SQL_TYPES: dict[Any, str] = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}


def _sql_type(field: FieldInfo) -> str:
    """SQL type of a field: the type beside None, JSON for mappings, text for literals and ids."""
    kind: Any = field.annotation
    if isinstance(kind, types.UnionType | typing._UnionGenericAlias):  # type: ignore[attr-defined]
        kinds = [part for part in typing.get_args(kind) if part is not types.NoneType]
        kind = str if str in kinds else kinds[0]
    origin = typing.get_origin(kind)
    if origin is dict:
        return "JSON"
    if origin is typing.Literal:
        return "VARCHAR"
    return _SQL_TYPES[kind]


def _summary(row: type[Row]) -> str:
    """First line of a record's docstring."""
    return (row.__doc__ or "").strip().splitlines()[0]


def quoted(text: str | Path) -> str:
    """Return text as a SQL string."""
    return "'" + str(text).replace("'", "''") + "'"
