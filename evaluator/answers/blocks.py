"""Splits a text into fenced blocks and the text between them.

CommonMark's fences, read generously: one can stand after text, a bullet or a quotation's mark, have code on
its line, and be closed by one of another length, glued to code or followed by prose. Backticks that stand
outside of a string are no Python and end a block; inside a triple-quoted string they are part of the code.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from evaluator.answers.bare_code import reads_as_code, without_margin
from evaluator.answers.definition import parse

MAX_BLOCKS = 400
"""Later blocks are not looked at: no answer has so many."""

_MAX_SECOND_LOOKS = 10
"""How often a block may be read again from an earlier fence, so that time stays linear."""

_MAX_LINE_CHARS = 4_000
"""Of a longer line, or of what is left of it, the end is not looked at."""

_MAX_MARKED_LINES = 20_000
"""Lines with marks beyond that are not looked at."""

_MARKED_LINE = re.compile(r"^.*(?:```|~~~|\"\"\"|''').*$", re.MULTILINE)
_MARK = re.compile(r"`{3,}|~{3,}")
_TOKEN = re.compile(r"\\.|\"{3}|'{3}|[\"'#]|`{3,}|~{3,}")
_PREFIX = re.compile(r"[ \t]*(?:>[ \t]?)*[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(?:>[ \t]?)*")
_QUOTED = re.compile(r"[ \t]*>[ \t]?")
_INFO = re.compile(
    r"\{?[ \t]*\.?(?:lang(?:uage)?[-=])?(?P<language>[A-Za-z][\w+#]*)(?P<more>[:,{]\S*|=\d*)?(?P<rest>(?:\s.*)?)"
)
_ATTRIBUTES = re.compile(r"(?:\{[^}]*\}|\w+=(?:\"[^\"]*\"|'[^']*'|[^\s\"'(:]+))(?:[ \t]+|\}|$)")
_PYTHON = frozenset("python py python3 py3 python2 ipython ipython3 pycon sage".split())
_CONTAINERS = frozenset("markdown md mdx".split())
_LANGUAGES = (
    _PYTHON
    | _CONTAINERS
    | frozenset(
        "bash sh shell console zsh powershell text txt plaintext plain output json yaml toml xml html css java"
        " javascript js typescript ts c cpp c++ csharp c# go rust ruby r php sql diff none code pseudocode"
        " latex math scala kotlin swift perl lua matlab haskell julia".split()
    )
)
_LANGUAGE_LINE = re.compile(r"\s*(?:python|py)[23]?(?:[ \t]code)?:?[ \t]*\n", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """One part of a text."""

    text: str
    """Of a fenced block what stands between its fences, without margin."""
    fenced: bool
    closed: bool = True
    """False where a fenced block has no closing fence."""
    mixed: bool = False
    """Whether prose can stand beside the code: outside of fences, and where one is missing."""


@dataclass(frozen=True)
class _Fence:
    """A fence where none is open."""

    prefix: str
    """What stands before it on its line."""
    start: int
    end: int
    language: str
    """As its line says, in lower case."""
    code: str
    """Code on its line."""
    bare: bool
    """Whether nothing follows it on its line."""
    one_line: bool = False
    """Whether the block ends on the line that it begins on."""


@dataclass(frozen=True)
class _End:
    """Where a block ends."""

    code_end: int
    next: int
    """Where the text goes on."""
    closed: bool = True


def split_blocks(text: str, is_program: Callable[[str], bool]) -> list[Block]:
    """Return a text's parts in order, without blank ones; takes time linear in its length.

    Args:
        text: the answer in a completion.
        is_program: whether the text before a first fence is a program, which the fence then ends: the opening
            one stood in the prompt, or was forgotten.
    """
    return list(_Reader(text).blocks(is_program))


class _Reader:
    """Reads a text from fence to fence."""

    def __init__(self, text: str) -> None:
        self._text = text
        has_fence = "```" in text or "~~~" in text
        marked = islice(_MARKED_LINE.finditer(text), _MAX_MARKED_LINES if has_fence else 0)
        self._lines = [found.span() for found in marked]
        self._line_ends = [end for _, end in self._lines]
        self._n_second_looks = 0

    def blocks(self, is_program: Callable[[str], bool]) -> Iterator[Block]:
        """Yield the parts in order."""
        text, at, n_fenced = self._text, 0, 0
        while n_fenced < MAX_BLOCKS and (fence := self._fence(at)) is not None:
            before = text[
                at : fence.start - (0 if fence.prefix.strip(" \t>") else len(fence.prefix))
            ]
            if fence.bare and not n_fenced and is_program(before):
                yield Block(before, fenced=True, mixed=True)
                n_fenced, at = n_fenced + 1, fence.end
                continue
            if before.strip():
                yield Block(before, fenced=False, mixed=True)
            if fence.one_line:
                yield Block(fence.code, fenced=True)
                n_fenced, at = n_fenced + 1, fence.end
            elif fence.language in _CONTAINERS:
                at = fence.end
            else:
                end = self._block_end(fence)
                code = _cleaned(text[fence.end : end.code_end], fence)
                if end.closed or code.strip() or not n_fenced:
                    yield Block(code, fenced=True, closed=end.closed, mixed=not end.closed)
                    n_fenced += 1
                at = end.next
        if text[at:].strip():
            yield Block(text[at:], fenced=False, mixed=True)

    def _marked_lines(self, at: int) -> Iterator[tuple[int, int]]:
        """Spans of the lines from a place on that hold a mark; the first may lack its beginning."""
        for index in range(bisect.bisect_left(self._line_ends, at), len(self._lines)):
            start, end = self._lines[index]
            start = max(start, at)
            yield start, min(end, start + _MAX_LINE_CHARS)

    def _fence(self, at: int) -> _Fence | None:
        """The next opening fence; code in the middle of a sentence is none."""
        for start, end in self._marked_lines(at):
            line_at = start
            while (mark := _MARK.search(self._text, line_at, end)) is not None:
                inner = _MARK.search(self._text, mark.end(), end) if mark[0][0] == "`" else None
                prefix = self._text[start : mark.start()]
                rest = self._text[mark.end() : inner.start() if inner else end]
                fence = _read_fence(prefix, mark, rest, closing=inner)
                if fence is not None:
                    return fence
                line_at = (inner or mark).end()
        return None

    def _block_end(self, fence: _Fence) -> _End:
        """Where the block of an opening fence ends.

        Marks inside a triple-quoted string do not end it, unless what ends behind them is no Python: then
        the string has no end, and the first of them does.
        """
        text, quote = self._text, ""
        if fence.code:
            quote = _marks_in(fence.code, "")[1]
        in_string: _End | None = None
        for start, end in self._marked_lines(fence.end):
            marks, quote = _marks_in(text[start:end], quote)
            for mark, is_inside in marks:
                found = _read_end(text, fence, start, start + mark.start(), start + mark.end(), end)
                if found is None:
                    continue
                if is_inside and self._n_second_looks < _MAX_SECOND_LOOKS:
                    if in_string is None and not _is_deeper(
                        text[start : start + mark.start()], fence
                    ):
                        in_string = found
                    continue
                if in_string is None or self._is_python(fence, found):
                    return found
                return in_string
        return in_string or _End(len(text), len(text), closed=False)

    def _is_python(self, fence: _Fence, end: _End) -> bool:
        """Whether a block with marks inside its strings is a program."""
        self._n_second_looks += 1
        return parse(_cleaned(self._text[fence.end : end.code_end], fence)) is not None


def _read_fence(
    prefix: str, mark: re.Match[str], rest: str, *, closing: re.Match[str] | None
) -> _Fence | None:
    """The opening fence that a mark is, if it is one; `closing` is the next mark on its line."""
    structural = _PREFIX.fullmatch(prefix) is not None
    if "~" in mark[0] and not structural:
        return None
    language, code = _read_info(rest)
    if closing is not None:
        if not code:
            return None  # code in the middle of a sentence
        return _Fence(
            prefix, mark.start(), closing.end(), language, code, bare=False, one_line=True
        )
    bare = not rest.strip()
    if not (structural or bare or language or code):
        return None
    return _Fence(prefix, mark.start(), mark.end() + len(rest), language, code, bare)


def _read_info(rest: str) -> tuple[str, str]:
    """The language and the code on the line of an opening fence; each can be empty."""
    rest = rest.strip()
    info = _INFO.fullmatch(rest)
    if info is None or info["language"].lower() not in _LANGUAGES:
        return "", rest if rest and reads_as_code(rest) else ""
    code = info["rest"].strip()
    while code and (attribute := _ATTRIBUTES.match(code)) is not None:
        code = code[attribute.end() :]
    return info["language"].lower(), code if code and reads_as_code(code) else ""


def _marks_in(line: str, quote: str) -> tuple[list[tuple[re.Match[str], bool]], str]:
    """Fence marks of a line of Python, whether each is inside a triple-quoted string, and what is open after it.

    Marks in a string of one line, or in a comment that goes on behind them, are left out.
    """
    marks: list[tuple[re.Match[str], bool]] = []
    hidden: list[tuple[re.Match[str], bool]] = []  # in a string that may not close on this line
    single = ""
    for found in _TOKEN.finditer(line):
        piece = found[0]
        if piece[0] in "`~":
            (hidden if single else marks).append((found, bool(quote)))
        elif quote:
            quote = "" if piece == quote else quote
        elif single:
            if piece == single:
                single, hidden = "", []
        elif piece == "#":
            at_end = _MARK.search(line, found.end())
            if at_end is not None and not line[at_end.end() :].strip():
                marks.append((at_end, False))
            break
        elif piece[0] in "\"'":
            quote, single = (piece, "") if len(piece) == 3 else ("", piece)
    return marks + hidden, quote


def _read_end(
    text: str, fence: _Fence, line_start: int, start: int, end: int, line_end: int
) -> _End | None:
    """The end of a block that a mark is, if it is one."""
    before = text[line_start:start]
    own_line = _PREFIX.fullmatch(before) is not None
    language, _ = _read_info(text[end:line_end])
    if text[start] == "~" and (not own_line or (text[end:line_end].strip() and not language)):
        return None
    opens = own_line and language != ""
    return _End(line_start if own_line else start, line_start if opens else end, closed=not opens)


def _is_deeper(before: str, fence: _Fence) -> bool:
    """Whether a mark is indented four columns deeper than its opening one: then CommonMark lets it stand."""
    width = len(before.expandtabs(4))
    return bool(before.strip(" \t>")) or width >= len(fence.prefix.expandtabs(4)) + 4


def _cleaned(text: str, fence: _Fence) -> str:
    """The code between two fences: without margin, quotation's marks and its language's name."""
    lines = text.removeprefix("\n").removesuffix("\n").split("\n")
    for _ in range(min(fence.prefix.count(">"), 8)):
        lines = [
            _QUOTED.sub("", line, count=1) if line.lstrip()[:1] == ">" else line for line in lines
        ]
    first = next((line for line in lines if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip(" \t"))]
    if fence.code:
        margin = " " * len(fence.prefix) if not fence.prefix.strip(" \t-*+>") else ""
        lines = [fence.code, *(without_margin(line, margin) for line in lines)]
    elif margin:
        lines = [without_margin(line, margin) for line in lines]
    code = "\n".join(lines).lstrip("\ufeff")
    named = _LANGUAGE_LINE.match(code)
    return code[named.end() :] if named else code
