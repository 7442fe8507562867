"""Says what is wrong with each problem of a file: what could not be loaded, and what would measure nothing.

The second kind needs the sandbox: a reference that fails, a test that holds for any constant, a constant that passes
every test, a checker that refuses the expected output.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.task_ids import TaskId
from evaluator.cli.shortcuts import CONSTANTS, constant_programs, graded
from evaluator.grading.feedback import feedback
from evaluator.grading.grade import Grade
from evaluator.problems.problem import Problem
from evaluator.problems.problem_file import examine
from sandbox.client import Sandbox
from sandbox.program import Verdict

_MAX_CONSTANTS = 40
"""Expected values of one problem that are tried as the constant."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one row."""

    place: str
    task_id: TaskId | None
    """None where the row is no problem."""
    what: str


@dataclass(frozen=True)
class Checked:
    """What a check of a file found."""

    n_rows: int
    n_references: int
    n_hidden: int
    """Tests that no prompt shows."""
    findings: tuple[Finding, ...]
    """In the order of the rows."""

    @property
    def n_wrong(self) -> int:
        """Rows with something wrong."""
        return len({finding.place for finding in self.findings})


def check_file(path: Path, sandbox: Sandbox, *, timeout_s: float = 5.0) -> Checked:
    """Check every row of a file of problems.

    Raises:
        DatasetError: the file as a whole cannot be read.
        SandboxError: the sandbox failed.
    """
    rows = examine(path, sandbox=sandbox)
    sound = [row.problem for row in rows if row.problem is not None and not row.faults]
    found: dict[TaskId, list[str]] = defaultdict(list)
    for check in (_references, _constants, _checkers):
        for problem, what in check(sound, sandbox, timeout_s):
            found[problem.task_id].append(what)
    findings = []
    for row in rows:
        task_id = None if row.problem is None else row.problem.task_id
        said = row.faults or tuple(found.get(task_id, ()) if task_id is not None else ())
        left_out = [f"an input is left out: {what}" for what in row.left_out]
        findings += [Finding(row.place, task_id, what) for what in (*said, *left_out)]
    return Checked(
        n_rows=len(rows),
        n_references=sum(bool(problem.reference) for problem in sound),
        n_hidden=sum(problem.n_hidden for problem in sound),
        findings=tuple(findings),
    )


Found = Iterator[tuple[Problem, str]]


def _references(problems: Sequence[Problem], sandbox: Sandbox, timeout_s: float) -> Found:
    """References that do not pass their own tests."""
    gold = [(problem, problem.reference) for problem in problems if problem.reference]
    for grade in graded(gold, sandbox, timeout_s=timeout_s):
        if grade.passed:
            continue
        said = feedback(grade, max_chars=400, hidden=False) or grade.outcome
        lines = [line.strip(" -") for line in said.split("\n")]
        yield grade.problem, f"its reference fails: {' '.join(lines)}"


def _constants(problems: Sequence[Problem], sandbox: Sandbox, timeout_s: float) -> Found:
    """Problems, and tests, that answers pass which do not look at what they are given."""
    wanted = [
        (problem, constant, code)
        for problem in problems
        for constant, code in _constant_answers(problem)
    ]
    programs = [(problem, code) for problem, _, code in wanted]
    grades = graded(programs, sandbox, timeout_s=timeout_s)
    by_problem: dict[TaskId, dict[str, Grade]] = defaultdict(dict)
    for (problem, constant, _), grade in zip(wanted, grades, strict=True):
        by_problem[problem.task_id][constant] = grade
    for problem in problems:
        tried = by_problem[problem.task_id]
        passing = next((constant for constant, grade in tried.items() if grade.passed), None)
        if passing is not None:
            how = "printing" if problem.cases else "returning"
            yield problem, f"a constant passes every test: {how} {passing[:80]}"
        if problem.asserts:
            yield from _indifferent(problem, tried)
            yield from _beside(problem, tried.values())


def _constant_answers(problem: Problem) -> Iterator[tuple[str, str]]:
    """Constants as text, and the program that gives each."""
    if problem.asserts:
        yield from constant_programs(problem, _MAX_CONSTANTS)
        return
    outputs = dict.fromkeys(("", *(case.expected for case in problem.cases)))
    for text in list(outputs)[:_MAX_CONSTANTS]:
        yield repr(text), f"print({text!r}, end='')"


def _indifferent(problem: Problem, grades: Mapping[str, Grade]) -> Found:
    """Asserts that hold for two constants which are not even equal: they ask for no value."""
    for index, source in enumerate(problem.asserts):
        tried = {
            name: grades[name].execution.results[index] for name in CONSTANTS if name in grades
        }
        holds = [name for name, result in tried.items() if result.verdict is Verdict.PASSED]
        values = [ast.literal_eval(constant) for constant in holds]
        other = next((at for at, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            both = f"{holds[0]} and for {holds[other]} alike"
            yield problem, f"a constant passes the assert {source[:100]!r}: it holds for {both}"


def _beside(problem: Problem, grades: Collection[Grade]) -> Found:
    """Asserts that only the answer's own process can judge, which earns nothing: what they expect needs `setup`."""
    for index, source in enumerate(problem.asserts):
        results = [grade.execution.results[index] for grade in grades]
        if results and not any(result.trusted for result in results):
            advice = "write out what it expects without names of setup"
            what = f"the assert {source[:100]!r} cannot be judged outside the answer: {advice}"
            yield problem, what


def _checkers(problems: Sequence[Problem], sandbox: Sandbox, timeout_s: float) -> Found:
    """Checkers that refuse what their own case expects."""
    for problem in problems:
        if not problem.comparison.checker:
            continue
        programs = [(problem, f"print({case.expected!r}, end='')") for case in problem.cases]
        for index, grade in enumerate(graded(programs, sandbox, timeout_s=timeout_s)):
            result = grade.execution.results[index]
            if result.verdict is not Verdict.PASSED:
                reason = result.message or result.expected or "it says no"
                what = (
                    f"its checker refuses the expected output of case {index + 1}: {reason[:100]}"
                )
                yield problem, what
