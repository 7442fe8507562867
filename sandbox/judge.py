"""Turns what came out of the wall into verdicts. Nothing here trusts a word of it; silence never passes."""

from __future__ import annotations

import json
import re
import reprlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandbox import decoding
from sandbox.assertion import Assertion
from sandbox.evaluation import evaluate
from sandbox.guest.protocol import How, ProtocolError, ResponseHeader
from sandbox.guest.values import Value
from sandbox.program import AssertResult, Execution, Program, Verdict

MAX_SHOWN = 300
"""Characters of a value or message in a result."""
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Failure:
    """What a program raised, in its own words."""

    type_name: str
    message: str
    line: int | None
    call: str | None


@dataclass(frozen=True)
class Facts:
    """What one body says, parsed: still hostile, but of the right form."""

    loaded: bool
    load_failure: Failure | None
    steps: tuple[Failure | tuple[Value, ...], ...]
    """For each assert that was reached: what it raised or the values of its calls."""
    output_tail: str
    output_truncated: bool
    ended: bool


def parse_body(body: bytes, n_steps: int) -> Facts:
    """Parse what a child wrote; a last line that was cut off with its writer counts for nothing.

    Raises:
        ProtocolError: not the lines of a child.
    """
    documents = [_parse_line(line) for line in body.split(b"\n")[:-1]]
    loaded = bool(documents)
    load_failure = None
    steps: list[Failure | tuple[Value, ...]] = []
    tail, truncated, ended = "", False, False
    for position, document in enumerate(documents):
        match document:
            case ["load", failure] if position == 0:
                load_failure = _parse_failure(failure) if failure is not None else None
            case ["assert", index, failure, None] if index == len(steps) == position - 1 < n_steps:
                steps.append(_parse_failure(failure))
            case ["assert", index, None, [*shipped]] if (
                index == len(steps) == position - 1 < n_steps
            ):
                steps.append(tuple(decoding.decode(value) for value in shipped))
            case ["end", str(tail), bool(truncated)] if 0 < position == len(documents) - 1:
                ended = True
            case _:
                raise ProtocolError(f"a line must be in its place, got {str(document)[:80]!r}")
    return Facts(loaded, load_failure, tuple(steps), clean(tail, 4096), truncated, ended)


def _parse_line(line: bytes) -> Value:
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a line must be JSON: {error}") from error


def _refuse(constant: str) -> Value:
    raise ProtocolError(f"a number must be finite, got {constant}")


def _parse_failure(document: Value) -> Failure:
    match document:
        case {"type": str(name), "message": str(message), "line": line, "call": call} if (
            len(document) == 4
            and (line is None or type(line) is int)
            and (call is None or type(call) is str)
        ):
            in_range = line is not None and 0 < line < 1_000_000
            return Failure(name, message, line if in_range else None, call)
        case _:
            raise ProtocolError(f"a failure must have its four fields, got {str(document)[:80]!r}")


def judge(
    program: Program,
    assertions: Sequence[Assertion],
    header: ResponseHeader,
    body: bytes,
    *,
    asides: Mapping[str, Value],
) -> Execution:
    """Judge every assert of a program from how its process ended and what it wrote.

    Args:
        program: what was asked.
        assertions: its asserts, taken apart.
        header: the supervisor's words.
        body: the program's words.
        asides: values of the assertions' asides.
    """
    try:
        facts = parse_body(body, len(assertions))
        garbled = None
    except ProtocolError as error:
        # Only hostile code writes such bytes: what it wrote counts for nothing, not even in part.
        facts = Facts(False, None, (), "", False, False)
        garbled = str(error)
    results: list[AssertResult] = []
    cause: tuple[Verdict, str] | None = None
    for index, parsed in enumerate(assertions):
        if facts.load_failure is not None:
            results.append(_raised(parsed, facts.load_failure))
        elif index < len(facts.steps):
            results.append(_judge_step(parsed, facts.steps[index], asides))
        elif cause is None:
            cause = (Verdict.CRASHED, _garbled(garbled)) if garbled else _cause(header, program)
            results.append(_ended(parsed, *cause))
        else:
            text = "not run: an earlier assert ended the program"
            results.append(_ended(parsed, Verdict.NOT_RUN, text))
    return Execution(
        results=tuple(results),
        cpu_ms=header.cpu_us / 1000,
        wall_ms=header.wall_us / 1000,
        peak_memory_bytes=header.peak_memory_bytes,
        output_tail=facts.output_tail,
        output_truncated=facts.output_truncated,
    )


