"""Finds the program in the text of a completion.

Every candidate is listed, then one is chosen by these rules, the first that decides:

1. The model's first turn counts, where a chat token ends it; nothing inside of thinking does.
2. A program that parses and defines the tested function stands above one that only names it in a stub or in
   a value that may be no function, that above one that looks as if it did and is no Python.
3. Among equals the last one counts.
4. Where none is whole and the problem begins a function, a candidate that is that function's body counts.
5. Where still none is whole, prose in a closed block is left out, what code can be dressed in is taken off (line
   numbers, the marks of a change, HTML's entities, spaces that Python does not read), and a definition may begin
   in the middle of a line.
6. Where nothing defines the function it is the longest block, so that the sandbox can say what is missing. Where no
   function is asked for, a whole program, the last block that is Python and reads standard input stands above that.

A chosen program that lacks a name gets the statements of other blocks that define it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from evaluator.answers.answer_text import answer_text
from evaluator.answers.bare_code import code_runs, reads_as_code
from evaluator.answers.blocks import Block, split_blocks
from evaluator.answers.definition import (
    MAX_CODE_CHARS,
    Defined,
    any_prose,
    declarations,
    defined,
    looks_defined,
    missing_names,
    parse,
    top_level_names,
)
from evaluator.answers.function_body import completed, returns
from evaluator.answers.unwrapped import (
    in_a_line,
    is_dressed,
    sessions,
    uncited,
    undressed,
    unquoted,
)

__all__ = ["MAX_CODE_CHARS", "Extraction", "extract", "is_complete", "parse"]

_MAX_PARSED_CHARS = 2 * MAX_CODE_CHARS
_MAX_JOINED_CHARS = MAX_CODE_CHARS // 4
"""Candidates beyond that are not parsed, or not joined: time must stay small for any text."""

_MAX_BODIES = 4
"""Earlier blocks are not tried as a function's body."""

_MAX_SECOND_LOOKS = 8
"""Earlier closed blocks are not searched for code amid prose."""

_MAX_TURNS = 8
"""Later turns are not looked at."""

