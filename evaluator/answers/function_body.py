"""Answers that are the body of a function whose beginning the problem gives, as HumanEval's are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import islice

from evaluator.answers.bare_code import code_runs, leading_lines
from evaluator.answers.definition import MAX_CODE_CHARS, any_prose, is_stub, parse

_MAX_TRIED = 12
"""Readings of one text that are parsed."""

_INDENT = "    "


def function_beginning(text: str, name: str) -> str:
    """Return the part of a problem's text that begins the function `name`; empty where there is none.

    It ends the text, or the fenced block that it stands in: signature and docstring, with the imports and
    helpers before it where the whole text is Python.
    """
    places = [
        found.start()
        for found in re.finditer(
            rf"^(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", text, re.MULTILINE
        )
    ]
    if not places:
        return ""
    end = text.find("```", places[-1])
    end = len(text) if end < 0 else end
    for start in (0, places[-1]):
        beginning = text[start:end].rstrip()
        for code in (beginning, f"{beginning}\n{_INDENT}pass"):
            function = _function(code, name)
            if function is not None and is_stub(function.body):
                return beginning + "\n"
    return ""


def completed(beginning: str, text: str, name: str, *, mixed: bool) -> str | None:
    """Return the function with its body out of a text, or None where the text holds no body.

    Beginning (see `function_beginning`) and text are joined as they stand where that is Python, else with the body's
    indentation put right: an answer's first line, or all of its lines, may have lost theirs. `mixed` says that prose
    can stand around the body.
    """
    if len(text) > MAX_CODE_CHARS:
        return None
    for code in islice(_readings(beginning, text, mixed=mixed), _MAX_TRIED):
        function = _function(code, name)
        if function is not None and not is_stub(function.body) and not any_prose(function.body):
            return code
    return None


def returns(code: str, name: str) -> bool:
    """Whether a program's last function of that name holds a `return` or `yield`."""
    function = _function(code, name)
    return function is not None and any(
        isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in ast.walk(function)
    )


def _function(code: str, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The last function of that name at a program's top level."""
    tree = parse(code)
    for node in reversed(tree.body if tree is not None else []):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    return None


def _readings(beginning: str, text: str, *, mixed: bool) -> Iterator[str]:
    """The ways to read a text as the rest of a function."""
    text = text.strip("\n")
    indent = _body_indent(beginning)
    sources = [text]
    if mixed:
        sources += [leading_lines(text), *islice(code_runs(text), 3)]
    for source in dict.fromkeys(sources):
        if source.strip():
            yield beginning + source
            for body in _reindented(source.split("\n")):
                yield beginning + "\n".join(
                    indent + line if line.strip() else line for line in body
                )


def _body_indent(beginning: str) -> str:
    """The indentation of the function's body, as its docstring has it."""
    last = re.search(r"^([ \t]+)\S[^\n]*\n?\Z", beginning, re.MULTILINE)
    return last[1] if last and last[1] else _INDENT


def _reindented(lines: list[str]) -> Iterator[list[str]]:
    """A body's lines without their margin, then as if the first line alone had lost its own."""
    first = next(index for index, line in enumerate(lines) if line.strip())
    lines = lines[first:]
    margins = [
        len(line) - len(line.lstrip(" \t"))
        for line in lines
        if line.strip() and (line is lines[0] or not line.lstrip().startswith("#"))
    ]
    least = min(margins)
    yield [line[least:] if not line[:least].strip() else line for line in lines]
    if len(margins) > 1 and margins[0] < min(margins[1:]):
        margin = min(margins[1:])
        yield [lines[0].lstrip(" \t"), *(line[margin:] for line in lines[1:])]
