"""Grades completions: extract the program, run it in the sandbox, say how it did."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.answers.extract import Extraction, extract
from evaluator.problems.mbpp import Problem
from sandbox.client import Sandbox
from sandbox.program import AssertResult, Execution, Program, Verdict

_CLASSES = {
    Verdict.FAILED: "wrong_answer",
    Verdict.TIMEOUT: "timeout",
    Verdict.MEMORY: "memory",
    Verdict.CRASHED: "crashed",
    Verdict.NOT_RUN: "not_run",
    Verdict.PASSED: "untrusted",
    Verdict.UNJUDGED: "untrusted",
}
"""Failure class by the first verdict that earns nothing; an error goes by its exception's name."""

_LIMIT_FACTOR = 4.0
"""A program may take so many times what its problem's reference takes, as in evalplus: processor seconds do more or
less with what else the machine does, and an answer as good as the reference must not fail for it."""

_EXCEPTION_NAME = re.compile(r"[A-Za-z_]\w{0,59}")


@dataclass(frozen=True)
class Grade:
    """One graded completion."""

    problem: Problem
    completion: str
    extraction: Extraction
    execution: Execution
    """Where no code was found nothing ran: every assert or case is NOT_RUN at no cost."""

    @property
    def n_passed(self) -> int:
        """Trusted asserts that passed."""
        return sum(_earns(result) for result in self.execution.results)

    @property
    def n_asserts(self) -> int:
        """Asserts or cases of the problem, trusted or not."""
        return len(self.execution.results)

    @property
    def passed(self) -> bool:
        """Whether every assert passed and is trusted."""
        return self.n_asserts > 0 and self.n_passed == self.n_asserts

    @property
    def outcome(self) -> str:
        """Failure class of the first assert that did not pass, or `passed`.

        Others are `no_code`, `wrong_answer`, an exception's name, `timeout`, `memory`, `crashed`,
        `not_run` and `untrusted` (all passed, but some could only be judged beside the candidate; or a
        value is too large to be compared, or of a class with an equality of its own).
        """
        if self.extraction.code is None:
            return "no_code"
        failing = next((result for result in self.execution.results if not _earns(result)), None)
        if failing is None:
            return "passed" if self.n_asserts else "not_run"
        if failing.verdict is Verdict.ERROR:
            # The name comes from hostile code: a class can be called anything.
            named = _EXCEPTION_NAME.fullmatch(failing.exception or "")
            return named[0] if named else "error"
        return _CLASSES[failing.verdict]


def grade(
    pairs: Sequence[tuple[Problem, str]], sandbox: Sandbox, *, timeout_s: float = 5.0
) -> list[Grade]:
    """Grade (problem, completion) pairs in one sandbox batch; one grade each, in order. A problem can come again.

    `timeout_s` is the time limit of each program, in seconds, where its problem has none of its own; more where the
    reference itself takes long, see `_LIMIT_FACTOR`.

    Raises:
        SandboxError: the sandbox failed; nothing is graded.
    """
    extractions = [
        extract(completion, problem.callables, problem.beginning) for problem, completion in pairs
    ]
    programs = [
        _program(problem, extraction.code, timeout_s=timeout_s)
        for (problem, _), extraction in zip(pairs, extractions, strict=True)
        if extraction.code is not None
    ]
    executions = iter(sandbox.run(programs) if programs else [])
    grades = []
    for (problem, completion), extraction in zip(pairs, extractions, strict=True):
        execution = nothing_ran(problem) if extraction.code is None else next(executions)
        grades.append(Grade(problem, completion, extraction, execution))
    return grades


def _program(problem: Problem, code: str, *, timeout_s: float) -> Program:
    return Program(
        code=code,
        asserts=problem.asserts,
        callables=problem.callables,
        imports=problem.imports,
        setup_code="" if problem.cases else problem.setup_code,
        timeout_s=max(problem.time_limit_s or timeout_s, _LIMIT_FACTOR * problem.reference_cpu_s),
        cases=problem.cases,
        comparison=problem.comparison,
        memory_bytes=problem.memory_bytes,
    )


def nothing_ran(problem: Problem) -> Execution:
    """Return the execution of a completion without code: every test is NOT_RUN, at no cost."""
    tests = problem.asserts or tuple(f"case {index + 1}" for index in range(len(problem.cases)))
    results = tuple(AssertResult(text, Verdict.NOT_RUN) for text in tests)
    return Execution(results=results, cpu_ms=0.0, wall_ms=0.0, peak_memory_bytes=0)


def _earns(result: AssertResult) -> bool:
    return result.trusted and result.verdict is Verdict.PASSED