_DEFINITION = re.compile(
    r"^(?:(?:async[ \t]+)?def|class)[ \t]+\w|^\w+[ \t]*(?::[^=\n]*)?=[^=]", re.MULTILINE
)
_IMPORT = re.compile(r"^(?:import|from)[ \t]", re.MULTILINE)
_READS = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\(0|\bos\.read\(0")
"""Ways in which a whole program reads its input."""


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
class _Candidate:
    """A text that may be the program."""

    code: str
    fenced: bool
    closed: bool
    completed: bool = False
    """Whether it is the problem's beginning with a body from the answer."""
    cited: bool = False
    """Whether it was a change or a listing with line numbers: these often show code that is then mended."""


def extract(completion: str, callables: Sequence[str], beginning: str = "") -> Extraction:
    """Return the program in a completion, by the rules above.

    Never raises; takes time linear in the length of the completion.

    Args:
        completion: text from a model, of any length and content.
        callables: names that the program must define, the tested function first.
        beginning: signature and docstring of the tested function, where the problem begins it.
    """
    if not completion.strip():
        return Extraction(None, "empty completion", 0)
    answer = answer_text(_with_lf(completion))
    readings = [_Reading(turn, callables, beginning) for turn in answer.turns[:_MAX_TURNS]]
    if not readings:
        thought = answer.thinking_open
        return Extraction(None, "thinking without an end" if thought else "no code in the text", 0)
    reading = readings[0]
    if len(readings) > 1:
        reading = next((one for one in readings if one.is_likely), reading)
    chosen, n_blocks = reading.chosen, reading.n_blocks
    if chosen is None:
        return Extraction(None, "empty code block" if n_blocks else "no code in the text", n_blocks)
    reason = _refusal(chosen.code)
    code = reading.joined() if reason is None else None
    return Extraction(code, reason, n_blocks, chosen.closed)


def is_complete(completion: str, callables: Sequence[str], lent: Collection[str] = ()) -> bool:
    """Whether the answer holds a whole program in a closed block, so that its sampling can end.

    A change or a listing with line numbers ends nothing: the program often follows, and would count above it. Names
    that are `lent`, by the problem's imports and set-up, the program need not bind.
    """
    if "```" not in completion and "~~~" not in completion:
        return False
    answer = answer_text(_with_lf(completion))
    return any(
        _Reading(turn, callables).has_closed_program(lent) for turn in answer.turns[:_MAX_TURNS]
    )


class _Reading:
    """The candidates in one turn of the answer, and the chosen one."""

    def __init__(self, text: str, callables: Sequence[str], beginning: str = "") -> None:
        self._callables = tuple(callables)
        self._name = callables[0] if callables else ""
        self._budget = _MAX_PARSED_CHARS
        self._trees: dict[str, ast.Module | None] = {}
        blocks = split_blocks(text, lambda before: looks_defined(before, self._name))
        self._text = text
        self.n_blocks = sum(block.fenced for block in blocks)
        self._candidates = [candidate for block in blocks for candidate in self._of(block)]
        self._looking = [c for c in self._candidates if looks_defined(c.code, self._name)]
        self.chosen = self._choice(blocks, beginning)

    @property
    def is_likely(self) -> bool:
        """Whether the chosen candidate is Python and may define the function."""
        return self.chosen is not None and (
            self.chosen.completed or self._rank(self.chosen) >= Defined.POSSIBLY
        )

    def has_closed_program(self, lent: Collection[str]) -> bool:
        """Whether a closed fenced block is a whole program, and the answer so far binds all names that it needs."""
        looking = self._looking if self.chosen is None else [*self._looking, self.chosen]
        closed = (c for c in looking if c.fenced and c.closed and not c.cited)
        if not any(self._rank(candidate) is Defined.WHOLLY for candidate in closed):
            return False
        chosen = self._parsed(self.chosen.code) if self.chosen is not None else None
        if chosen is not None and not missing_names(chosen, self._callables).difference(lent):
            return True
        tree = self._parsed(self.joined()) if all(c.closed for c in self._candidates) else None
        return tree is not None and not missing_names(tree, self._callables).difference(lent)

    def joined(self) -> str:
        """The chosen program, with the statements of other blocks that bind the names it lacks."""
        chosen = self.chosen
        if chosen is None:
            return ""
        # an answer that gives its program twice is common, and has nothing to lend
        others = [other for other in self._candidates if other.code != chosen.code]
        if not others:
            return chosen.code
        tree = self._parsed(chosen.code) if len(chosen.code) <= _MAX_JOINED_CHARS else None
        missing = missing_names(tree, self._callables) if tree is not None else set()
        if not missing:
            return chosen.code
        helpers = _helpers(
            [
                (other.code, parsed)
                for other in others
                if len(other.code) <= _MAX_JOINED_CHARS
                and (parsed := self._parsed(other.code)) is not None
            ],
            self._name,
            missing,
        )
        if not helpers:
            return chosen.code
        # An import from __future__ must come first.
        parts = [chosen.code, helpers] if "__future__" in chosen.code else [helpers, chosen.code]
        code = "\n\n".join(parts)
        return code if parse(code) is not None else chosen.code

    def _of(self, block: Block) -> Iterator[_Candidate]:
        """The candidates in a block."""
        typed = list(sessions(block.text, mixed=block.mixed))
        if typed and (self._parsed(block.text) is None or not block.fenced):
            for code in typed:
                if looks_defined(code, self._name):
                    yield _Candidate(code, block.fenced, block.closed)
        if not block.mixed:
            yield _Candidate(block.text, fenced=True, closed=True)
            return
        text = block.text if typed else unquoted(block.text)
        tree = self._parsed(text)
        if tree is not None and not any_prose(tree.body):
            if block.fenced or _DEFINITION.search(text) or _IMPORT.search(text):
                yield _Candidate(text, block.fenced, block.closed)
            return
        runs = list(code_runs(text))
        if block.fenced and not runs:
            runs = [text]
        for run in runs:
            yield _Candidate(run, block.fenced, block.closed)

    def _choice(self, blocks: Sequence[Block], beginning: str) -> _Candidate | None:
        """Apply the rules."""
        looking = self._looking
        if (
            len(looking) == 1
            and not beginning
            and _begins_as_code(looking[0].code)
            and not is_dressed(self._text)
        ):
            return looking[0]  # the common case needs no parsing
        for candidate in reversed(looking):
            if self._rank(candidate) is Defined.WHOLLY:
                return candidate
        if beginning and (body := self._body(blocks, beginning)) is not None:
            return body
        for candidate in self._second_looks(blocks) if self._name else ():
            if self._rank(candidate) is Defined.WHOLLY:
                return candidate
        if looking:
            return max(reversed(looking), key=self._rank)
        fenced = [c for c in self._candidates if c.fenced and c.code.strip()]
        if not self._name:
            reading = [c for c in fenced if _READS.search(c.code) and self._parsed(c.code)]
            if reading:
                return reading[-1]
        bare = [c for c in self._candidates if not c.fenced and _DEFINITION.search(c.code)]
        return max(fenced or bare, key=lambda c: len(c.code.strip()), default=None)

    def _body(self, blocks: Sequence[Block], beginning: str) -> _Candidate | None:
        """The function with the last block that is its body; one that returns nothing may be an example's calls."""
        found = None
        for block in reversed(blocks[-_MAX_BODIES:]):
            code = completed(beginning, block.text, self._name, mixed=block.mixed)
            if code is not None:
                candidate = _Candidate(code, block.fenced, block.closed, completed=True)
                if returns(code, self._name):
                    return candidate
                found = found or candidate
        return found

    def _second_looks(self, blocks: Sequence[Block]) -> Iterator[_Candidate]:
        """Candidates that count where there is no better one, the best first."""
        budget = 4 * MAX_CODE_CHARS
        for block in reversed(blocks[-_MAX_SECOND_LOOKS:]):
            whole = [*([] if block.mixed else [block.text]), *undressed(block.text)]
            looks = [(text, False) for text in whole]
            for text, cited in [*looks, *((text, True) for text in uncited(block.text))]:
                budget -= min(len(text), MAX_CODE_CHARS)
                if budget < 0:
                    return
                for candidate in reversed(list(self._of(replace(block, text=text, mixed=True)))):
                    yield replace(candidate, cited=cited)
        for code in reversed(list(in_a_line(self._text, self._name))):
            yield _Candidate(code, fenced=False, closed=True)

    def _rank(self, candidate: _Candidate) -> Defined:
        """How surely a candidate defines the function."""
        tree = self._parsed(candidate.code)
        if tree is None:
            return Defined.LOOKS if looks_defined(candidate.code, self._name) else Defined.NOT
        return defined(tree, self._name)

    def _parsed(self, code: str) -> ast.Module | None:
        """The syntax tree of a candidate, as long as the budget lasts."""
        if code not in self._trees:
            self._budget -= len(code)
            self._trees[code] = parse(code) if self._budget >= 0 else None
        return self._trees[code]


def _begins_as_code(code: str) -> bool:
    """Whether the first line of a candidate that is not blank reads as code."""
    first = re.search(r"\S[^\n]*", code)
    return first is not None and reads_as_code(first[0])


def _helpers(others: Sequence[tuple[str, ast.Module]], name: str, missing: Collection[str]) -> str:
    """Statements of other candidates that bind missing names, and those that these need in turn."""
    kept: dict[int, list[ast.stmt]] = {}
    binds = [top_level_names(declarations(tree, name)) for _, tree in others]
    anything = next((i for i, names in enumerate(binds) if "*" in names), None)
    pending, seen = list(missing), set(missing)
    while pending:
        wanted = pending.pop()
        found = next((i for i in reversed(range(len(others))) if wanted in binds[i]), anything)
        if found is not None and found not in kept:
            kept[found] = declarations(others[found][1], name)
            needs = missing_names(ast.Module(kept[found], []))
            pending += needs - seen
            seen |= needs
    return "\n\n".join(_source(others[index][0], kept[index]) for index in sorted(kept))


def _source(code: str, nodes: Sequence[ast.stmt]) -> str:
    """The lines of some statements."""
    lines = code.split("\n")
    wanted = {
        number
        for node in nodes
        for number in range(
            min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]),
            (node.end_lineno or node.lineno) + 1,
        )
    }
    return "\n".join(line for number, line in enumerate(lines, 1) if number in wanted)


def _with_lf(text: str) -> str:
    """The text with LF line ends, and without a byte order mark."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")


def _refusal(code: str) -> str | None:
    """Why a text is not taken as a program; None where it is."""
    if not code.strip():
        return "empty code block"
    if len(code) > MAX_CODE_CHARS:
        return f"program longer than {MAX_CODE_CHARS} characters"
    try:
        code.encode()
    except UnicodeEncodeError:
        return "program holds characters that are not Unicode text"
    return None
