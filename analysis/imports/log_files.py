"""Reads a log file of another program as a table: CSV, Parquet, JSON."""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from analysis.journal.journal import StoreError
from analysis.render import Result, first_line, visible


def read_table(path: Path) -> Result:
    """Return the rows of a file, by its ending. StoreError: unknown form, not readable, not whole, or no rows."""
    readers: dict[str, Callable[[Path], Result]] = {
        ".csv": _read_csv,
        ".parquet": _read_parquet,
        ".json": _read_json,
        ".jsonl": _read_jsonl,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise StoreError(
            f"a log must be .csv, .parquet, .jsonl or .json, got {str(path)!r}; convert it"
        )
    with _one_line(path):
        table = reader(path)
    if not table.rows:
        raise StoreError(f"a log must have rows, got none in {str(path)!r}; name another")
    return table


def read_content(path: Path) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Return what a JSON file holds. StoreError: it cannot be read or is not whole."""
    with _one_line(path):
        return json.loads(path.read_text(encoding=_encoding(path), errors="backslashreplace"))


def escaped_bytes(path: Path) -> int | None:
    """Where the first bytes stand that a text file's encoding does not have: they are read as their escapes.

    None where there are none, and of Parquet.
    """
    if path.suffix.lower() == ".parquet":
        return None
    encoding = _encoding(path).removesuffix("-sig")  # with it Python counts from behind the mark
    at, decoder = 0, codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while True:
            part = file.read(1 << 20)  # a log can be larger than memory
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                return at - held + error.start
            if not part:
                return None
            at += len(part)


def _encoding(path: Path) -> str:
    """UTF-16 where the file begins with its mark, as PowerShell and spreadsheets write it; else UTF-8."""
    with path.open("rb") as file:
        begin = file.read(2)
    return "utf-16" if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a file into one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"a log must be readable, got {str(path)!r} ({error.strerror}); name another"
        ) from error
    except (ValueError, RecursionError, csv.Error, duckdb.Error) as error:
        reason = visible(first_line(error), 200)
        raise StoreError(
            f"a log must be whole, got {str(path)!r} ({reason}); export it again"
        ) from error


def _read_csv(path: Path) -> Result:
    csv.field_size_limit(1 << 30)  # a completion may be megabytes long
    with path.open(newline="", encoding=_encoding(path), errors="backslashreplace") as file:
        lines = csv.reader(file)
        columns = tuple(next(lines, ()))
        named = [name.strip() for name in columns if name.strip()]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"column {twice[0]!r} stands twice")
        rows: list[tuple[Any, ...]] = []
        for line in lines:
            if not line:
                continue
            if len(line) != len(columns):
                raise ValueError(
                    f"line {lines.line_num} has {len(line)} cells and the first {len(columns)}"
                )
            rows.append(tuple(cell if cell != "" else None for cell in line))
    return Result(columns, rows)


def _read_parquet(path: Path) -> Result:
    with duckdb.connect() as connection:
        cursor = connection.execute("FROM read_parquet(?)", [str(path)])
        columns = tuple(column[0] for column in cursor.description or ())
        return Result(columns, cursor.fetchall())


def _read_jsonl(path: Path) -> Result:
    text = path.read_text(encoding=_encoding(path), errors="backslashreplace")
    # not splitlines: an answer may hold other ends of a line than the file's
    return _of_objects([json.loads(line) for line in text.split("\n") if line.strip()])


def _read_json(path: Path) -> Result:
    content = read_content(path)
    if isinstance(content, dict):  # TRL's and transformers' trainer_state.json
        content = content.get("log_history", [])
    return _of_objects(content)


def _of_objects(content: object) -> Result:
    """Rows of JSON objects; a name that an object lacks is NULL."""
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError("not a list of objects")
    columns = tuple(dict.fromkeys(str(name) for item in content for name in item))
    return Result(columns, [tuple(item.get(name) for name in columns) for item in content])
