"""Tells code from prose, line by line, in a text without fences."""

from __future__ import annotations

import re
from collections.abc import Iterator

from evaluator.answers.definition import MAX_CODE_CHARS, parse

_MAX_EXAMINED_CHARS = 2 * MAX_CODE_CHARS
_MAX_RUNS = 400
_MAX_RUN_LINES = 5_000
"""Code-like text, runs and lines of a run beyond that are not looked at: time must stay small for any text."""

_MAX_LINE_CHARS = 300
"""Of a line, only its beginning tells what it is."""

_MAY_BE_CODE = re.compile(
    r"^[ \t]*(?:@\w|\"{3}|'{3}|#|[A-Za-z_*(][\w.,* \t]{0,80}(?:[-(\[{=:+*/%&|^<>~\"']|[ \t]*$)|(?:from|import)\b)",
    re.MULTILINE,
)
"""A first look, many lines at once; `reads_as_code` decides."""

_KEYWORDS = (
    "and as assert async await break class continue def del elif else except finally for from global if import"
    " in is lambda nonlocal not or pass raise return try while with yield match case type print exec"
).split()
_DEFINITION = re.compile(
    r"(?:(?:async[ \t]+)?def[ \t]+\w+[ \t]*(?:[(\[:\\]|$)|class[ \t]+\w+[ \t]*[:(\[]|@[A-Za-z_][\w.]*[ \t]*(?:[(#]|$))"
)
_IMPORT = re.compile(
    r"import[ \t]+[\w.]+(?:[ \t]+as[ \t]+\w+)?(?:[ \t]*,[ \t]*[\w.]+(?:[ \t]+as[ \t]+\w+)?)*[ \t]*(?:[#;]|$)"
    r"|from[ \t]+[\w.]+[ \t]+import[ \t]+(?:\*|\(|\\|\w+(?:[ \t]+as[ \t]+\w+)?[ \t]*(?:[,#;]|$))"
)
_COMPOUND = re.compile(
    r"(?:(?:if|elif|while|with|async[ \t]+with|match|case|except)\b|(?:async[ \t]+)?for\b.*\bin\b).*:"
)
_BARE_COMPOUND = re.compile(r"(?:try|else|finally|except)[ \t]*:")
_SIMPLE = re.compile(
    r"(?:return|yield|raise|assert|del|global|nonlocal|await|print|exec)\b|(?:pass|break|continue)[ \t]*(?:[#;]|$)"
    r"|type[ \t]+\w+(?:\[[^\]]*\])?[ \t]*=(?!=)"
)
_ASSIGNMENT = re.compile(
    r"\*?[A-Za-z_][\w.]*(?:\[[^\]]*\])*(?:[ \t]*,[ \t]*\*?[A-Za-z_][\w.]*(?:\[[^\]]*\])*)*[ \t]*,?"
    r"(?:[ \t]*:[^=]*)?[ \t]*(?:[-+*/%@&|^]|//|\*\*|<<|>>)?=(?!=)"
)
_ANNOTATION = re.compile(
    r"[A-Za-z_]\w*[ \t]*:[ \t]*(?:int|str|float|bool|bytes|list|dict|set|tuple|object|type|[A-Z]\w+[ \t]*\[)\b"
)
_CALL = re.compile(r"[A-Za-z_][\w.]*(?:\[[^\]]*\])*\(")
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_TWO_WORDS = re.compile(r"(?:\b(?P<left>[A-Za-z_]\w*)|[)\]}\d'])[ \t]+(?P<right>[A-Za-z_]\w*)")
_PROSE_END = re.compile(r"[A-Za-z)\]'][.!?:;,]*[.!?]+[ \t]*$|->|=>|[→…⇒]")
_NEXT_LINE = re.compile(r"(?:\n[ \t]*(?=\n)){0,8}\n([ \t]*)\S")
_TOKEN = re.compile(r"\\.|\"{3}|'{3}|[\"'#()\[\]{}]")


def code_runs(text: str) -> Iterator[str]:
    """Yield the runs of lines that read as code, without their common margin.

    A run goes on while lines are indented deeper than its first, stand in brackets or a docstring, or
    read as code themselves. Where one is no Python, lines of prose at its end are left out.
    """
    n_runs = examined = at = 0
    while n_runs < _MAX_RUNS and examined < _MAX_EXAMINED_CHARS:
        found = _MAY_BE_CODE.search(text, at)
        if found is None:
            return
        line_end = _line_end(text, found.start())
        if not _is_statement(text, found.start(), line_end):
            examined += 20  # a look costs something too
            at = line_end + 1
            if at > len(text):
                return
            continue
        run, at = _run(text, found.start())
        n_runs += 1
        examined += at - found.start()
        code = "\n".join(run)
        if parse(code) is None:
            while run and not (run[-1].strip() and reads_as_code(run[-1])):
                run.pop()
            code = "\n".join(run)
        if code.strip():
            yield code