def _garbled(reason: str) -> str:
    return f"the program wrote to the result channel: {clean(reason, 200)}"


def _cause(header: ResponseHeader, program: Program) -> tuple[Verdict, str]:
    """Say why a program ended before its asserts did, by the supervisor's evidence alone."""
    match header.how:
        case How.DEADLINE:
            return Verdict.TIMEOUT, f"no result within {program.timeout_s:g} seconds"
        case How.OOM:
            return Verdict.MEMORY, "the program used more memory than it may"
        case How.SIGNALED:
            return Verdict.CRASHED, f"the process was ended by {_signal_name(header.code)}"
        case _:
            return (
                Verdict.CRASHED,
                f"the process exited with status {header.code} before the call returned",
            )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _ended(parsed: Assertion, verdict: Verdict, message: str) -> AssertResult:
    call = parsed.calls[0].source if parsed.trusted and verdict != Verdict.NOT_RUN else None
    return AssertResult(
        assertion=parsed.source,
        verdict=verdict,
        trusted=parsed.trusted,
        message=message,
        call=call and _cut(call),
        expected=_cut(parsed.expected) or None,
    )


def _raised(parsed: Assertion, failure: Failure) -> AssertResult:
    verdict = Verdict.MEMORY if failure.type_name == "MemoryError" else Verdict.ERROR
    return AssertResult(
        assertion=parsed.source,
        verdict=verdict,
        trusted=parsed.trusted,
        exception=clean(failure.type_name, 100) or "Exception",
        message=clean(failure.message, MAX_SHOWN),
        line=failure.line,
        # The call is our own text: what came back with the exception is not needed for it.
        call=_known_call(parsed, failure.call),
        expected=_cut(parsed.expected) or None,
    )


def _known_call(parsed: Assertion, call: str | None) -> str | None:
    return next((_cut(known.source) for known in parsed.calls if known.source == call), None)


def _judge_step(
    parsed: Assertion, step: Failure | tuple[Value, ...], asides: Mapping[str, Value]
) -> AssertResult:
    if isinstance(step, Failure):
        return _raised(parsed, step)
    if len(step) != len(parsed.calls):
        text = _garbled(f"{len(step)} values for {len(parsed.calls)} calls")
        return _ended(parsed, Verdict.CRASHED, text)
    exception = message = None
    try:
        if parsed.test is None:
            holds = bool(step[0])
        else:
            filled = [asides[source] for source in parsed.asides]
            holds = bool(evaluate(parsed.test, step, filled))
        verdict = Verdict.PASSED if holds else Verdict.FAILED
    except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        # As the assert itself would have: `int("x") == 3` raises.
        verdict, exception, message = Verdict.ERROR, type(error).__name__, clean(str(error), 300)
    passed = verdict == Verdict.PASSED
    return AssertResult(
        assertion=parsed.source,
        verdict=verdict,
        trusted=parsed.trusted,
        exception=exception,
        message=message,
        call=None if passed else _cut(", ".join(call.source for call in parsed.calls)),
        expected=None if passed else _cut(parsed.expected) or None,
        got=None if passed else ", ".join(show(value) for value in step)[: 2 * MAX_SHOWN],
    )


class _Repr(reprlib.Repr):
    """A repr that is cheap for huge values and never raises."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 6
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 30
        self.maxdict = 20
        self.maxstring = self.maxother = 200
        self.maxlong = 60

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 4000:  # decimal digits of a huge number take quadratic time
            return f"<int of {x.bit_length()} bits>"
        return super().repr_int(x, level)


def show(value: Value) -> str:
    """Return a bounded, printable repr of a decoded value."""
    if isinstance(value, decoding.Opaque):
        return clean(value.text, MAX_SHOWN)
    return clean(_Repr().repr(value), MAX_SHOWN)


def clean(text: str, limit: int) -> str:
    """Return text without control characters, bidirectional marks and lone surrogates, cut to `limit`."""
    text = _CONTROL.sub("\ufffd", text[: limit * 2])
    return _cut(_SURROGATE.sub("\ufffd", text), limit)


def _cut(text: str, limit: int = MAX_SHOWN) -> str:
    """Keep head and tail of a long text."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"
