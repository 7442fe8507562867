"""Reads a file of problems as rows, whatever its form: JSON lines, a JSON array, CSV, Parquet, a datasets folder.

A row keeps the place where it stands, so that whatever is wrong with it can be said in one line.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.installation import install_command
from evaluator.problems.problem import DatasetError

ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".json", ".csv", ".parquet")

MAX_CELL_CHARS = 16_000_000
"""Of one cell; what a program is sent with must fit 32 MiB."""
MAX_UNPACKED_BYTES = 1 << 30
"""Of a packed file: a few bytes can stand for any number."""

ALIASES: Mapping[str, tuple[str, ...]] = {
    "task_id": ("task_id", "id"),
    "text": ("text", "prompt"),
    "tests": ("tests", "test_list"),
    "hidden_tests": ("hidden_tests",),
    "function": ("function",),
    "reference": ("reference", "code"),
    "setup": ("setup", "test_setup_code"),
    "imports": ("imports", "test_imports"),
    "tags": ("tags",),
    "cases": ("cases",),
    "hidden_cases": ("hidden_cases",),
    "tolerance": ("tolerance",),
    "checker": ("checker",),
    "time_limit_s": ("time_limit_s",),
    "memory_limit_mb": ("memory_limit_mb",),
}
"""What a row holds -> the names of its column; of two that are filled the first counts."""

KNOWN = [name for names in ALIASES.values() for name in names]
_OF_MBPP = ("challenge_test_list", "split")
_MEANT = {
    "text": "question instruction description statement problem question_content",
    "tests": "asserts assertions unit_tests test_cases",
    "hidden_tests": "hidden hidden_asserts hidden_test_list private_tests",
    "reference": "solution canonical_solution reference_solution",
    "function": "entry_point function_name func_name",
    "cases": "io inputs_outputs input_output",
    "hidden_cases": "hidden_io private_cases",
    "setup": "setup_code",
    "time_limit_s": "timeout timeout_s time_limit_seconds",
    "memory_limit_mb": "memory_mb",
    "tolerance": "float_tolerance atol rtol abs_tol rel_tol",
}
"""Names that people give a column, and that nothing reads."""
_LIVECODEBENCH = ("question_id", "question_content")


@dataclass(frozen=True)
class FileRow:
    """One row as it stands in the file."""

    place: str
    """e.g. `line 3` of JSON lines, `row 3` of a table, counted from 1 without the heading."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """By column; a cell that is missing or empty is left out."""
    fault: str | None = None
    """Why it could not be read; there are no values then."""


def is_row_file(name: str) -> bool:
    """Whether a data set's name is that of a file or folder of problems."""
    return name.lower().endswith(ENDINGS) or (bool(name) and Path(name).is_dir())


