"""Rows of LiveCodeBench's own files: test cases as JSON, the private ones compressed, two kinds of tests.

A row with `testtype` stdin becomes a problem of cases; one with `functional`, whose tests call a method of `Solution`,
becomes a problem of asserts. Private tests are hidden ones. Nothing here unpickles: what their files hold
as a pickle of one string is read as that and refused otherwise.
Source: LiveCodeBench, lcb_runner/benchmarks/code_generation.py and lcb_runner/evaluation/testing_util.py.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import pickletools
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from analysis.task_ids import checked_task_id
from evaluator.problems.own_row import MAX_INPUT_CHARS, MAX_OUTPUT_CHARS, RowError, plain_text
from evaluator.problems.problem import Problem, lf
from sandbox.program import Case, Comparison

_COLUMNS = {"question_id", "question_content", "public_test_cases"}
_MAX_BYTES = 64 << 20
"""Of one problem's private tests: a compressed text can stand for any length."""

_TIME_LIMIT_S = 6.0
"""Of each test, as LiveCodeBench has it."""
_LONGEST_S = 60.0

_BLANKS = Comparison(tolerance=0.0, indent=False)
"""Lines are stripped, and numbers are equal by value."""

_MODULES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
).split()
IMPORTS = (
    *(f"from {name} import *" for name in (*_MODULES, "builtins", "typing")),
    *(f"import {name}" for name in _MODULES),
)
"""What an answer may use without importing it, in the order of LiveCodeBench."""


def is_row(values: Mapping[str, Any]) -> bool:
    """Whether a row is one of LiveCodeBench's."""
    return _COLUMNS <= set(values)


def problem_of(values: Mapping[str, Any]) -> Problem:
    """Build the problem of a row.

    Raises:
        RowError: it is not as LiveCodeBench writes it.
    """
    try:
        name = checked_task_id(str(values["question_id"]))
    except ValueError as error:
        raise RowError(str(error).replace("a task id", "question_id", 1)) from error
    public = _tests("public_test_cases", values["public_test_cases"])
    private = _tests("private_test_cases", values.get("private_test_cases") or "[]")
    tests = (*public, *private)
    kinds = {test["testtype"] for test in tests}
    if len(kinds) != 1:
        raise RowError(
            f"its tests must be of one kind, stdin or functional, got {sorted(kinds) or 'none'}"
        )
    problem = Problem(
        task_id=name,
        text=plain_text("question_content", values["question_content"]).strip(),
        imports=IMPORTS,
        n_hidden=len(private),
        tags=tuple(str(values[key]) for key in ("difficulty", "platform") if values.get(key)),
    )
    if kinds == {"stdin"}:
        cases = tuple(Case(lf(test["input"]), lf(test["output"])) for test in tests)
        return replace(problem, cases=cases, comparison=_BLANKS, time_limit_s=_TIME_LIMIT_S)
    function = _function(values.get("metadata"))
    starter = plain_text("starter_code", values.get("starter_code") or "").strip()
    begin = f"\n\nComplete this class:\n\n```python\n{starter}\n```" if starter else ""
    return replace(
        problem,
        text=problem.text + begin,
        asserts=tuple(_assert(function, test) for test in tests),
        callables=("Solution",),
        # Its asserts are judged in one run of the program.
        time_limit_s=min(_LONGEST_S, _TIME_LIMIT_S * len(tests)),
    )


def _tests(column: str, value: object) -> list[dict[str, str]]:
    """Tests from JSON, or from JSON that was pickled, compressed and written in base 64."""
    content = value
    if isinstance(value, str):
        try:
            content = json.loads(value)
        except (ValueError, RecursionError):
            content = _unpacked(column, value)
    if not isinstance(content, list):
        raise RowError(f"{column} must be a list of tests, got {type(content).__name__}")
    for test in content:
        match test:
            case {"input": str(given), "output": str(expected), "testtype": "stdin" | "functional"}:
                if len(given) > MAX_INPUT_CHARS or len(expected) > MAX_OUTPUT_CHARS:
                    raise RowError(
                        f"a test of {column} must have at most {MAX_INPUT_CHARS} characters of input and "
                        f"{MAX_OUTPUT_CHARS} of output, got {len(given)} and {len(expected)}"
                    )
            case _:
                raise RowError(
                    f"each of {column} must have input, output and testtype, got {test!r:.80}"
                )
    return content


def _unpacked(column: str, value: str) -> object:
    try:
        packed = base64.b64decode(value, validate=True)
        inflater = zlib.decompressobj()
        data = inflater.decompress(packed, _MAX_BYTES)
        if inflater.unconsumed_tail:
            raise RowError(f"{column} must hold at most {_MAX_BYTES} bytes, got more")
        return json.loads(_pickled_text(data))
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, RowError):
            raise
        raise RowError(
            f"{column} must be JSON, or JSON pickled, compressed and in base 64, got {error!s:.80}"
        ) from error


_HARMLESS = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}


def _pickled_text(data: bytes) -> str:
    """The one string of a pickle that holds nothing else: its instructions are read, and never run.

    Raises:
        ValueError: it holds something else.
    """
    if data[:1] in (b"[", b"{"):
        return data.decode()
    texts = []
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name in _TEXTS:
            texts.append(str(argument))
        elif instruction.name not in _HARMLESS:
            raise ValueError(f"a pickle with {instruction.name}")
    if len(texts) != 1:
        raise ValueError(f"a pickle of {len(texts)} texts")
    return texts[0]


def _function(metadata: object) -> str:
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            metadata = None
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name.isidentifier():
        raise RowError(f"metadata must name func_name, got {metadata!r:.80}")
    return name


def _assert(function: str, test: Mapping[str, str]) -> str:
    """A functional test as an assert: an argument a line, in JSON.

    A list is expected from whoever returns a tuple too, as LiveCodeBench has it.
    """
    try:
        arguments = [json.loads(line) for line in test["input"].split("\n") if line.strip()]
        expected = json.loads(test["output"])
    except (ValueError, RecursionError) as error:
        raise RowError(
            f"a functional test must hold its arguments and result as JSON, got {error!s:.80}"
        ) from error
    given = ", ".join(map(_literal, arguments))
    call = f"Solution().{function}({given})"
    if isinstance(expected, list):
        return f"assert {call} in ({_literal(expected)}, {_literal(tuple(expected))})"
    return f"assert {call} == {_literal(expected)}"


def _literal(value: object) -> str:
    """A value as Python writes it; infinities and NaN have no literal.

    Raises:
        RowError: it has none.
    """
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise RowError(f"a functional test must hold finite values, got {text[:60]}") from error
    return text
