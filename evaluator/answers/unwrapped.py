"""Code in other clothes than a fence.

In an interpreter's session, quoted, behind a label, in a code span, with line numbers, as a change, in HTML, in
triple quotes, with characters that nobody sees.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from evaluator.answers.bare_code import code_runs
from evaluator.answers.definition import MAX_CODE_CHARS

_MAX_PLACES = 8
"""Definitions in the middle of a line that are looked at."""

_PROMPT = re.compile(
    r"^[ \t]*(?:>[ \t]){0,3}(?:>>>(?!>) ?|\.\.\.(?: |$)|(?:In \[\d+\]|\.\.\.):(?: |$))"
)
_BEGINS_SESSION = re.compile(
    r"^[ \t]*(?:>[ \t]){0,3}(?:>>>[ \t]?(?=[\w@\"'#])|In \[\d+\]: )", re.MULTILINE
)
_QUOTED_CODE = re.compile(r"^[ \t]*(?:>[ \t]?){1,8}(?:def|class|import|from|@)\b", re.MULTILINE)
_QUOTATION = re.compile(r"^[ \t]*(?:>[ \t]?){1,8}", re.MULTILINE)
_BEGINS_CODE = r"(?=(?:(?:async[ \t]+)?def|class|import|from)[ \t]|@\w|\w+[ \t]*=)"
_NUMBERED = re.compile(
    rf"^[ \t]*\d{{1,4}}([:.|)][ \t]{{0,8}}|[ \t]{{1,8}}(?:[|:][ \t]{{0,8}})?){_BEGINS_CODE}",
    re.MULTILINE,
)
_ADDED = re.compile(r"^\+[ \t]*\w", re.MULTILINE)
_NOT_ADDED = re.compile(r"^(?:-|@@|\+\+\+|diff |index |\\ ).*\n?", re.MULTILINE)
_IN_QUOTES = re.compile(r"^(\"{3}|'{3})[ \t]*(?:python|py)3?[ \t]*\n", re.MULTILINE | re.IGNORECASE)
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{2,4}|#x[\da-f]{2,4});", re.IGNORECASE)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_CLOTHES = (_NUMBERED, _ADDED, _IN_QUOTES, _ENTITY, _UNSEEN, _SPACE)


def is_dressed(text: str) -> bool:
    """Whether `undressed` may find something to take off."""
    return any(pattern.search(text) for pattern in _CLOTHES)


def undressed(text: str) -> Iterator[str]:
    """Yield a text without each of the clothes that hide its code but leave it whole."""
    text = text[:MAX_CODE_CHARS]
    seen = _seen(text)
    if seen != text:
        yield seen
    for found in islice(_IN_QUOTES.finditer(seen), _MAX_PLACES):
        end = seen.find(f"\n{found[1]}", found.end())
        yield seen[found.end() : end if end >= 0 else len(seen)]


def uncited(text: str) -> Iterator[str]:
    """Yield the code of a listing without its line numbers, and what the lines of a change leave."""
    seen = _seen(text[:MAX_CODE_CHARS])
    if (numbered := _NUMBERED.search(seen)) is not None:
        yield _without_numbers(seen[numbered.start() :], numbered[1])
    if _ADDED.search(seen):
        lines = _NOT_ADDED.sub("", seen).split("\n")
        is_whole = all(line[:1] in ("", "+", " ") for line in lines)
        yield "\n".join(line[1:] if is_whole or line[:1] == "+" else line for line in lines)


def _seen(text: str) -> str:
    """A text as a reader sees it: without unseen characters and HTML's entities, with plain spaces."""
    seen = _SPACE.sub(" ", _UNSEEN.sub("", text))
    return html.unescape(seen).replace("\xa0", " ") if _ENTITY.search(seen) else seen


def _without_numbers(text: str, separator: str) -> str:
    """The numbered lines with which a text begins, without their numbers and what stands behind these."""
    number = re.compile(
        rf"[ \t]*\d{{1,4}}(?:{re.escape(separator)}|{re.escape(separator.rstrip())}$)"
    )
    kept: list[str] = []
    for line in text.split("\n"):
        found = number.match(line)
        if found is None and line.strip():
            break
        kept.append(line[found.end() :] if found else line)
    return "\n".join(kept)


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