def read_rows(path: Path) -> list[FileRow]:
    """Return the rows of a file, by its ending, or of a folder that `datasets` wrote or that holds Parquet files.

    Raises:
        DatasetError: the file as a whole cannot be read or holds no rows; a fault of one row is in the row.
    """
    readers: dict[str, Callable[[Path], Iterator[FileRow]]] = {
        ".jsonl": _json_lines,
        ".gz": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json_array,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    is_known = is_row_file(path.name)
    reader = _folder if path.is_dir() else readers[path.suffix.lower()] if is_known else None
    if reader is None:
        raise DatasetError(
            f"a problem file must end in {', '.join(ENDINGS)} or be a folder of datasets, got {str(path)!r}; "
            "convert it"
        )
    try:
        rows = list(reader(path))
    except OSError as error:
        raise DatasetError(
            f"the problem file must be readable, got {str(path)!r} ({error.strerror or error}); correct its name"
        ) from error
    if not rows:
        raise DatasetError(
            f"a problem file must hold at least one problem, got none in {str(path)!r}; add some"
        )
    return rows


def _row(place: str, values: Mapping[Any, Any]) -> FileRow:
    """A row without its empty cells, or with the fault of the first cell that is too large."""
    kept = {str(name).strip(): value for name, value in values.items() if not _is_empty(value)}
    for name, value in kept.items():
        if isinstance(value, str) and len(value) > MAX_CELL_CHARS:
            fault = f"{name} must hold at most {MAX_CELL_CHARS} characters, got {len(value)}"
            return FileRow(place, fault=fault)
    return FileRow(place, kept)


def misnamed(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a row's columns: a misspelt one would be ignored, and nobody would know."""
    meant = {word: field for field, words in _MEANT.items() for word in words.split()}
    faults = []
    for name in values:
        if name in KNOWN or name in _OF_MBPP:
            continue
        word = name.lower().replace(" ", "_").replace("-", "_")
        if word in meant:
            # Beside a column that is read, `question` or `solution` may hold what they like.
            close = [] if any(n in values for n in ALIASES[meant[word]]) else [meant[word]]
        else:
            close = difflib.get_close_matches(word, KNOWN, n=1, cutoff=0.8)
        if close:
            faults.append(
                f"columns must be known ones, got {name[:60]!r}; did you mean {close[0]!r}?"
            )
    return faults


def _is_empty(value: object) -> bool:
    """Whether a cell says nothing: Parquet files hold NaN where a table of pandas had nothing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(path: Path, content: bytes, first_line: int = 1) -> str:
    """UTF-8 text, with or without its mark.

    Raises:
        DatasetError: it is in another encoding; the message names the place of the first wrong byte.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the byte {content[error.start]:#04x}"
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            what = "UTF-16"
        if content[:2] in (b"\x1f\x8b", b"PK", b"BZ") or content[:4] == b"(\xb5/\xfd":
            raise DatasetError(
                f"a problem file must be text, got a packed one, {str(path)!r}; unpack it"
            ) from error
        line = first_line + content.count(b"\n", 0, error.start)
        raise DatasetError(
            f"a problem file must be UTF-8, got {what} in line {line} of {str(path)!r}; save it as UTF-8"
        ) from error


def _unpacked(path: Path) -> bytes:
    """The content of a file that gzip compressed."""
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_UNPACKED_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(
            f"a file that ends in .gz must be whole, got {str(error)[:100]} in {str(path)!r}; get it again"
        ) from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise DatasetError(
            f"a packed file must hold at most {MAX_UNPACKED_BYTES} bytes, got more in {str(path)!r}; split it"
        )
    return content


def _json_lines(path: Path) -> Iterator[FileRow]:
    """One object a line, all compressed by gzip where the name says so."""
    content = _unpacked(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    # Not text lines: a lone carriage return or a line separator within a string ends no object.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip() in (b"", b"\xef\xbb\xbf"):
            continue
        place = f"line {number}"
        try:
            value = json.loads(_text(path, line, number))
        except DatasetError as error:
            if number == 1:
                raise  # the whole file is of another encoding
            yield FileRow(place, fault=f"it must be UTF-8, got {str(error.__cause__)[:80]}")
        # Deeply nested brackets exhaust the parser's stack.
        except (ValueError, RecursionError) as error:
            yield FileRow(place, fault=f"it must hold one JSON object, got {str(error)[:100]}")
        else:
            yield _of_object(place, value)


def _of_object(place: str, value: object) -> FileRow:
    if not isinstance(value, dict):
        array = "; an array belongs in a file that ends in .json" if isinstance(value, list) else ""
        fault = f"it must be one JSON object, got {type(value).__name__}{array}"
        return FileRow(place, fault=fault)
    return _row(place, value)


def _json_array(path: Path) -> Iterator[FileRow]:
    """An array of objects; also JSON lines under another name."""
    text = _text(path, path.read_bytes())
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{"):
            yield from _json_lines(path)
            return
        raise DatasetError(
            f"a .json file must hold an array of objects, got {str(error)[:100]} in {str(path)!r}; mend it"
        ) from error
    if not isinstance(content, list):
        raise DatasetError(
            f"a .json file must hold an array of objects, got {_shown(content)} in {str(path)!r}; "
            "put [ before the first object and ] behind the last"
        )
    for number, value in enumerate(content, start=1):
        yield _of_object(f"row {number}", value)


def _shown(content: object) -> str:
    if not isinstance(content, dict):
        return type(content).__name__
    lists = [key for key, value in content.items() if isinstance(value, list)]
    if len(content) == 1 and lists:
        return f"dict with its rows in {lists[0][:60]!r}"
    return "dict"


def _csv(path: Path) -> Iterator[FileRow]:
    """A table with a heading, cells parted by commas."""
    text = _text(path, path.read_bytes())
    csv.field_size_limit(2 * MAX_CELL_CHARS)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] | None = None
    number = 0
    try:
        for cells in lines:
            if not any(cells):
                continue
            if columns is None:
                columns = [cell.strip() for cell in cells]
                _check_heading(columns, path)
                continue
            number += 1
            if len(cells) != len(columns):
                fault = f"it must have {len(columns)} cells as the heading has, got {len(cells)}"
                yield FileRow(f"row {number}", fault=fault)
            else:
                yield _row(f"row {number}", dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise DatasetError(
            f"a CSV file must be whole, got {str(error)[:100]} in row {number + 1} (line {lines.line_num}) of "
            f"{str(path)!r}; export it again"
        ) from error


def _check_heading(columns: list[str], path: Path) -> None:
    """Refuse a first line that is no heading, or names a column twice."""
    other = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), None)
    if other is not None:
        raise DatasetError(
            f"cells must be parted by commas, got {other!r} in the heading of {str(path)!r}; export it again"
        )
    if not {name.lower() for name in columns} & ({*KNOWN, *_LIVECODEBENCH}):
        raise DatasetError(
            f"the first line must be a heading such as task_id,text,tests, got {', '.join(columns)!r:.80} in "
            f"{str(path)!r}; add one"
        )
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(
            f"the heading must name each column once, got {twice[:60]!r} twice in {str(path)!r}; rename one"
        )


def _parquet(path: Path, files: Sequence[Path] = ()) -> Iterator[FileRow]:
    """A Parquet file, or those of a folder."""
    import duckdb  # only this form needs it

    number = 0
    try:
        with duckdb.connect() as connection:
            for file in files or [path]:
                file.open("rb").close()  # DuckDB would call a missing file many things
                cursor = connection.execute("FROM read_parquet(?)", [_literal_path(file)])
                columns = [column[0] for column in cursor.description or ()]
                for cells in cursor.fetchall():
                    number += 1
                    yield _row(f"row {number}", dict(zip(columns, cells, strict=True)))
    except duckdb.Error as error:
        reason = str(error).strip().partition("\n")[0][:150]
        raise DatasetError(
            f"a Parquet file must be whole, got {str(path)!r} ({reason}); export it again"
        ) from error


def _literal_path(path: Path) -> str:
    """The path as DuckDB reads it: a bracket or an asterisk would be a pattern."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def _folder(path: Path) -> Iterator[FileRow]:
    """What `Dataset.save_to_disk` wrote, else the Parquet files of a folder."""
    if (path / "dataset_dict.json").is_file():
        splits = sorted(item.name for item in path.iterdir() if item.is_dir())
        raise DatasetError(
            f"a folder with several splits must be named with one of them, got {str(path)!r}; write "
            f"{str(path / (splits[0] if splits else 'train'))!r} for example"
        )
    if (path / "state.json").is_file():
        yield from _saved_rows(path)
        return
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise DatasetError(
            f"a folder of problems must be one that datasets saved, or hold .parquet files, got {str(path)!r}; "
            "name a file"
        )
    yield from _parquet(path, files)


def _saved_rows(path: Path) -> Iterator[FileRow]:
    try:
        import datasets  # an extra; the other forms need none
    except ImportError as error:
        raise DatasetError(
            f"the package datasets must be installed to read {str(path)!r}, got none; "
            f"{install_command('train')}, or export the data as .parquet"
        ) from error
    try:
        rows = datasets.load_from_disk(str(path))
        for number, values in enumerate(rows, start=1):
            yield _row(f"row {number}", values)
    # What datasets and pyarrow raise for a damaged folder.
    except (OSError, ValueError, KeyError, TypeError, datasets.exceptions.DatasetsError) as error:
        raise DatasetError(
            f"a folder of datasets must be whole, got {str(path)!r} ({' '.join(str(error).split())[:150]}); "
            "save it again"
        ) from error
