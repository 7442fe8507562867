"""Shows query results: tables for people, CSV, JSON and Parquet for programs.

Cells hold text that a model wrote. On a terminal, and in every message, each character that could steer it
is shown as its escape; CSV and JSON in a file or pipe hold the text as it is.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.journal.durable import output_place, remove, remove_abandoned
from analysis.journal.journal import StoreError
from analysis.words import short

_LONGEST_CELL = 60
"""Characters of a cell in a table; `--format json` shows all."""
_FORMULA = "=+-@\t\r\n"
"""First characters that make a spreadsheet run a cell, or look behind them for one that does."""
_LEAST_COLUMN = 12
"""A table whose columns would have to be narrower is shown as one block a row."""


@dataclass(frozen=True)
class Result:
    """Rows of a query, with the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """Return each row as a mapping."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Return column names with `_2`, `_3` added where one repeats, so that no value is lost."""
    ordered: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in ordered:
            number += 1
            candidate = f"{name}_{number}"
        ordered.append(candidate)
    return tuple(ordered)


def print_table(result: Result, *, max_rows: int = 100, console: Console | None = None) -> None:
    """Print rows as a table, or as blocks where the columns do not fit the terminal.

    In a file or pipe there is no width to fit.
    """
    console = console or Console()
    cells = [[_cell(value) for value in row] for row in result.rows[:max_rows]]
    names = [visible(name, _LONGEST_CELL) for name in result.columns]
    widths = [max(cell_len(row[i]) for row in [names, *cells]) for i in range(len(names))]
    if not console.is_terminal:
        console = Console(file=console.file, width=max(sum(widths) + 2 * len(names), 1))
    columns = _column_widths(result, widths, cells, of=console.width)
    if columns is None:
        _print_blocks(console, result, names, cells)
    else:
        _print_grid(console, result, names, cells, columns)
    if len(result.rows) > max_rows:
        note = f"{max_rows} of {len(result.rows)} rows shown"
        console.print(note, highlight=False, soft_wrap=True)


def fits(result: Result, width: int) -> bool:
    """Whether rows fit so many characters as a table whose cells are whole."""
    cells = [[_cell(value) for value in row] for row in result.rows]
    columns = zip(result.columns, *cells, strict=True)
    return sum(max(map(len, column)) + 2 for column in columns) <= width


