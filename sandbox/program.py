"""What the sandbox is asked to judge, and what it answers: the types every caller sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How one assert ended; one cause each, by evidence and never by an exit status."""

    PASSED = "passed"
    FAILED = "failed"
    """The calls returned, and the assert does not hold for their values."""
    ERROR = "error"
    """The program or the call raised, or does not compile."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    """The process went away (signal, exit) before the call returned."""
    UNJUDGED = "unjudged"
    """A value came back, or would have, that cannot be compared outside; never trusted, never a pass."""
    NOT_RUN = "not_run"
    """Nothing was tried: an earlier cause ended the program first."""


@dataclass(frozen=True)
class Case:
    """One run of a whole program: what it reads from standard input, and what it must print."""

    stdin: str
    expected: str


@dataclass(frozen=True)
class Comparison:
    """When what was printed is what is expected; blanks at the end of a line or of all never count."""

    tolerance: float | None = None
    """Numbers in one place may differ by so much, or by that share of the expected one; 0: by no more than their
    spelling, as `1` and `1.0`. None: numbers are text."""
    indent: bool = True
    """Whether blanks before the first word of a line count."""
    checker: str = ""
    """Source of a function `check(stdin, output, expected)` that decides in place of comparing: run in the sandbox,
    in a process of its own after the program's has ended."""


EXACT = Comparison()


@dataclass(frozen=True)
class Program:
    """One candidate with the asserts that it must satisfy, or the cases that it must run through."""

    code: str
    asserts: tuple[str, ...]
    """In place of `cases`."""
    callables: tuple[str, ...]
    """Names the trusted reference defines and the asserts call: only these are run inside."""
    imports: tuple[str, ...] = ()
    """Statements run before the candidate, for example `import math`."""
    setup_code: str = ""
    """Statements run after the candidate and before the asserts."""
    timeout_s: float = 5.0
    """Limit of the program, or of each case, in seconds: processor time, and wall-clock time less waiting for one."""
    cases: tuple[Case, ...] = ()
    """Each is a run of its own of the code, as `__main__`."""
    comparison: Comparison = EXACT
    memory_bytes: int | None = None
    """Of each case, beside what the interpreter takes; None: what the sandbox allows."""


@dataclass(frozen=True)
class AssertResult:
    """The verdict on one assert or case, with its evidence."""

    assertion: str
    verdict: Verdict
    trusted: bool = True
    """False where the assert was evaluated beside the candidate, or could not be: no reward for it."""
    exception: str | None = None
    """Type name of what was raised, e.g. `TypeError`; None where nothing was."""
    message: str | None = None
    """The exception's text or the cause in words; bounded, control characters removed."""
    line: int | None = None
    """1-based line of the candidate's code that the error points at."""
    call: str | None = None
    """Source of the failing call, e.g. `add(1, 2)`."""
    expected: str | None = None
    """What the assert asks for, from trusted data only; bounded."""
    got: str | None = None
    """repr of the value that came back; bounded, written by hostile code."""


@dataclass(frozen=True)
class Execution:
    """What one program did: a result for each assert or case, in order, and what it cost in all."""

    results: tuple[AssertResult, ...]
    cpu_ms: float
    wall_ms: float
    peak_memory_bytes: int
    output_tail: str = ""
    """Last part of what the program printed; bounded, written by hostile code."""
    output_truncated: bool = False


class SandboxError(Exception):
    """The sandbox failed, not the candidate: retry or stop, never a reward of 0."""
