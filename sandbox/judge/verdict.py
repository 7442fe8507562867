"""Turns what came out of the container into verdicts. It trusts none of it, and silence never passes."""

from __future__ import annotations

import re
import reprlib
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.guest.protocol import How, ProtocolError, ResponseHeader
from sandbox.guest.values import Value
from sandbox.judge import decode, worker
from sandbox.judge.asserts import Assertion
from sandbox.judge.opaque import Opaque, Unjudged
from sandbox.program import AssertResult, Execution, Program, Verdict

MAX_CHEAP_BYTES = 16_384
"""Of a body that is judged in this process: ten milliseconds at the worst."""
MAX_SHOWN = 300
"""Characters of a value or message in a result."""
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
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

    load_failure: Failure | None
    steps: tuple[Failure | tuple[Value, ...], ...]
    """For each assert that was reached: what it raised, or the documents of its calls' values."""
    output_tail: str
    output_truncated: bool
    ended: bool


def parse_body(body: bytes, n_steps: int) -> Facts:
    """Parse what a child wrote; a last line that was cut off with its writer counts for nothing.

    Raises:
        ProtocolError: not the lines of a child.
    """
    documents = [decode.read_json(line) for line in body.split(b"\n")[:-1]]
    load_failure = None
    steps: list[Failure | tuple[Value, ...]] = []
    tail, truncated, ended = "", False, False
    for position, document in enumerate(documents):
        match document:
            case ["load", failure] if position == 0:
                load_failure = _parse_failure(failure) if failure is not None else None
            case ["assert", int(index), failure, None] if (
                index == len(steps) == position - 1 < n_steps
            ):
                steps.append(_parse_failure(failure))
            case ["assert", int(index), None, [*shipped]] if (
                index == len(steps) == position - 1 < n_steps
            ):
                steps.append(tuple(shipped))
            case ["end", str(tail), bool(truncated)] if 0 < position == len(documents) - 1:
                ended = True
            case _:
                raise ProtocolError(f"a line must be in its place, got {str(document)[:80]!r}")
    return Facts(load_failure, tuple(steps), clean(tail, 4096), truncated, ended)


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

    What is provably cheap is judged here, everything else by a process with limits on time and memory.

    Args:
        program: what was asked.
        assertions: its asserts, taken apart.
        header: the supervisor's words.
        body: the program's words.
        asides: values of the assertions' asides.
    """
    if len(body) <= MAX_CHEAP_BYTES and all(a.test is None or a.test.cheap for a in assertions):
        try:
            judging = Judging(program, assertions, header, body, asides, cheap=True)
            return _execution(judging, header, judging.facts)
        except (decode.Costly, RecursionError):
            pass
    results, tail, truncated = worker.judge(program, assertions, header, body, asides)
    # The process was ended in the middle of the first of those that are left.
    for place, parsed in enumerate(assertions[len(results) :]):
        results.append(
            _ended(parsed, Verdict.NOT_RUN, "not run: an earlier assert cost too much to judge")
            if place
            else _unjudged(parsed, "the value takes too much time or memory to compare")
        )
    return _execution(results, header, Facts(None, (), tail, truncated, True))


def _execution(results: Iterable[AssertResult], header: ResponseHeader, facts: Facts) -> Execution:
    return Execution(
        results=tuple(results),
        cpu_ms=header.cpu_us / 1000,
        wall_ms=header.wall_us / 1000,
        peak_memory_bytes=header.peak_memory_bytes,
        output_tail=facts.output_tail,
        output_truncated=facts.output_truncated,
    )


class Judging:
    """The results of a program's asserts, one after the other."""

    def __init__(
        self,
        program: Program,
        assertions: Sequence[Assertion],
        header: ResponseHeader,
        body: bytes,
        asides: Mapping[str, Value],
        *,
        cheap: bool = False,
    ) -> None:
        self._program = program
        self._assertions = assertions
        self._header = header
        self._asides = asides
        self._cheap = cheap
        self._garbled: str | None = None
        self.out_of_memory = False
        """Whether an allocation failed on the way."""
        try:
            self.facts = parse_body(body, len(assertions))
        except ProtocolError as error:
            if cheap and isinstance(error, decode.TooDeep):
                raise decode.Costly from error
            # Only hostile code writes such bytes: what it wrote counts for nothing, not even in part.
            self.facts = Facts(None, (), "", False, False)
            self._garbled = str(error)

    def __iter__(self) -> Iterator[AssertResult]:
        """Judge the asserts in order.

        Raises:
            Costly: only where cheap was asked for.
        """
        over = False
        for index, parsed in enumerate(self._assertions):
            if over:
                text = "not run: an earlier assert ended the program"
                yield _ended(parsed, Verdict.NOT_RUN, text)
            elif self.facts.load_failure is not None:
                yield _raised(parsed, self.facts.load_failure)
            elif index < len(self.facts.steps):
                try:
                    yield self._judge_step(parsed, self.facts.steps[index])
                except ProtocolError as error:
                    over = True
                    yield _ended(parsed, Verdict.CRASHED, garbled(str(error)))
            else:
                over = True
                ended = cause(self._header, self._program)
                if self._garbled is not None:
                    ended = Verdict.CRASHED, garbled(self._garbled)
                yield _ended(parsed, *ended)

    def _judge_step(self, parsed: Assertion, step: Failure | tuple[Value, ...]) -> AssertResult:
        if isinstance(step, Failure):
            return _raised(parsed, step)
        if len(step) != len(parsed.calls):
            raise ProtocolError(f"{len(step)} values for {len(parsed.calls)} calls")
        try:
            values = [decode.decode(document, cheap=self._cheap) for document in step]
            return _compared(parsed, values, [self._asides[source] for source in parsed.asides])
        except (MemoryError, RecursionError) as error:
            if self._cheap:
                raise
            self.out_of_memory = self.out_of_memory or isinstance(error, MemoryError)
            what = "too much memory" if isinstance(error, MemoryError) else "too many levels"
            return _unjudged(parsed, f"the value takes {what} to compare")


