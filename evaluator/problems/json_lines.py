"""Reads a person's file of JSON objects, one a line; every fault is one line with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json_lines(
    path: Path, *, what: str, error: type[Exception]
) -> list[tuple[int, dict[str, Any]]]:
    """Return line number, from 1, and object of each line that is not blank.

    Args:
        path: of the file, UTF-8.
        what: the file in words, e.g. `completions`.
        error: raised, with one line for the user, where the file or a line cannot be read.
    """
    try:
        # Not text lines: a lone carriage return or a line separator within a string ends no object.
        lines = path.read_bytes().split(b"\n")
    except OSError as cause:
        raise error(
            f"the {what} file must be readable, got {str(path)!r} ({cause.strerror}); correct its name"
        ) from cause
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # Deeply nested brackets exhaust the parser's stack.
        except (ValueError, RecursionError) as cause:
            raise error(
                f"each line must hold one JSON object, got {str(path)!r} line {number} "
                f"({str(cause)[:100]}); mend or remove it"
            ) from cause
        if not isinstance(row, dict):
            raise error(
                f"each line must hold one JSON object, got {type(row).__name__} at {str(path)!r} "
                f"line {number}; mend or remove it"
            )
        rows.append((number, row))
    return rows
