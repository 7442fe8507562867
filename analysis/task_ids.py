"""Names of problems: MBPP's are integers, a person's own are texts such as `mine/1`."""

from __future__ import annotations

import re
import zlib
from typing import TypeAlias

TaskId: TypeAlias = int | str
"""An integer, or a text that is none: `56` and `mine/56`, never `"56"`."""

MAX_CHARS = 100
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_TEXT = re.compile(r"\w(?:[\w.:/ -]*[\w.])?")
_DIGITS = re.compile(r"\d+")
_WIDTH = 19
"""Digits of the largest integer that is stored."""


def task_id(value: object) -> TaskId:
    """Return an id in its one form: a text of decimal digits is the integer. ValueError: no integer and no text."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) and value != "-0" else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"a task id must be an integer or a text, got {value!r:.80}")


def checked_task_id(value: object) -> TaskId:
    """Return the id of a problem that a person brings, in its one form.

    It goes into file names, tables and pages: letters, digits and `. _ - : /` are enough for a name.

    Raises:
        ValueError: it holds other characters, begins with none of the first two, or has `..` or an empty part.
    """
    found = task_id(value.strip() if isinstance(value, str) else value)
    if isinstance(found, str):
        empty = any(part.strip() in ("", ".", "..") for part in found.split("/"))
        if empty or len(found) > MAX_CHARS or not _TEXT.fullmatch(found):
            shown = found if len(found) <= 60 else f"{found[:57]}..."
            raise ValueError(
                f"a task id must be an integer or a name of 1 to {MAX_CHARS} letters, digits and . _ - : / between "
                f"them, got {shown!a}; rename it"
            )
    elif not 0 <= found < 10**18:
        raise ValueError(
            f"a task id must be an integer from 0 below 10**18, got {found!r:.40}; rename it"
        )
    return found


def task_order(value: TaskId) -> str:
    """Return the sorting key of an id, the same as the SQL macro's: numbers within a text count as numbers."""
    return _DIGITS.sub(lambda found: found[0].zfill(_WIDTH), str(value))


def task_number(value: TaskId) -> int:
    """Return a number for seeds: an integer id itself, for a text one that only depends on it."""
    return value if isinstance(value, int) else zlib.crc32(value.encode("utf-8", "replace"))