def _compared(parsed: Assertion, values: Sequence[Value], asides: Sequence[Value]) -> AssertResult:
    exception = message = None
    try:
        holds = bool(values[0] if parsed.test is None else parsed.test.evaluate(values, asides))
        verdict = Verdict.PASSED if holds else Verdict.FAILED
    except Unjudged as error:
        verdict, message = Verdict.UNJUDGED, clean(str(error), MAX_SHOWN)
    except RecursionError:
        raise
    except _AS_THE_ASSERT as error:
        # As the assert itself would have: `int("x") == 3` raises.
        verdict, exception = Verdict.ERROR, type(error).__name__
        message = _text(error)
    if verdict == Verdict.PASSED:
        return AssertResult(parsed.source, verdict, parsed.trusted)
    got = ", ".join(show(value) for value in values)[: 2 * MAX_SHOWN]
    return _failed(parsed, verdict, _calls(parsed), exception=exception, message=message, got=got)


def _text(error: Exception) -> str:
    try:
        return clean(str(error), MAX_SHOWN)
    except ValueError:  # it names a huge number
        return ""


_AS_THE_ASSERT = (
    (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, NameError)
    # The last is Python's answer to a format specification that is no text.
    + (RuntimeError, StopIteration, BufferError, SystemError)
)


def _calls(parsed: Assertion) -> str:
    return ", ".join(call.source for call in parsed.calls)


def _failed(
    parsed: Assertion,
    verdict: Verdict,
    call: str | None,
    **evidence: Any,  # noqa: ANN401 - other fields of the result
) -> AssertResult:
    """The result of an assert that does not pass, with what it asks for."""
    return AssertResult(
        parsed.source,
        verdict,
        trusted=parsed.trusted and verdict != Verdict.UNJUDGED,
        call=None if call is None else _cut(call),
        expected=_cut(parsed.expected) or None,
        **evidence,
    )


def _unjudged(parsed: Assertion, message: str) -> AssertResult:
    return _failed(parsed, Verdict.UNJUDGED, _calls(parsed), message=message)


def garbled(reason: str) -> str:
    """Say what is wrong with bytes that only hostile code writes."""
    return f"the program wrote to the result channel: {clean(reason, 200)}"


def cause(header: ResponseHeader, program: Program) -> tuple[Verdict, str]:
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
    return _failed(parsed, verdict, call, message=message)


def _raised(parsed: Assertion, failure: Failure) -> AssertResult:
    # The call is our own text: what came back with the exception is not needed for it.
    call = next((known.source for known in parsed.calls if known.source == failure.call), None)
    return _failed(
        parsed,
        Verdict.MEMORY if failure.type_name == "MemoryError" else Verdict.ERROR,
        call,
        exception=clean(failure.type_name, 100) or "Exception",
        message=clean(failure.message, MAX_SHOWN),
        line=failure.line,
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

    def repr1(self, x: object, level: int) -> str:
        # Found by the name of its class otherwise, and that is the program's word.
        return x.text[:200] if isinstance(x, Opaque) else super().repr1(x, level)

    def repr_instance(self, x: object, level: int) -> str:
        # Not as reprlib does, which shows an address of this process.
        try:
            return _cut(repr(x), self.maxother)
        except (ValueError, RecursionError):  # a huge number has no decimal digits
            return f"<{type(x).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 4000:  # decimal digits of a huge number take quadratic time
            return f"<int of {x.bit_length()} bits>"
        return super().repr_int(x, level)


def show(value: Value) -> str:
    """Return a bounded, printable repr of a decoded value."""
    if isinstance(value, Opaque):
        return clean(value.text, MAX_SHOWN)
    return clean(_Repr().repr(value), MAX_SHOWN)


def clean(text: str, limit: int) -> str:
    """Return text cut to `limit`, without what cannot be printed and without addresses.

    That is control characters, bidirectional marks and lone surrogates; an address (`at 0x7f..`) says
    where a process lies in memory and is another one in the next run.
    """
    text = _ADDRESS.sub("", _CONTROL.sub("\ufffd", text[: limit * 2]))
    return _cut(_SURROGATE.sub("\ufffd", text), limit)


def _cut(text: str, limit: int = MAX_SHOWN) -> str:
    """Keep head and tail of a long text."""
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"
