"""Code in other clothes than a fence: in an interpreter's session, quoted, behind a label, in a code span."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from evaluator.answers.bare_code import code_runs
from evaluator.answers.definition import MAX_CODE_CHARS

_MAX_PLACES = 8
"""Definitions in the middle of a line that are looked at."""

_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)|^[ \t]*(?:In \[\d+\]|\.\.\.):(?: |$)")
_BEGINS_SESSION = re.compile(r"^[ \t]*(?:>>> |In \[\d+\]: )", re.MULTILINE)
_QUOTED_CODE = re.compile(r"^[ \t]*(?:>[ \t]?){1,8}(?:def|class|import|from|@)\b", re.MULTILINE)
_QUOTATION = re.compile(r"^[ \t]*(?:>[ \t]?){1,8}", re.MULTILINE)


def sessions(text: str, *, mixed: bool) -> Iterator[str]:
    """Yield what a text holds of an interpreter's session: all that was typed in, then what stands before it.

    Nothing where there is none: no line of Python begins with its prompt. What stands before it is code too
    unless prose can stand there (`mixed`).
    """
    found = _BEGINS_SESSION.search(text[:MAX_CODE_CHARS])
    if found is None:
        return
    before = "" if mixed else text[: found.start()]
    lines = text[found.start() : MAX_CODE_CHARS].split("\n")
    typed = [line[prompt.end() :] for line in lines if (prompt := _PROMPT.match(line)) is not None]
    yield before + "\n".join(typed)
    if before.strip():
        yield before.rstrip()


def unquoted(text: str) -> str:
    """Return a text without the marks of a quotation that holds code."""
    return _QUOTATION.sub("", text) if _QUOTED_CODE.search(text) else text


def in_a_line(text: str, name: str) -> Iterator[str]:
    """Yield the definitions of a name that begin in the middle of a line, as in `Answer: def add(a, b):`."""
    for found in islice(_in_line(name).finditer(text), _MAX_PLACES):
        start = found.start(2)
        if found[1][-1:] == "`":
            end = text.find("`", start)
            line_end = text.find("\n", start)
            if end >= 0 and (line_end < 0 or end < line_end):
                yield text[start:end]
                continue
        yield from islice(code_runs(text[start : start + MAX_CODE_CHARS]), 1)


@lru_cache(maxsize=4096)
def _in_line(name: str) -> re.Pattern[str]:
    """A definition of a name behind other text of its line."""
    name = re.escape(name)
    return re.compile(
        rf"^([^\n]{{0,200}}?[ \t:>*\]!.`])"
        rf"((?:async[ \t]+)?def[ \t]+{name}[ \t]*[(\[]|{name}[ \t]*=[ \t]*lambda\b)",
        re.MULTILINE,
    )
