"""What asserts need of the interpreter but not of a candidate, e.g. `sys.getsizeof((1, 2))`: evaluated once."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from sandbox import syntax
from sandbox.guest.protocol import Call, Job
from sandbox.guest.values import Value
from sandbox.judge.asserts import Assertion, parse
from sandbox.judge.decode import decode
from sandbox.judge.opaque import Opaque
from sandbox.judge.verdict import parse_body
from sandbox.pool.task import Execute, Outcome, Run
from sandbox.program import Program

MAX_KEPT = 10_000
"""Values that are kept for later calls: a server meets asserts without end."""
_TIMEOUT_S = 5.0

Aside: TypeAlias = tuple[tuple[str, ...], str]
"""Imports and source of what is evaluated without a candidate."""


class Asides:
    """The values that one sandbox's interpreter has given so far; safe to use from several threads."""

    def __init__(self) -> None:
        self.known: dict[Aside, Value] = {}

    def values(
        self,
        programs: Sequence[Program],
        plans: Sequence[tuple[Assertion, ...]],
        execute: Execute,
    ) -> dict[Aside, Value]:
        """Return the value of each aside that the plans need.

        Args:
            programs: whose imports they see.
            plans: the asserts of each program, taken apart.
            execute: runs jobs.
        """
        needed = {
            (program.imports, source): None
            for program, plan in zip(programs, plans, strict=True)
            for assertion in plan
            for source in assertion.asides
        }
        known = dict(self.known) if needed else {}
        wanted = [key for key in needed if key not in known]
        if wanted:
            runs = [
                Run(Job((*imports, *modules(source)), "", "", ((Call(source),),)), _TIMEOUT_S)
                for imports, source in wanted
            ]
            for key, outcome in zip(wanted, execute(runs), strict=True):
                known[key] = _value(outcome)
            # Another thread's may be lost here: they are evaluated again.
            self.known = known if len(known) <= MAX_KEPT else {}
        return {key: known[key] for key in needed}


def modules(source: str) -> list[str]:
    """Imports of the library modules that an aside names: the candidate's own imports are not there."""
    names = {node.id for node in ast.walk(syntax.parse(source)) if isinstance(node, ast.Name)}
    return [f"import {name}" for name in sorted(names & sys.stdlib_module_names)]


def _value(outcome: Outcome | None) -> Value:
    """Return the value that the sandbox's interpreter gave an aside; opaque where it gave none."""
    if outcome is not None:
        facts = parse_body(outcome.body, 1)
        if facts.steps and isinstance(facts.steps[0], tuple) and len(facts.steps[0]) == 1:
            return decode(facts.steps[0][0])
    return Opaque("aside", "<no value>", False)


def judgeable(
    programs: Sequence[Program],
    plans: Sequence[tuple[Assertion, ...]],
    asides: Mapping[Aside, Value],
) -> list[tuple[Assertion, ...]]:
    """The plans, where an aside has no value with its assert evaluated whole beside the candidate."""
    return [
        tuple(
            _whole(assertion)
            if any(
                isinstance(asides[program.imports, source], Opaque) for source in assertion.asides
            )
            else assertion
            for assertion in plan
        )
        for program, plan in zip(programs, plans, strict=True)
    ]


def _whole(assertion: Assertion) -> Assertion:
    calls = parse(assertion.source, ()).calls
    return Assertion(assertion.source, calls, None, expected=assertion.expected)