def leading_lines(text: str) -> str:
    """The lines with which a text begins that are indented, or stand in brackets or a docstring."""
    kept: list[str] = []
    state = _State()
    for line in text[:MAX_CODE_CHARS].split("\n"):
        if line.strip() and line[0] not in " \t" and not state.in_string and state.depth == 0:
            break
        kept.append(line)
        state.read(line)
    return "\n".join(kept)


def _run(text: str, at: int) -> tuple[list[str], int]:
    """Lines of the run that begins at a line's start, and where the text goes on after it."""
    lines: list[str] = []
    margin = ""
    state = _State()
    size = 0
    while at <= len(text) and size < MAX_CODE_CHARS and len(lines) < _MAX_RUN_LINES:
        end = _line_end(text, at)
        line = text[at:end]
        if not lines:
            margin = line[: len(line) - len(line.lstrip(" \t"))]
        if line.strip() and not state.in_string:
            if _DEFINITION.match(line.strip()) or _IMPORT.match(line.strip()):
                state.depth = 0
            beside = line.startswith(margin)
            inside = beside and line[len(margin) : len(margin) + 1] in (" ", "\t")
            goes_on = inside or state.depth > 0 or (beside and _is_statement(text, at, end))
            if not goes_on:
                break
        lines.append(without_margin(line, margin))
        state.read(line)
        size += len(line) + 1
        at = end + 1
    while lines and not lines[-1].strip():
        lines.pop()
    return lines, at


def _is_statement(text: str, at: int, end: int) -> bool:
    """Whether the line in a span reads as code; `if you like:` with nothing indented after it is prose."""
    line = text[at : min(end, at + _MAX_LINE_CHARS)]
    if not reads_as_code(line):
        return False
    if not (line.rstrip().endswith(":") and _COMPOUND.match(line.lstrip())):
        return True
    body = _NEXT_LINE.match(text, end)
    return body is not None and len(body[1]) > len(line) - len(line.lstrip(" \t"))


class _State:
    """Whether the lines read so far leave a triple-quoted string or brackets open."""

    def __init__(self) -> None:
        self.quote = ""
        self.depth = 0

    @property
    def in_string(self) -> bool:
        return bool(self.quote)

    def read(self, line: str) -> None:
        """Take in one line."""
        single = ""
        depth = self.depth
        for found in _TOKEN.finditer(line[:MAX_CODE_CHARS]):
            piece = found[0]
            if self.quote:
                self.quote = "" if piece == self.quote else self.quote
            elif single:
                single = "" if piece == single else single
            elif piece == "#":
                break
            elif len(piece) == 3:
                self.quote = piece
            elif piece in "\"'":
                single = piece
            elif piece in "([{":
                depth += 1
            elif piece in ")]}":
                depth -= 1
        self.depth = max(depth, 0)


def reads_as_code(line: str) -> bool:
    """Whether one line, outside of any string or brackets, reads as Python and not as prose."""
    line = line.strip()[:_MAX_LINE_CHARS]
    if not line or line[0] in "#)]}" or line[:3] in ('"""', "'''"):
        return True
    if _DEFINITION.match(line) or _IMPORT.match(line) or _BARE_COMPOUND.match(line):
        return True
    plain = _STRING.sub("''", line).partition("#")[0].rstrip()
    if _PROSE_END.search(plain) or _has_two_words(plain):
        return False
    return any(
        pattern.match(plain) for pattern in (_COMPOUND, _SIMPLE, _ASSIGNMENT, _ANNOTATION, _CALL)
    )


def without_margin(line: str, margin: str) -> str:
    """Return a line without a margin, or without as much of it as there is."""
    if line.startswith(margin):
        return line[len(margin) :]
    return line.lstrip(" \t") if not line[: len(margin)].strip() else line


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _has_two_words(line: str) -> bool:
    """Whether two names stand side by side, which no Python allows."""
    at = 0
    while (found := _TWO_WORDS.search(line, at)) is not None:
        if found["left"] not in _KEYWORDS and found["right"] not in _KEYWORDS:
            return True
        at = found.start("right")
    return False
