"""Turns programs into jobs and outcomes into executions: what the pool does before and after it runs them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence

from sandbox import syntax
from sandbox.guest.protocol import MAX_JOB_BYTES
from sandbox.guest.values import Value
from sandbox.judge.asserts import Assertion, parse
from sandbox.judge.decode import decode
from sandbox.judge.opaque import Opaque
from sandbox.judge.verdict import judge, parse_body
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


def without_asides(assertion: Assertion) -> Assertion:
    """The same assert evaluated whole beside the candidate, where an aside has no value."""
    whole = parse(assertion.source, ())
    return Assertion(assertion.source, whole.calls, None, expected=assertion.expected)


def modules(source: str) -> list[str]:
    """Imports of the library modules that an aside names: the candidate's own imports are not there."""
    names = {node.id for node in ast.walk(syntax.parse(source)) if isinstance(node, ast.Name)}
    return [f"import {name}" for name in sorted(names & sys.stdlib_module_names)]


def aside_value(outcome: Outcome | None) -> Value:
    """Return the value that the sandbox's interpreter gave an aside; opaque where it gave none."""
    if outcome is not None:
        facts = parse_body(outcome.body, 1)
        if facts.steps and isinstance(facts.steps[0], tuple) and len(facts.steps[0]) == 1:
            return decode(facts.steps[0][0])
    return Opaque("aside", "<no value>", False)


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
