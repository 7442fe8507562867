"""What of a completion is its answer: without what the model thought, and without chat tokens.

Thinking stands between tags, `<think>` and its kin. A closing tag whose opening one stood in the prompt ends
thinking that began with the text; one without an end lasts to the text's end; nested ones end with the
outermost. A tag or token inside quotes that close on its line is a mention: an answer may handle such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning|scratchpad)"
_SCAN = re.compile(
    rf"""
      (?P<open>  <\ ?{_NAMES}(?:\s+\w+=[^<>\n]{{0,80}})?\ ?> | ◁{_NAMES}▷ | \[THINK\]
               | <\|begin_of_(?:thought|thinking)\|> | <\|channel\|>analysis(?:<\|message\|>)?)
    | (?P<close> <\ ?/\ ?{_NAMES}\ ?> | ◁/{_NAMES}▷ | \[/THINK\] | <\|end_of_(?:thought|thinking)\|>)
    | (?P<final> <\|channel\|>final(?:<\|message\|>)?)
    | (?P<end>   <\|(?:im_end|endoftext|eot_id|eot|end_of_text|end|return)\|> | </s> | <eos>
               | <end_of_turn> | <｜end▁of▁sentence｜>)
    | (?P<token> <\|[^|<>\n]{{1,40}}\|> | <｜[^｜<>\n]{{1,40}}｜> | <s> | <[bp]os> | <pad> | <start_of_turn>
               | <fim[-_]\w{{1,20}}> | \[/?INST\] | <</?SYS>> | \[gMASK\] | <[se]op>
               | </?(?:answer|solution|code|pre|python|response|result|final|output)>)
    | (?P<word>  \[/?(?:BEGIN|DONE|END|PYTHON|CODE|ANSWER|SOLUTION)\])
    | (?P<fence> `{{3,}})
    | (?P<escape> \\.)
    | (?P<quote> ["'`])
    | (?P<line>  \n)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_STRING_PREFIX = re.compile(r"(?<!\w)[rbfu]{1,2}\Z", re.IGNORECASE)


@dataclass(frozen=True)
class AnswerText:
    """The answer in a completion."""

    turns: tuple[str, ...]
    """Its text, split where a token ends the model's turn; chat tokens and marks are line breaks."""
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


def thinking_is_open(text: str) -> bool:
    """Whether a text, such as a prompt, ends inside of thinking."""
    return _thinking(text, list(_marks(text)))[1]


def _marks(text: str) -> Iterator[_Mark]:
    """The marks that stand in no quotes."""
    quote = ""
    inside: list[_Mark] = []  # marks since the quote; they count if it does not close on its line
    for found in _SCAN.finditer(text):
        kind = found.lastgroup or ""
        if kind == "line":
            yield from inside
            quote, inside = "", []
        elif kind == "quote":
            if quote == found[0]:
                quote, inside = "", []
            elif not quote and _opens_quote(text, found.start()):
                quote = found[0]
        elif kind not in ("fence", "escape"):
            mark = _Mark(kind, *found.span())
            if quote:
                inside.append(mark)
            else:
                yield mark
    yield from inside


def _opens_quote(text: str, at: int) -> bool:
    """Whether a quotation mark can open a quotation: it is no apostrophe."""
    before = text[max(0, at - 3) : at]
    return not (before[-1:].isalnum() or before[-1:] == "_") or bool(_STRING_PREFIX.search(before))


def _thinking(text: str, marks: list[_Mark]) -> tuple[list[tuple[int, int]], bool]:
    """Spans of thinking, in order, and whether the last has no end."""
    spans: list[tuple[int, int]] = []
    depth = start = 0
    opened = -1  # end of the opening tag before
    for mark in marks:
        if mark.kind == "open":
            # Two opening tags with nothing between are one: the template's, and the model's own.
            if depth == 0 or text[opened : mark.start].strip():
                start = mark.start if depth == 0 else start
                depth += 1
            opened = mark.end
        elif mark.kind == "final":
            spans, depth = [(0, mark.end)], 0
        elif mark.kind == "close" and depth > 1:
            depth -= 1
        elif mark.kind == "close":
            if depth == 0:
                spans, start = [], 0  # its opening tag stood before the text
            spans.append((start, mark.end))
            depth = 0
    if depth:
        spans.append((start, len(text)))
    return spans, depth > 0


def _merged(text: str, marks: list[_Mark], spans: list[tuple[int, int]]) -> list[_Mark]:
    """Spans of thinking, and the marks outside of them that are to be cut from the answer."""
    cut = [_Mark("thinking", start, end) for start, end in spans]
    at = 0
    for mark in marks:
        while at < len(spans) and spans[at][1] <= mark.start:
            at += 1
        if at < len(spans) and spans[at][0] <= mark.start:
            continue
        if mark.kind in ("end", "token") or (mark.kind == "word" and _is_marker(text, mark)):
            cut.append(mark)
    return sorted(cut, key=lambda mark: mark.start)


def _is_marker(text: str, mark: _Mark) -> bool:
    """Whether `[DONE]` is a mark: where a program uses the name DONE, it is an index or a list."""
    word = text[mark.start : mark.end].strip("[]/")
    if not word.isupper():
        return False
    return text.count(word) == text.count(f"[{word}]") + text.count(f"[/{word}]")
