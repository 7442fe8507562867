"""Shows query results: tables for people, CSV, JSON and Parquet for programs.

Cells hold text that a model wrote. In a table every character that could steer a terminal is shown as
its escape; CSV and JSON hold the text as it is.
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from analysis.journal import StoreError

_LONGEST_CELL = 60
"""Characters of a cell in a table; `--format json` shows all."""
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
    widths = [max(len(row[i]) for row in [names, *cells]) for i in range(len(names))]
    gaps = 2 * len(names)
    fits = sum(widths) + gaps <= console.width
    squeezed = sum(min(width, _LEAST_COLUMN) for width in widths) + gaps <= console.width
    if not console.is_terminal:
        console = Console(file=console.file, width=max(sum(widths) + gaps, 1))
    if not console.is_terminal or fits or squeezed:
        _print_grid(console, result, names, cells)
    else:
        _print_blocks(console, names, cells)
    if len(result.rows) > max_rows:
        note = f"{max_rows} of {len(result.rows)} rows shown"
        console.print(note, highlight=False, soft_wrap=True)


def to_csv(result: Result) -> str:
    """Return rows as CSV with a header; NULL is empty."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows(result.rows)
    return out.getvalue()


def to_json(result: Result) -> str:
    """Return rows as a JSON array of objects; what JSON cannot hold is text."""
    return json.dumps([_plain(record) for record in result.records()], indent=1, allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    temporary = temporary_beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def temporary_beside(path: Path) -> Path:
    """Return a name in the same folder, to be renamed when the file is complete."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error for an output file that cannot be written."""
    return StoreError(
        f"an output file must be writable, got {str(path)!r} ({error.strerror}); name another"
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


def _cell(value: Any) -> str:  # noqa: ANN401 - whatever SQL can return
    """Return a value as a cell: numbers short, text made harmless."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.1f}"
    return visible(str(value), _LONGEST_CELL)


def _print_grid(console: Console, result: Result, names: list[str], cells: list[list[str]]) -> None:
    """Print one line a row."""
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(names):
        numbers = [row[i] for row in result.rows if row[i] is not None]
        numeric = bool(numbers) and all(isinstance(value, int | float) for value in numbers)
        table.add_column(
            Text(name),
            justify="right" if numeric else "left",
            # A number that is cut is a wrong number.
            min_width=max((len(row[i]) for row in cells), default=0) if numeric else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _print_blocks(console: Console, names: list[str], cells: list[list[str]]) -> None:
    """Print one line a value, a block a row."""
    longest = max(len(name) for name in names)
    for number, row in enumerate(cells, 1):
        console.print(Text(f"row {number}", style="bold"))
        for name, cell in zip(names, row, strict=True):
            console.print(Text(f"  {name:<{longest}}  {cell}"), no_wrap=True, overflow="ellipsis")


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever SQL can return
    """Return a value that JSON holds; a float that is not finite as its name, like the journal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            finite = value == value and abs(value) != float("inf")
            return (
                value if finite else {"nan": "NaN", "inf": "Infinity"}.get(str(value), "-Infinity")
            )
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return str(value)
