"""Grades answers to rows in MBPP's form, whoever holds them: the one way from a foreign row to our grade."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.grading.grade import Grade, grade
from evaluator.problems.problem import Problem, normalised_row, problem_from_row
from sandbox.client import Sandbox, open_sandbox
from sandbox.judge.called import called_names

SANDBOX_VARIABLE = "SDPO_BENCH_SANDBOX"
"""Where programs run if the caller does not say: auto, docker, process, or http://HOST:PORT."""
COLUMNS = ("test_list", "test_imports", "test_setup_code", "code")
"""What a row may hold: asserts; statements before them; statements after the candidate; a reference solution."""

_open: dict[tuple[str, int], Sandbox] = {}
_lock = threading.Lock()


def grade_rows(
    rows: Sequence[Mapping[str, Any]],
    completions: Sequence[str],
    *,
    sandbox: str | None = None,
    timeout_s: float = 5.0,
) -> list[Grade]:
    """Grade one completion for each row, in one batch of the sandbox.

    Args:
        rows: with COLUMNS; only `test_list` must be there.
        completions: a model's answers.
        sandbox: as `--sandbox`; else the variable SDPO_BENCH_SANDBOX, else auto. It is opened once a process.
        timeout_s: limit of each program, in seconds.

    Raises:
        SandboxError: the sandbox failed; nothing is graded.
        ValueError: a row that holds no asserts, or other than asserts.
    """
    pairs = list(zip(map(problem_of, rows), completions, strict=True))
    return grade(pairs, opened(sandbox), timeout_s=timeout_s)


def problem_of(row: Mapping[str, Any]) -> Problem:
    """Return the problem of a row; without a reference solution, the names to define are those the asserts call.

    Raises:
        ValueError: no list of asserts, or statements that are no Python.
    """
    asserts = row.get("test_list")
    if isinstance(asserts, str) or not isinstance(asserts, Sequence) or not asserts:
        raise ValueError(
            f"test_list must be a list of asserts, got {asserts!r:.100}; name the column so"
        )
    texts = [str(text).strip() for text in asserts]
    imports = [str(line) for line in row.get("test_imports") or ()]
    setup, code = str(row.get("test_setup_code") or ""), str(row.get("code") or "")
    try:
        if not code:
            names = called_names(texts, imports)
            return Problem(0, "", tuple(texts), setup, tuple(imports), "", names)
        plain = {"task_id": 0, "text": "", "code": code, "test_list": texts}
        more = {"test_setup_code": setup, "test_imports": imports}
        return problem_from_row(normalised_row({**plain, **more}))
    except SyntaxError as error:
        raise ValueError(f"a row must hold Python, got {error}; correct it") from error


def opened(name: str | None) -> Sandbox:
    """Return this process's sandbox of a name; a fork opens its own."""
    backend = name or os.environ.get(SANDBOX_VARIABLE) or "auto"
    key = backend, os.getpid()
    with _lock:
        if key not in _open:
            _open[key] = open_sandbox(backend)
            atexit.register(_open[key].close)
        return _open[key]


os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
