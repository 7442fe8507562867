"""Grades completions: extract the program, run it in the sandbox, say how it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.extract import Extraction
from evaluator.mbpp import Problem
from sandbox.client import Sandbox
from sandbox.program import Execution


@dataclass(frozen=True)
class Grade:
    """One graded completion."""

    problem: Problem
    completion: str
    extraction: Extraction
    execution: Execution
    """Where no code was found nothing ran: every assert is NOT_RUN at no cost."""

    @property
    def n_passed(self) -> int:
        """Trusted asserts that passed."""
        raise NotImplementedError

    @property
    def passed(self) -> bool:
        """Whether every assert passed and is trusted."""
        raise NotImplementedError

    @property
    def outcome(self) -> str:
        """Failure class: `passed`, `wrong_answer`, an exception's name, `no_code`, `timeout`, `memory`, `crashed`."""
        raise NotImplementedError


def grade(pairs: Sequence[tuple[Problem, str]], sandbox: Sandbox, *, timeout_s: float = 5.0) -> list[Grade]:
    """Grade (problem, completion) pairs in one sandbox batch; one grade each, in order.

    Raises:
        SandboxError: the sandbox failed; nothing is graded.
    """
    raise NotImplementedError