def to_csv(result: Result, *, escape_formulas: bool = False) -> str:
    """Return rows as CSV with a header; NULL is empty.

    With `escape_formulas` a text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    lines = io.StringIO()
    # With this end of line the writer quotes a cell that holds CR alone; else a reader would see two rows.
    writer = csv.writer(lines, lineterminator="\r\n")
    for row in (result.columns, *result.rows):
        writer.writerow(map(_no_formula, row) if escape_formulas else row)
        lines.seek(lines.tell() - len("\r\n"))
        lines.write("\n")
        lines.truncate()
    return lines.getvalue()


def _no_formula(value: object) -> object:
    """Return a value as CSV holds it, its text made one that no spreadsheet takes for a formula."""
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value  # of numbers a minus is a sign
    text = str(value)
    # Full-width forms are taken for the plain ones; a blank before a sign is skipped.
    begins = unicodedata.normalize("NFKC", text.lstrip(" \u00a0")[:1])
    return f"'{text}" if begins[:1] in _FORMULA and begins else text


def to_json(result: Result) -> str:
    """Return rows as a JSON array of objects; what JSON cannot hold is text."""
    return json.dumps([_plain(record) for record in result.records()], indent=1, allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. StoreError: it cannot be written."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def written_whole(path: Path, *, folder: bool = False, suffix: str = "") -> Iterator[Path]:
    """Give a file or folder in the same folder to fill; it gets its name when the block ends well.

    What a process that was killed left of the same output is removed first.

    Args:
        path: the output; a file is replaced, and where a link leads to one, that.
        folder: make a folder, and its parents.
        suffix: how the temporary name ends, for writers that go by it.

    Raises:
        StoreError: it cannot be written.
    """
    descriptor, named = None, path
    try:
        path = path if folder else output_place(path)
    except OSError as error:
        raise unwritable(named, error) from error
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")
    try:
        if folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(
            path.parent, rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(suffix)}"
        )
        temporary.mkdir() if folder else temporary.touch()
        descriptor = os.open(temporary, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # says that its writer lives
        yield temporary
        (os.rename if folder else os.replace)(temporary, path)
    except OSError as error:
        raise unwritable(named, error) from error
    finally:
        remove(temporary)
        if descriptor is not None:
            os.close(descriptor)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().partition("\n")[0]


def make_folder(folder: Path) -> None:
    """Make the folder of an output before the work that fills it. StoreError: it cannot be had, or takes no files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error for an output file that cannot be written."""
    return StoreError(
        f"an output file must be writable, got {str(path)!r} ({error.strerror}); name another"
    )


def echo(text: str, *, err: bool = False) -> None:
    """Print a message with nothing in it that a terminal would obey: it may name a file, or quote a model."""
    click.echo(printable(text), err=err)


def printable(text: str, *, line_breaks: bool = True) -> str:
    """Return text with each character that could steer a terminal as its escape."""
    kept = "\n\t" if line_breaks else "\t"
    return "".join(
        char
        if char.isascii() and char.isprintable() or char in kept
        else char
        if unicodedata.category(char)[0] not in "CZ" or char == " "
        else _escape(char)
        for char in text
    )


def visible(text: str, longest: int) -> str:
    """Return text on one line, cut to a length, with nothing that a terminal would obey."""
    cut = text[: longest + 1]
    shown = "".join(
        char if char == " " or unicodedata.category(char)[0] in "LMNPS" else _escape(char)
        for char in cut
    )
    return shown if len(text) <= longest and len(shown) <= longest else shown[: longest - 1] + "…"


def _escape(char: str) -> str:
    """Show a character as its Python escape; other spaces as a space."""
    if unicodedata.category(char) == "Zs":
        return " "
    return char.encode("unicode_escape").decode()


def _cell(value: object) -> str:
    """Return a value as a cell: numbers short, text made harmless."""
    if value is None:
        return ""
    if isinstance(value, float):
        return short(value) if abs(value) < 1e4 else f"{value:,.1f}"
    return visible(str(value), _LONGEST_CELL)


def _column_widths(
    result: Result, widths: Sequence[int], cells: Sequence[Sequence[str]], *, of: int
) -> list[int] | None:
    """How many characters of a line each column gets; None where a line is too short for them.

    Text gives way, down to a least width. A number that is cut is a wrong number, so none is.
    """
    columns = [min(width, _LEAST_COLUMN) for width in widths]
    for i in range(len(columns)):
        if _is_numeric(result, i):
            columns[i] = max([columns[i], *(len(row[i]) for row in cells)])
    left = of - sum(columns) - 2 * len(columns)
    if left < 0:
        return None
    while left > 0 and columns != list(widths):
        for i, width in enumerate(widths):
            if columns[i] < width and left > 0:
                columns[i], left = columns[i] + 1, left - 1
    return columns


def _print_grid(
    console: Console,
    result: Result,
    names: list[str],
    cells: list[list[str]],
    widths: Sequence[int],
) -> None:
    """Print one line a row."""
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(names):
        table.add_column(
            Text(name),
            justify="right" if _is_numeric(result, i) else "left",
            width=widths[i],
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _is_numeric(result: Result, column: int) -> bool:
    values = [row[column] for row in result.rows if row[column] is not None]
    return bool(values) and all(isinstance(value, int | float | Decimal | date) for value in values)


def _print_blocks(
    console: Console, result: Result, names: list[str], cells: list[list[str]]
) -> None:
    """Print one line a value, a block a row."""
    whole = [len(row[i]) for i in range(len(names)) if _is_numeric(result, i) for row in cells]
    longest = min(max(map(len, names)), max(console.width - max(whole, default=0) - 4, 1))
    for number, row in enumerate(cells, 1):
        console.print(Text(f"row {number}", style="bold"))
        for name, cell in zip(names, row, strict=True):
            line = f"  {visible(name, longest):<{longest}}  {cell}"
            console.print(Text(line), no_wrap=True, overflow="ellipsis")


def _plain(value: object) -> object:
    """Return a value that JSON holds; a float that is not finite as its name, like the journal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(str(value), value)
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return str(value)
