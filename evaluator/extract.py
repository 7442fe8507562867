"""Finds the program in the text of a completion."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from dataclasses import dataclass

MAX_CODE_CHARS = 64_000
"""A longer program is refused: MBPP answers have hundreds, and parsing must stay cheap."""

_MAX_FENCE_CHARS = 200
"""A longer line is no fence; without a bound the pattern takes quadratic time on spaces."""

_MAX_BLOCKS = 200
"""Later blocks are not looked at: no answer has so many."""

_FENCE = re.compile(r"[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)")
_CODE_START = re.compile(r"(async[ \t]+def|def|class|import|from|@)\b|@")
_CODE_LINE = re.compile(
    r"[ \t]|#|@|[)\]}]|\"{3}|'{3}"
    r"|(async|await|def|class|import|from|if|elif|else|for|while|try|except|finally|with|return"
    r"|assert|print|raise|pass|del|global|match|case)\b"
    r"|[A-Za-z_][\w.]*(\[[^\]]*\])?[ \t]*([-+*/%|&^]|//|\*\*|<<|>>)?=|[A-Za-z_][\w.]*\("
)
"""How a line of Python at the left margin can begin; prose hardly ever does."""


@dataclass(frozen=True)
class Extraction:
    """The program found in a completion, or why there is none."""

    code: str | None
    reason: str | None
    """Why there is no code, e.g. `empty completion`; None where there is."""
    n_blocks: int
    """Fenced blocks seen."""
    closed: bool = True
    """False where the program's block has no closing fence."""


@dataclass(frozen=True)
class _Block:
    """One fenced block."""

    code: str
    closed: bool


def extract(completion: str, callables: tuple[str, ...]) -> Extraction:
    """Return the program in a completion: the first block that defines the tested function.

    Without a fence it is the part of the text that reads as code. Where nothing defines the tested
    function it is the longest block, so that the sandbox can say what is missing. Never raises;
    takes time linear in the length of the completion.

    Args:
        completion: text from a model, of any length and content.
        callables: names that the program must define, the tested function first.
    """
    text = completion.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        return Extraction(None, "empty completion", 0)
    blocks = _fenced_blocks(text, callables)
    if blocks:
        chosen = _choose(blocks, callables)
    else:
        chosen = _Block(_bare_code(text), closed=True)
    reason = _refusal(chosen.code, fenced=bool(blocks))
    if reason is not None:
        return Extraction(None, reason, len(blocks), chosen.closed)
    return Extraction(chosen.code, None, len(blocks), chosen.closed)


def is_complete(completion: str, callables: tuple[str, ...]) -> bool:
    """Whether a closed block defines the tested function: more text cannot change the program."""
    if "```" not in completion and "~~~" not in completion:
        return False
    blocks = _fenced_blocks(completion.replace("\r\n", "\n"), callables)
    return any(block.closed and _defines(block.code, callables[:1]) for block in blocks)


def parse(code: str) -> ast.Module | None:
    """Return the syntax tree of untrusted code, or None where it is no Python."""
    if len(code) > MAX_CODE_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in an answer must not print a warning here
            return ast.parse(code)
    # NUL bytes and surrogates are ValueError; deep nesting is RecursionError or MemoryError.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _fenced_blocks(text: str, callables: tuple[str, ...]) -> list[_Block]:
    """All fenced blocks, in order; the last may lack its closing fence."""
    blocks: list[_Block] = []
    opening: str | None = None
    lines: list[str] = []
    before: list[str] = []
    for line in text.split("\n"):
        if len(blocks) == _MAX_BLOCKS:
            return blocks
        fence = _FENCE.fullmatch(line) if len(line) <= _MAX_FENCE_CHARS else None
        if opening is None:
            if fence is None:
                before.append(line)
            elif not blocks and not fence["info"].strip() and _defines_in(before, callables):
                # The prompt opened the block, or the model forgot to: this is its end.
                blocks.append(_Block("\n".join(before), closed=True))
                before = []
            else:
                opening = fence["marks"]
        elif fence and fence["marks"].startswith(opening) and not fence["info"].strip():
            blocks.append(_Block(_dedented(lines), closed=True))
            opening, lines = None, []
        else:
            lines.append(line)
    if opening is not None and (any(line.strip() for line in lines) or not blocks):
        blocks.append(_Block(_dedented(lines), closed=False))
    return blocks


def _dedented(lines: list[str]) -> str:
    """Lines of a block without their common margin: a fence can stand inside a list."""
    code = "\n".join(lines)
    return textwrap.dedent(code) if lines and lines[0][:1] in (" ", "\t") else code


def _choose(blocks: list[_Block], callables: tuple[str, ...]) -> _Block:
    """The first block that defines the tested function, else the longest."""
    for block in blocks:
        if _defines(block.code, callables[:1]):
            return block
    return max(blocks, key=lambda block: len(block.code.strip()))


def _defines(code: str, names: tuple[str, ...]) -> bool:
    """Whether the text holds a definition at the left margin of each name, by its look."""
    return all(
        re.search(
            rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{re.escape(name)}\b|^{re.escape(name)}[ \t]*=[^=]",
            code,
            re.MULTILINE,
        )
        for name in names
    )


def _defines_in(lines: list[str], callables: tuple[str, ...]) -> bool:
    """Whether lines outside any fence define the tested function."""
    return bool(callables) and _defines("\n".join(lines), callables[:1])


def _bare_code(text: str) -> str:
    """The part of an unfenced text that reads as code; empty where there is none."""
    if parse(text) is not None and _has_definition(text):
        return text
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _CODE_START.match(line)), None)
    if start is None:
        return ""
    kept: list[str] = []
    for line in lines[start:]:
        if line.strip() and not _CODE_LINE.match(line):
            break
        kept.append(line)
    code = "\n".join(kept)
    return code if _has_definition(code) else ""


def _has_definition(code: str) -> bool:
    """Whether a line at the left margin defines something: plain prose can parse as Python."""
    return bool(
        re.search(r"^(?:(?:async[ \t]+)?def|class)[ \t]+\w|^\w+[ \t]*=[^=]", code, re.MULTILINE)
    )


def _refusal(code: str, *, fenced: bool) -> str | None:
    """Why a text is not taken as a program; None where it is."""
    if not code.strip():
        return "empty code block" if fenced else "no code in the text"
    if len(code) > MAX_CODE_CHARS:
        return f"program longer than {MAX_CODE_CHARS} characters"
    try:
        code.encode()
    except UnicodeEncodeError:
        return "program holds characters that are not Unicode text"
    return None
