"""A sandbox of trusted answers for tests of everything around it, and a tiny policy."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import pytest

from evaluator.problems.mbpp import Problem
from evaluator.sampling.model import Policy, load_policy
from sandbox.program import AssertResult, Execution, Program, Verdict


class FakeSandbox:
    """Runs programs in this process: only for code that these tests wrote themselves."""

    name = "fake"

    def __init__(self) -> None:
        self.programs: list[Program] = []

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        self.programs += programs
        return [self._run(program) for program in programs]

    def _run(self, program: Program) -> Execution:
        results = tuple(_judge(program, text) for text in program.asserts)
        return Execution(results, cpu_ms=1.0, wall_ms=2.0, peak_memory_bytes=3)

    def close(self) -> None:
        pass

    def __enter__(self) -> FakeSandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _judge(program: Program, assertion: str) -> AssertResult:
    space: dict[str, object] = {}
    test = ast.parse(assertion).body[0].test
    call = ast.unparse(test.left if isinstance(test, ast.Compare) else test)
    try:
        for text in (*program.imports, program.code, program.setup_code):
            exec(compile(text, "candidate", "exec"), space)  # noqa: S102
        got = eval(call, space)  # noqa: S307
        holds = eval(ast.unparse(test), space)  # noqa: S307
    except Exception as error:  # noqa: BLE001
        return AssertResult(
            assertion,
            Verdict.ERROR,
            exception=type(error).__name__,
            message=str(error),
            call=call,
            line=getattr(error, "lineno", None),
        )
    expected = ast.unparse(test.comparators[0]) if isinstance(test, ast.Compare) else "True"
    return AssertResult(
        assertion,
        Verdict.PASSED if holds else Verdict.FAILED,
        call=call,
        expected=expected,
        got=repr(got),
    )


@pytest.fixture
def sandbox() -> FakeSandbox:
    return FakeSandbox()


@pytest.fixture
def problem() -> Problem:
    return Problem(
        task_id=7,
        text="Write a function to add two numbers.",
        asserts=("assert add(1, 2) == 3", "assert add(-1, 1) == 0", "assert add(0, 0) == 0"),
        setup_code="",
        imports=(),
        reference="def add(a, b):\n    return a + b",
        callables=("add",),
    )


@pytest.fixture(scope="session")
def tiny_policy(tiny_folder) -> Policy:
    return load_policy(str(tiny_folder), device="cpu")
