"""Judges whole programs by what they print: which case is run when, and what each run says.

Every case is a run of its own. The program is sent with its input alone; what it must print stays on this side and
is compared here. A `checker`, which comes with a problem as text and is as little ours as the program, is run in the
sandbox as well: in a process of its own, after the program's has ended, on what was printed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sandbox.guest.protocol import MAX_JOB_BYTES, Job, ProtocolError
from sandbox.guest.values import Value
from sandbox.judge import decode as decoding
from sandbox.judge import verdict as judge
from sandbox.judge.comparison import first_difference
from sandbox.pool.task import Execute, Outcome, Run
from sandbox.program import AssertResult, Case, Execution, Program, Verdict

INTERPRETER_BYTES = 128 << 20
"""Address space that an interpreter takes before it runs a line; a problem's limit is for what comes on top."""

CHECKER_TIMEOUT_S = 10.0
_SMALL_BYTES = 20_000
"""An output that must be so small, and does not fit the way back, is wrong whatever it is."""
_SHOWN = 160
"""Characters of an input or a line that are shown."""


def run_cases(programs: Sequence[Program], execute: Execute) -> list[Execution]:
    """Run programs through their cases; one result each, in order.

    The first case of all comes first, then twice as many, and so on: a program that takes all its time or memory in
    one case is not asked those of later rounds.

    Raises:
        SandboxError: the sandbox failed.
    """
    states = [_State(program) for program in programs]
    for first, end in _rounds(max((len(program.cases) for program in programs), default=0)):
        asked = [
            (state, index)
            for state in states
            if not state.over
            for index in range(first, min(end, len(state.program.cases)))
        ]
        outcomes = execute([_run(state.program, index) for state, index in asked])
        printed = [
            (state, index, text)
            for (state, index), outcome in zip(asked, outcomes, strict=True)
            if (text := state.take(index, outcome)) is not None
        ]
        _check(printed, execute)
    return [state.execution() for state in states]


def case_name(program: Program, index: int) -> str:
    """What the result of a case is called."""
    return f"case {index + 1}: input {judge.clean(program.cases[index].stdin, _SHOWN)!r}"


def _rounds(n: int) -> Iterator[tuple[int, int]]:
    """Cases 0, 1-2, 3-6, 7-14, ..."""
    first, size = 0, 1
    while first < n:
        yield first, first + size
        first, size = first + size, 2 * size


def _run(program: Program, index: int) -> Run:
    memory = program.memory_bytes
    job = Job(program.imports, program.code, "", (), stdin=program.cases[index].stdin)
    return Run(job, program.timeout_s, None if memory is None else memory + INTERPRETER_BYTES)


