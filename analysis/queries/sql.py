"""Runs a query; DuckDB's error becomes one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import duckdb
from duckdb import DuckDBPyConnection as Connection

from analysis.journal.journal import StoreError
from analysis.render import Result, unique, visible
from analysis.warehouse.state import is_damage

Runs: TypeAlias = Sequence[str] | None
"""Ids of the runs that a question is about; None for all."""
NAMES = """(SELECT run_id, label || CASE WHEN count(*) OVER (PARTITION BY label) > 1
                THEN ' ' || right(run_id, 6) ELSE '' END AS name FROM runs)"""
"""What people call each run, told apart where they call two the same."""


def run_query(connection: Connection, query: str) -> Result:
    """Run SQL and fetch all rows of its last statement. StoreError: DuckDB refuses it, or Python has no such value."""
    check_text(query, "a query")
    try:
        cursor = connection.execute(query)
        if cursor is None or cursor.description is None:
            return Result((), [])
        columns = unique([column[0] for column in cursor.description])
        return Result(columns, cursor.fetchall())
    except duckdb.Error as error:
        raise refused(error) from error
    except OverflowError as error:  # an interval of a million years is none to Python
        raise StoreError(
            f"a value must fit the types of Python, got {error}; cast its column to VARCHAR"
        ) from error


def check_text(text: str, what: str) -> None:
    """Refuse, by a StoreError, text that DuckDB cannot take: bytes of a command line that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(
            f"{what} must be UTF-8, got {visible(ascii(text), 80)}; write it otherwise"
        ) from error


def refused(error: duckdb.Error) -> StoreError:
    """Return a query's error in one line."""
    # It quotes the query and the value that did not fit, which may be a model's text.
    lines = [visible(line.strip(), 500) for line in str(error).splitlines() if line.strip()]
    if "'pytz'" in lines[0]:
        return StoreError(
            "a time must be without its zone to be shown, got one with it; cast it: `now()::TIMESTAMP`"
        )
    if is_damage(error):
        return StoreError(
            f"the results file must be intact, got: {lines[0]}; run `sdpo-bench ingest --rebuild`"
        )
    return StoreError(
        f"the query must be valid read-only SQL, got: {' '.join(lines[:2])}; correct it, "
        "`SHOW ALL TABLES` and `DESCRIBE rollouts` say what there is"
    )


def of_runs(
    connection: Connection,
    query: str,
    run_ids: Runs,
    *,
    column: str = "run_id",
    **values: Sequence[str],
) -> Result:
    """Run a query whose `{runs}` is a condition on the run, or true for all runs; `{names}` is NAMES.

    `values` are the query's own parameters, `$name` in it.
    """
    try:
        parameters: dict[str, list[str]] = {name: list(each) for name, each in values.items()}
        condition = "true"
        if run_ids is not None:
            condition = f"list_contains($run_ids, {column})"
            parameters["run_ids"] = list(run_ids)
        cursor = connection.execute(query.format(runs=condition, names=NAMES), parameters or None)
        return Result(tuple(c[0] for c in cursor.description or ()), cursor.fetchall())
    except duckdb.Error as error:
        raise refused(error) from error
