"""Finds the answer in a completion: the text without thinking and without chat tokens.

Thinking stands between tags, `<think>` and its kin, or in a channel of its own. A closing tag whose opening one stood
in the prompt ends thinking that began with the text; one without an end lasts to the text's end; nested ones end with
the outermost. A tag or token inside quotes that close on its line is a mention, and so is an opening tag in a comment
or in the middle of a fenced block's line: an answer may handle such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAMES = (
    r"(?:[a-z]{1,12}[:_-](?:of_)?|ant|re|in(?:ner|ternal)[ ])?"
    r"(?:think|thought|reasoning|scratch_?pad)\w{0,20}(?::\w{1,20})?"
)
_SECTIONS = (
    r"(?:in(?:ner|ternal)_|self_)?(?:analysis|reflection|reason|monologue|rationale|cot|plan|planning|draft|internal"
    r"|notes|brainstorm(?:ing)?|critique|review|verification|思考(?:过程)?)"
)
"""Names of thinking that are ordinary words too: they count only as the first of a line, and end what they began."""

_MAX_MARKS = 20_000
"""A text with more tags and tokens is no answer: it is read up to there, so that time stays small."""

_MAX_LINE_CHARS = 4_000
"""On a longer line quotes are not looked for."""

_CHANNELS = ("analysis", "commentary", "thought", "final")
"""What stands behind the token of a channel and says which."""

_THINKS = r"(?:think|thought|reasoning)"
_MARK = re.compile(
    rf"""
    (?=\\?(?:<[^<]{{1,120}}>|&lt;) | <<SYS | <</SYS | ◁ | \[/?[a-z]{{3,9}}\] | \.\.\.done) (?:  # most are none
      (?P<open>  \\?(?:<|&lt;)\s?{_NAMES}(?:\s+\w+=[^<>\n]{{0,80}})?\s?\\?(?:>|&gt;) | ◁{_NAMES}▷ | \[THINK(?:ING)?\]
               | <[|｜](?!/|end|stop|close)(?:[\w▁]{{1,12}}[_▁])?{_THINKS}\w{{0,20}}(?<!_end)[|｜]> | <\|inner_prefix\|>
               | <\|im_start\|>think(?:ing)?\b
               | <\|channel\|>(?:analysis|commentary)(?:[^<>\n]{{0,80}}<\|message\|>)?
               | (?:<\|channel>|<unused94>)thought\b)
    | (?P<close> \\?(?:<|&lt;)\s?/\s?{_NAMES}\s?\\?(?:>|&gt;) | ◁/{_NAMES}▷ | \[/THINK(?:ING)?\]
               | <(?:/[|｜]|[|｜](?:/|end[_▁]?|stop_?|close_?))[\w▁]{{0,4}}{_THINKS}\w{{0,20}}[|｜]>
               | <\|{_THINKS}\w{{0,12}}_end\|> | <\|inner_suffix\|> | <channel\|> | <unused95>
               | <\|im_start\|>answer\b | \.\.\.done\ thinking\.)
    | (?P<empty> <{_NAMES}\s?/>)
    | (?P<section> <{_SECTIONS}>)
    | (?P<section_end> </{_SECTIONS}>)
    | (?P<final> <\|channel\|>final(?:<\|message\|>)?)
    | (?P<end>   <\|(?:im_end|endoftext|eot_id|eot|end_of_text|end|return)\|> | </s> | <eos>
               | <end_of_turn> | <｜end▁of▁sentence｜>)
    | (?P<token> <\|(?:im_start|start_header_id|start)\|>(?:assistant|user|system)? | <start_of_turn>(?:model|user)?
               | <\|[^|<>\n]{{1,40}}\|> | <｜[^｜<>\n]{{1,40}}｜> | <s> | <[bp]os> | <pad>
               | <fim[-_]\w{{1,20}}> | \[/?INST\] | <</?SYS>> | \[gMASK\] | <[se]op>
               | </?(?:answer|solution|code|pre|python|response|result|final|output)(?:\s\w+="[^"<>\n]{{0,60}}")*>)
    | (?P<word>  \[/?(?:BEGIN|DONE|END|PYTHON|CODE|ANSWER|SOLUTION)\])
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FENCE_LINE = re.compile(r"^[^\n`]{0,200}(?:```+|~~~+)[ \t]*([^\s<]?)", re.MULTILINE)
_QUOTE = re.compile(r"\\.|`{3,}|[\"'`]")
_STRING_PREFIX = re.compile(r"(?<!\w)[rbfu]{1,2}\Z", re.IGNORECASE)


@dataclass(frozen=True)
class AnswerText:
    """The answer in a completion."""

    turns: tuple[str, ...]
    """Its text, split where a token or `[DONE]` ends the model's turn; chat tokens and marks are line breaks."""
    thinking_open: bool
    """Whether thinking has begun that does not end: nothing after it is an answer."""


@dataclass(frozen=True)
class _Mark:
    """One tag or token in a text, by the name of its group in the pattern."""

    kind: str
    start: int
    end: int


def answer_text(completion: str) -> AnswerText:
    """Return a completion's answer; takes time linear in its length."""
    marks = list(_marks(completion))
    spans, is_open = _thinking(completion, marks)
    turns: list[str] = []
    parts: list[str] = []
    at = 0
    for mark in _merged(completion, marks, spans):
        parts.append(completion[at : mark.start])
        at = mark.end
        if mark.kind == "end":
            turns.append("".join(parts))
            parts = []
        else:
            parts.append("\n")
    parts.append(completion[at:])
    turns.append("".join(parts))
    return AnswerText(tuple(turn for turn in turns if turn.strip()), is_open)


def without_thinking(text: str) -> str:
    """Return a text without its thinking and the white space after it; the rest stays as it is."""
    spans, _ = _thinking(text, list(_marks(text)))
    parts: list[str] = []
    at = 0
    for start, end in spans:
        parts.append(text[at:start])
        at = end
        while at < len(text) and text[at].isspace():
            at += 1
    return "".join([*parts, text[at:]])


def opened_by(prompt: str | None) -> str:
    """Return the tag with which a prompt ends, so that its completion begins as thinking; or nothing."""
    end = (prompt or "").rstrip()[-100:]
    marks = [mark for mark in _MARK.finditer(end) if mark.lastgroup in ("open", "section")]
    return marks[-1][0] if marks and marks[-1].end() == len(end) else ""


def begins_or_ends_thinking(token: str) -> bool:
    """Whether a token is a tag of thinking, alone or with the name of a channel behind it."""
    named = (_MARK.match(f"{token}{name}") for name in ("", *_CHANNELS))
    return any(
        found is not None
        and found.end() >= len(token)
        and found.lastgroup not in ("end", "token", "word")
        for found in named
    )


def _marks(text: str) -> Iterator[_Mark]:
    """The marks that stand in no quotes."""
    line_start = line_end = -1
    quoted: Iterator[tuple[int, int]] = iter(())
    quotation: tuple[int, int] | None = None
    fences = _Fences(text)
    mentioned_to = -1  # end of the line with a tag that is a mention
    for n, found in enumerate(_MARK.finditer(text)):
        if n == _MAX_MARKS:
            yield _Mark("open", found.start(), len(text))
            return
        if found.start() > line_end:
            line_start = text.rfind("\n", max(line_end, 0), found.start()) + 1
            line_end = text.find("\n", found.end())
            line_end = len(text) if line_end < 0 else line_end
            quoted = _quotations(text, line_start, line_end)
            quotation = next(quoted, None)
        while quotation is not None and quotation[1] <= found.start():
            quotation = next(quoted, None)
        if quotation is not None and found.start() >= quotation[0]:
            continue
        kind = found.lastgroup or ""
        before = text[max(line_start, found.start() - _MAX_LINE_CHARS) : found.start()]
        if kind == "open" and _is_in_code(before, inside=fences.is_open_at(line_start)):
            mentioned_to = line_end
        elif kind in ("section", "section_end") and before.strip():
            continue
        elif not (kind == "close" and found.start() < mentioned_to):
            yield _Mark(kind, *found.span())


class _Fences:
    """Whether a fenced block is open, asked from the text's beginning to its end."""

    def __init__(self, text: str) -> None:
        self._lines = _FENCE_LINE.finditer(text)
        self._next = next(self._lines, None)
        self._is_open = False

    def is_open_at(self, at: int) -> bool:
        """Whether a block is open where a line begins."""
        while self._next is not None and self._next.start() < at:
            self._is_open = not (self._is_open and not self._next[1])
            self._next = next(self._lines, None)
        return self._is_open


def _is_in_code(before: str, *, inside: bool) -> bool:
    """Whether a tag behind that part of its line is one of which code speaks."""
    comment = before.find("#")
    return (inside and bool(before.strip(" \t`~>"))) or (
        comment >= 0 and bool(before[comment:].strip("# \t"))
    )


def _quotations(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of a line that stand in quotes which close on it."""
    if end - start > _MAX_LINE_CHARS:
        return
    quote, opened = "", 0
    marks = [found for found in _QUOTE.finditer(text, start, end) if len(found[0]) == 1]
    last = {found[0]: found.start() for found in marks}
    for found in marks:
        if found[0] == quote:
            if quote != "'" or not _is_apostrophe(text, found.start()):
                yield opened, found.end()
                quote = ""
        elif not quote and last[found[0]] > found.start() and _opens_quote(text, found.start()):
            quote, opened = found[0], found.start()


def _opens_quote(text: str, at: int) -> bool:
    """Whether a quotation mark can open a quotation: it is no apostrophe."""
    before = text[max(0, at - 3) : at]
    return not (before[-1:].isalnum() or before[-1:] == "_") or bool(_STRING_PREFIX.search(before))


def _is_apostrophe(text: str, at: int) -> bool:
    """Whether a quotation mark stands between two letters, as in `don't`."""
    return text[at - 1 : at].isalpha() and text[at + 1 : at + 2].isalpha()


def _thinking(text: str, marks: list[_Mark]) -> tuple[list[tuple[int, int]], bool]:
    """Spans of thinking, in order, and whether the last has no end."""
    spans: list[tuple[int, int]] = []
    depth = start = 0
    opened = -1  # end of the opening tag before
    in_section = False
    for mark in marks:
        if mark.kind == "section" and depth == 0:
            start, depth, in_section = mark.start, 1, True
        elif mark.kind == "section_end" and depth == 1 and in_section:
            spans.append((start, mark.end))
            depth, in_section = 0, False
        elif mark.kind == "open":
            # Two opening tags with nothing between are one: the template's, and the model's own.
            if depth == 0 or text[opened : mark.start].strip():
                start = mark.start if depth == 0 else start
                depth += 1
            opened = mark.end
        elif mark.kind == "final":
            spans, depth = [(0, mark.end)], 0
        elif mark.kind == "close" and depth > 1:
            depth -= 1
        elif mark.kind == "close" and depth == 0 and _is_again(text, spans, mark):
            spans[-1] = (spans[-1][0], mark.end)
        elif mark.kind == "close" or (mark.kind == "empty" and depth):
            if depth == 0:
                spans, start = [], 0  # its opening tag stood before the text
            spans.append((start, mark.end))
            depth, in_section = 0, False
    if depth:
        spans.append((start, len(text)))
    return spans, depth > 0


def _is_again(text: str, spans: list[tuple[int, int]], mark: _Mark) -> bool:
    """Whether a closing tag follows another one with nothing between: the two are one."""
    return bool(spans) and not text[spans[-1][1] : mark.start].strip()


def _merged(text: str, marks: list[_Mark], spans: list[tuple[int, int]]) -> list[_Mark]:
    """Spans of thinking, and the marks outside of them that are to be cut from the answer."""
    cut = [_Mark("thinking", start, end) for start, end in spans]
    markers: dict[str, bool] = {}
    at = 0
    for mark in marks:
        while at < len(spans) and spans[at][1] <= mark.start:
            at += 1
        if at < len(spans) and spans[at][0] <= mark.start:
            continue
        if mark.kind == "word":
            word = text[mark.start + 1 : mark.end - 1].removeprefix("/")
            if word not in markers:
                markers[word] = _is_marker(text, word)
            if markers[word]:
                # what follows an answer's [DONE] is another problem's
                is_end = text[mark.start : mark.end].upper() == "[DONE]"
                cut.append(_Mark("end", mark.start, mark.end) if is_end else mark)
        elif mark.kind in ("end", "token", "empty"):
            cut.append(mark)
    return sorted(cut, key=lambda mark: mark.start)


def _is_marker(text: str, word: str) -> bool:
    """Whether `[DONE]` is a mark: where a program uses the name DONE, it is an index or a list."""
    return word.isupper() and text.count(word) == text.count(f"[{word}]") + text.count(f"[/{word}]")