class _State:
    """One program on its way through its cases."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.over = False
        """Whether it took all its time or memory, so that nothing more is asked of it."""
        self.results: dict[int, AssertResult] = {}
        self._cpu_ms = self._wall_ms = 0.0
        self._memory = 0
        self._tail, self._cut = "", False

    def take(self, index: int, outcome: Outcome | None) -> str | None:
        """Judge one case; return what it printed where a checker has to."""
        case = self.program.cases[index]
        if outcome is None:
            text = f"a program and its input must fit {MAX_JOB_BYTES} bytes"
            self._note(index, Verdict.ERROR, exception="ProgramTooLarge", message=text)
            return None
        header = outcome.header
        self._cpu_ms += header.cpu_us / 1000
        self._wall_ms += header.wall_us / 1000
        self._memory = max(self._memory, header.peak_memory_bytes)
        try:
            facts = judge.parse_body(outcome.body, 1)
            if facts.output_tail and not self._tail:
                self._tail, self._cut = facts.output_tail, facts.output_truncated
            if facts.load_failure is not None:
                self._raised(index, facts.load_failure)
            elif not facts.steps or not facts.ended:
                verdict, message = judge.cause(header, self.program)
                self._note(index, verdict, message=message)
                self.over = verdict in (Verdict.TIMEOUT, Verdict.MEMORY)
            else:
                return self._printed(index, case, facts.steps[0])
        except ProtocolError as error:
            self._note(index, Verdict.CRASHED, message=judge.garbled(str(error)))
        return None

    def _raised(self, index: int, failure: judge.Failure) -> None:
        memory = failure.type_name == "MemoryError"
        self.over = self.over or memory
        self._note(
            index,
            Verdict.MEMORY if memory else Verdict.ERROR,
            exception=judge.clean(failure.type_name, 100) or "Exception",
            message=judge.clean(failure.message, judge.MAX_SHOWN),
            line=failure.line,
        )

    def _printed(
        self, index: int, case: Case, step: judge.Failure | tuple[Value, ...]
    ) -> str | None:
        if isinstance(step, judge.Failure) or len(step) != 1:
            raise ProtocolError("a run must give one output")
        output = decoding.text_of(step[0])
        if output is None:
            small = len(case.expected.encode("utf-8", "replace")) <= _SMALL_BYTES
            if small and not self.program.comparison.checker:
                self._note(index, Verdict.FAILED, got="an output that is too long", expected="less")
            else:
                text = "the output is too long to be compared"
                self._note(index, Verdict.UNJUDGED, message=text)
            return None
        if self.program.comparison.checker:
            return output
        difference = first_difference(output, case.expected, self.program.comparison)
        if difference is None:
            self._note(index, Verdict.PASSED)
        else:
            self._note(
                index,
                Verdict.FAILED,
                got=_line(difference.line, difference.got),
                expected=_line(difference.line, difference.expected),
                message=f"line {difference.line} differs",
            )
        return None

    def take_checked(self, index: int, printed: str, outcome: Outcome | None) -> None:
        """Judge one case by its checker's word."""
        said = _checker_said(outcome)
        if said is True:
            self._note(index, Verdict.PASSED)
        elif said is None:
            self._note(index, Verdict.UNJUDGED, message="the checker gave no answer")
        else:
            got = judge.clean(printed.strip().replace("\n", "\\n"), _SHOWN)
            reason = judge.clean(said, _SHOWN) if said else "one that the checker accepts"
            self._note(index, Verdict.FAILED, got=repr(got), expected=reason)

    def _note(
        self,
        index: int,
        verdict: Verdict,
        **evidence: Any,  # noqa: ANN401 - other fields of the result
    ) -> None:
        given = judge.clean(self.program.cases[index].stdin, _SHOWN)
        self.results[index] = AssertResult(
            case_name(self.program, index),
            verdict,
            trusted=verdict != Verdict.UNJUDGED,
            call=None if verdict == Verdict.PASSED else f"the input {given!r}",
            **evidence,
        )

    def execution(self) -> Execution:
        """What all the runs say, in the order of the cases."""
        for index in range(len(self.program.cases)):
            if index not in self.results:
                text = "not run: an earlier case took all the time or memory"
                self._note(index, Verdict.NOT_RUN, message=text)
        return Execution(
            results=tuple(result for _, result in sorted(self.results.items())),
            cpu_ms=self._cpu_ms,
            wall_ms=self._wall_ms,
            peak_memory_bytes=self._memory,
            output_tail=self._tail,
            output_truncated=self._cut,
        )


def _line(number: int, text: str | None) -> str:
    if text is None:
        return f"no line {number}"
    return f"line {number}: {judge.clean(text, _SHOWN)!r}"


# ------------------------------------------------------------------------------ checkers

_CALL = """
import json as _json, sys as _sys
_out, _sys.stdout = _sys.stdout, _sys.stderr
_said = check(*_json.loads(_sys.stdin.read()))
print(_json.dumps(_said if isinstance(_said, str) else bool(_said)), file=_out)
"""
"""What is put after a checker's source: it is handed input, output and expected output as JSON."""


def checker_run(comparison_source: str, case: Case, printed: str) -> Run:
    """Return the run of a checker on one output."""
    given = json.dumps([case.stdin, printed, case.expected])
    return Run(Job((), comparison_source + "\n" + _CALL, "", (), stdin=given), CHECKER_TIMEOUT_S)


def _check(printed: Sequence[tuple[_State, int, str]], execute: Execute) -> None:
    """Ask the checkers about some outputs."""
    runs = [
        checker_run(state.program.comparison.checker, state.program.cases[index], text)
        for state, index, text in printed
    ]
    for (state, index, text), outcome in zip(printed, execute(runs) if runs else (), strict=True):
        state.take_checked(index, text, outcome)


def _checker_said(outcome: Outcome | None) -> bool | str | None:
    """True for right; what is wrong, perhaps empty; None where the checker did not come to an end.

    One that raises has not accepted the output: most read it as numbers and stop where it is none.
    """
    if outcome is None:
        return None
    try:
        facts = judge.parse_body(outcome.body, 1)
        if facts.load_failure is not None:
            return f"an output that the checker can read ({facts.load_failure.type_name})"
        if not facts.ended or not isinstance(facts.steps[0], tuple):
            return None
        said = json.loads(decoding.text_of(facts.steps[0][0]) or "null")
    except (ProtocolError, ValueError, LookupError, RecursionError):
        return None
    if said is True:
        return True
    return said if isinstance(said, str) else "" if said is False else None
