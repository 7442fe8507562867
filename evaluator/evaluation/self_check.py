"""The check before any model is scored: all references must pass, and no empty answer may."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from evaluator.grading.grade import grade
from evaluator.problems.mbpp import ProblemSet
from evaluator.sampling.completions import gold_answers
from sandbox.client import Sandbox

_EMPTY = "```python\npass\n```"
"""An answer that runs and does nothing."""

_VERSION = 1
"""Raised when grading changes, so that results of an older check do not count."""


class HarnessError(Exception):
    """Grading itself is broken on this machine; no figure that it gives would mean anything."""


def check_harness(
    problem_set: ProblemSet, sandbox: Sandbox, *, timeout_s: float, cache: bool = True
) -> None:
    """Grade the references and empty answers of a problem set; a passed check is remembered.

    With `cache` the word of an earlier check of the same problems, sandbox and time limit (seconds) is taken.

    Raises:
        HarnessError: a reference fails or an empty answer passes.
        SandboxError: the sandbox failed.
    """
    mark = _cache_dir() / _key(problem_set, sandbox, timeout_s)
    if cache and mark.is_file():
        return
    problems = problem_set.problems
    gold = [(answer.problem, answer.completion) for answer in gold_answers(problems)]
    empty = [(problem, _EMPTY) for problem in problems]
    grades = grade([*gold, *empty], sandbox, timeout_s=timeout_s)
    failing = [item for item in grades[: len(gold)] if not item.passed]
    if failing:
        shown = ", ".join(f"{item.problem.task_id} ({item.outcome})" for item in failing[:5])
        raise HarnessError(
            f"every reference solution must pass before a model is scored, got {len(failing)} of "
            f"{len(gold)} failing: task {shown}; raise --timeout-s on a busy machine, or mend the "
            "sandbox"
        )
    passing = [item.problem.task_id for item in grades[len(gold) :] if item.passed]
    if passing:
        raise HarnessError(
            f"an empty answer must pass no problem, got {len(passing)} passed: task "
            f"{passing[0]}, ...; mend the sandbox or the asserts"
        )
    _remember(mark)


def _key(problem_set: ProblemSet, sandbox: Sandbox, timeout_s: float) -> str:
    """Name of the mark that a passed check leaves."""
    task_ids = [problem.task_id for problem in problem_set.problems]
    identity = repr((_VERSION, problem_set.sha256, task_ids, sandbox.name, timeout_s))
    return hashlib.sha256(identity.encode()).hexdigest()


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sdpo-bench" / "harness"


def _remember(mark: Path) -> None:
    """Leave the mark; without a cache the check runs again, which costs a second."""
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
