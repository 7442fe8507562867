"""Turns programs into jobs and outcomes into executions: what the pool does before and after it runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sandbox.guest.protocol import MAX_JOB_BYTES
from sandbox.guest.values import Value
from sandbox.judge.asserts import Assertion, parse
from sandbox.judge.verdict import judge
from sandbox.pool.task import Outcome
from sandbox.program import AssertResult, Execution, Program, Verdict


def planned(program: Program) -> tuple[Assertion, ...]:
    """Take a program's asserts apart.

    Raises:
        ValueError: an assert that is not one assert statement.
    """
    try:
        return tuple(parse(source, program.callables) for source in program.asserts)
    except SyntaxError as error:
        raise ValueError(str(error)) from error


def judged(
    program: Program,
    plan: Sequence[Assertion],
    outcome: Outcome | None,
    asides: Mapping[tuple[tuple[str, ...], str], Value],
) -> Execution:
    """Judge a program by what came of it; None came of one that was too large to be sent."""
    if outcome is None:
        return too_large(program, plan, MAX_JOB_BYTES)
    needed = {
        source: asides[program.imports, source] for assertion in plan for source in assertion.asides
    }
    return judge(program, plan, outcome.header, outcome.body, asides=needed)


def too_large(program: Program, plan: Sequence[Assertion], max_bytes: int) -> Execution:
    """The execution of a program that does not fit the way to the sandbox: the program's fault."""
    message = f"a program must fit {max_bytes} bytes, got {len(program.code)} characters"
    results = tuple(
        AssertResult(
            assertion.source,
            Verdict.ERROR,
            trusted=assertion.trusted,
            exception="ProgramTooLarge",
            message=message,
        )
        for assertion in plan
    )
    return Execution(results, cpu_ms=0.0, wall_ms=0.0, peak_memory_bytes=0)
