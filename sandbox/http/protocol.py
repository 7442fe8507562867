"""The messages of version 1: their fields, their bounds, and their way to and from the sandbox's own types.

Both sides parse with these classes. An unknown field, another type or a value out of bounds is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.guest.protocol import MAX_TIMEOUT_MS, ProtocolError
from sandbox.judge.verdict import clean
from sandbox.pool.cases import case_name
from sandbox.program import AssertResult, Execution, Program, Verdict

VERSION = 1
MAX_PROGRAMS = 64
"""Programs in one request."""
MAX_ASSERTS = 10_000
"""Asserts of one program."""
MAX_BODY_BYTES = 16 << 20
"""Of one request, unless the server was started with another bound; more is status 413."""
_MAX_TEXT, _MAX_TAIL = 2000, 10_000
_EXECUTION_BYTES, _RESULT_BYTES = 64 << 10, 32 << 10
"""Of JSON that one execution and one of its results may take: the bounds of their texts, every character escaped."""

M = TypeVar("M", bound=BaseModel)
Text = Annotated[str, Field(max_length=_MAX_TEXT)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class WireCase(_Strict):
    """One run of a whole program."""

    stdin: str = Field(description="what it reads from standard input")
    expected: str = Field(description="what it must print; stays outside")


class WireComparison(_Strict):
    """When what was printed is what is expected; blanks at the end of a line or of all never count."""

    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="numbers may differ by so much, or that share; null: they are text",
    )
    indent: bool = Field(
        default=True, description="whether blanks before a line's first word count"
    )
    checker: str = Field(
        default="",
        description="source of check(stdin, output, expected), run in the sandbox after the program",
    )


class WireProgram(_Strict):
    """One candidate with the asserts that it must satisfy, or the cases that it must run through."""

    code: str = Field(description="the candidate's source")
    asserts: list[str] = Field(
        max_length=MAX_ASSERTS, description="one assert statement each; they stay outside"
    )
    callables: list[str] | None = Field(
        default=None,
        description="names that the asserts call and the candidate defines: only these run inside. "
        "Without it: every name that an assert calls, but builtins and what `imports` bind",
    )
    cases: list[WireCase] = Field(
        default=[], max_length=MAX_ASSERTS, description="in place of asserts: runs as `__main__`"
    )
    comparison: WireComparison = Field(default=WireComparison(), description="of the cases' output")
    memory_bytes: Annotated[int, Field(ge=1, lt=1 << 40)] | None = Field(
        default=None, description="of each case, beside what the interpreter takes"
    )
    imports: list[str] = Field(default=[], description="statements run before the candidate")
    setup_code: str = Field(
        default="", description="statements run after the candidate, before the asserts"
    )
    timeout_s: float = Field(
        default=5.0,
        allow_inf_nan=False,
        # The sandbox itself refuses others, in its own words.
        json_schema_extra={"minimum": 0.001, "maximum": MAX_TIMEOUT_MS / 1000},
        description="limit in seconds: processor time, and wall-clock time less waiting for one",
    )


class JudgeRequest(_Strict):
    """What `/v1/judge` is asked."""

    programs: list[WireProgram] = Field(max_length=MAX_PROGRAMS)
    feedback: bool = Field(default=False, description="whether to say in words what failed")


class WireResult(_Strict):
    """The verdict on one assert, with its evidence; texts are bounded and printable."""

    verdict: Literal[
        "passed", "failed", "error", "timeout", "memory", "crashed", "unjudged", "not_run"
    ] = Field(description="how the assert ended")
    trusted: bool = Field(
        description="false where the assert could not be judged outside: no reward for it"
    )
    exception: Text | None = Field(description="type name of what was raised")
    message: Text | None = Field(description="the exception's text, or the cause in words")
    line: Annotated[int, Field(ge=1, lt=1_000_000)] | None = Field(
        description="1-based line of the candidate that the error points at"
    )
    call: Text | None = Field(description="source of the failing call")
    expected: Text | None = Field(description="what the assert asks for")
    got: Text | None = Field(description="repr of the value that came back; the program's own word")


class WireExecution(_Strict):
    """What one program did: one result for each assert, in order, and what it cost."""

    results: list[WireResult] = Field(max_length=MAX_ASSERTS)
    cpu_ms: Amount = Field(description="processor time, milliseconds")
    wall_ms: Amount = Field(description="wall-clock time, milliseconds")
    peak_memory_bytes: Count = Field(description="largest resident memory, bytes")
    output_tail: Annotated[str, Field(max_length=_MAX_TAIL)] = Field(
        description="last part of what the program printed"
    )
    output_truncated: bool = Field(description="whether it printed more")
    feedback: Text | None = Field(
        description="what failed, in words for whoever wrote the program; null for a pass, or where not asked for"
    )


class JudgeResponse(_Strict):
    """One execution for each program of the request, in order."""

    sandbox: Text = Field(description="backend, image and packages: where the programs ran")
    executions: list[WireExecution] = Field(max_length=MAX_PROGRAMS)


class Info(_Strict):
    """What `/v1/info` says of a server."""

    protocol: Literal[1] = Field(description="version of this protocol")
    sandbox: Text = Field(description="backend, image and packages")
    slots: Annotated[int, Field(ge=1, le=10_000)] = Field(description="programs at a time")
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = Field(
        description="largest body of a request"
    )
    max_programs: Annotated[int, Field(ge=1, le=MAX_PROGRAMS)] = Field(
        description="most programs in one request"
    )


class Refusal(_Strict):
    """What every status but 200 answers."""

    error: Text = Field(description="one line for a person: what must hold, what came, what to do")
    code: Literal[
        "unauthorized",
        "bad_request",
        "too_large",
        "busy",
        "stopping",
        "sandbox_failed",
        "not_found",
        "timeout",
    ] = Field(description="the kind, for a program")


def read(kind: type[M], body: bytes) -> M:
    """Parse a message.

    Raises:
        ProtocolError: no JSON, or not the fields of this kind; the text is one line.
    """
    try:
        return kind.model_validate(json.loads(body, parse_constant=_no_constant))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ProtocolError(f"{clean(place, 200)}: {clean(first['msg'], 200)}") from error
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a body must be JSON: {clean(str(error), 200)}") from error


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"a number must be finite, got {constant}")


def write(message: dict[str, Any] | BaseModel) -> bytes:
    """Return a message as JSON; lone surrogates of a program survive the way."""
    content = message.model_dump() if isinstance(message, BaseModel) else message
    return json.dumps(content, separators=(",", ":")).encode()


def wire_program(program: Program) -> dict[str, Any]:
    """Return a program as it travels."""
    cases = [vars(case) for case in program.cases]
    return {**vars(program), "cases": cases, "comparison": vars(program.comparison)}


def result_names(program: Program) -> list[str]:
    """What the results of a program are called: its asserts, or its cases."""
    if program.cases:
        return [case_name(program, index) for index in range(len(program.cases))]
    return list(program.asserts)


def wire_execution(execution: Execution, *, feedback: str | None = None) -> dict[str, Any]:
    """Return an execution as it travels; the asserts stay with whoever asked."""
    results = [
        {name: value for name, value in vars(result).items() if name != "assertion"}
        for result in execution.results
    ]
    return {**vars(execution), "results": results, "feedback": feedback}


def max_answer_bytes(programs: Sequence[Program]) -> int:
    """Most bytes that an honest answer to these programs can have."""
    n_results = sum(len(program.cases or program.asserts) for program in programs)
    return 4096 + _EXECUTION_BYTES * len(programs) + _RESULT_BYTES * n_results


def executions(response: JudgeResponse, programs: Sequence[Program]) -> list[Execution]:
    """Return the executions of a response, each with the asserts of its program.

    Raises:
        ProtocolError: not as many executions as programs, or results as asserts.
    """
    if len(response.executions) != len(programs):
        raise ProtocolError(f"{len(programs)} programs need as many executions, got "
                            f"{len(response.executions)}")  # fmt: skip
    return [
        _execution(told, program)
        for told, program in zip(response.executions, programs, strict=True)
    ]


def _execution(told: WireExecution, program: Program) -> Execution:
    names = result_names(program)
    if len(told.results) != len(names):
        raise ProtocolError(f"{len(names)} asserts need as many results, got {len(told.results)}")
    fields = told.model_dump(exclude={"results", "feedback"})
    fields["output_tail"] = clean(told.output_tail, _MAX_TAIL)
    results = [_result(result, name) for result, name in zip(told.results, names, strict=True)]
    return Execution(tuple(results), **fields)


def _result(told: WireResult, source: str) -> AssertResult:
    fields: dict[str, Any] = {
        name: clean(value, _MAX_TEXT) if isinstance(value, str) else value for name, value in told
    }
    fields["verdict"] = Verdict(told.verdict)
    return AssertResult(source, **fields)
