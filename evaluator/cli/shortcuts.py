"""Measures on each problem what answers score that solve nothing, so that a pass can be judged.

python -m evaluator.cli.shortcuts --dataset sanitized/test --json shortcuts.json

Four kinds: a constant (each value that an assert expects, and a few others), an argument given back, one
builtin called with the arguments, and a lookup of the asserts that the prompt shows, all or the first alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from analysis.task_ids import TaskId
from analysis.words import percent
from evaluator.cli import command_options
from evaluator.cli.terminal import (
    check_json_path,
    one_line_errors,
    print_line,
    print_table,
    write_json,
)
from evaluator.grading.grade import Grade, grade
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import Problem
from sandbox.client import Sandbox, open_sandbox

KINDS = ("constant", "argument", "builtin", "lookup-all", "lookup-first")

CONSTANTS = ("True", "False", "None", "0", "1", "''", "[]")
_BUILTINS = (
    "abs all any bin bool chr complex dict divmod enumerate float frozenset hash hex int len list max min oct"
    " ord pow range repr reversed round set sorted str sum tuple type zip"
).split()
_GRADED_TOGETHER = 512


@dataclass(frozen=True)
class Score:
    """The best that one kind of shortcut scores on one problem."""

    task_id: TaskId
    kind: str
    n_passed: int
    n_asserts: int
    code: str
    """The program that scored it."""

    @property
    def passed(self) -> bool:
        """Whether it counts as solved."""
        return 0 < self.n_asserts == self.n_passed


def best_scores(problems: Sequence[Problem], sandbox: Sandbox) -> list[Score]:
    """Grade the shortcuts of some problems; one score for each problem and kind, in their order.

    Raises:
        SandboxError: the sandbox failed.
    """
    wanted = [
        (problem, kind, code) for problem in problems for kind, code in shortcut_programs(problem)
    ]
    programs = [(problem, code) for problem, _, code in wanted]
    grades = graded(programs, sandbox)
    best: dict[tuple[TaskId, str], Score] = {}
    for (problem, kind, code), found in zip(wanted, grades, strict=True):
        score = Score(problem.task_id, kind, found.n_passed, found.n_asserts, code)
        earlier = best.get((problem.task_id, kind))
        if earlier is None or score.n_passed > earlier.n_passed:
            best[problem.task_id, kind] = score
    return list(best.values())


def graded(
    programs: Sequence[tuple[Problem, str]], sandbox: Sandbox, *, timeout_s: float = 5.0
) -> Iterator[Grade]:
    """Grade programs, some hundred at a time."""
    for start in range(0, len(programs), _GRADED_TOGETHER):
        chosen = programs[start : start + _GRADED_TOGETHER]
        pairs = [(problem, f"```python\n{code}\n```") for problem, code in chosen]
        yield from grade(pairs, sandbox, timeout_s=timeout_s)


def shortcut_programs(problem: Problem) -> Iterator[tuple[str, str]]:
    """Yield the kind and the program of each shortcut that a problem allows."""
    if not problem.callables:
        return
    name = problem.callables[0]
    shown = [case for text in problem.visible_asserts for case in _cases(text, name)]
    for _, code in constant_programs(problem):
        yield "constant", code
    for index in range(max((case.n_args for case in shown), default=0)):
        yield "argument", _function(name, f"args[{index}]")
    for builtin in _BUILTINS:
        yield "builtin", _function(name, f"_{builtin}(*args)", f"_{builtin} = {builtin}\n")
        if any(case.n_args > 1 for case in shown):
            yield "builtin", _function(name, f"_{builtin}(args[0])", f"_{builtin} = {builtin}\n")
    known = [case for case in shown if case.expected is not None]
    if known:
        yield "lookup-all", _lookup(name, known)
        yield "lookup-first", _lookup(name, known[:1])


def constant_programs(problem: Problem, limit: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield constants as source and the program that returns each: `CONSTANTS`, and the values that asserts expect."""
    name = problem.callables[0]
    cases = [case for text in problem.asserts for case in _cases(text, name)]
    values = [case.expected for case in cases if case.expected is not None]
    for value in dict.fromkeys([*values[:limit], *CONSTANTS]):
        yield value, _function(name, value)


@dataclass(frozen=True)
class _Case:
    """One call of the tested function in an assert."""

    args: str
    """Source of the arguments, as a tuple."""
    n_args: int
    expected: str | None
    """Source of the value that it is compared with; None where the assert says it in another way."""


def _cases(assertion: str, name: str) -> Iterator[_Case]:
    test = ast.parse(assertion.strip()).body[0]
    assert isinstance(test, ast.Assert)  # noqa: S101 - problems hold nothing else
    compared: dict[ast.expr, str] = {}
    match test.test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            compared = {left: ast.unparse(right), right: ast.unparse(left)}
        case ast.Call() as call:
            compared = {call: "True"}
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            compared = {operand: "False"}
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            args = "".join(f"{ast.unparse(arg)}, " for arg in node.args)
            yield _Case(f"({args})", len(node.args), compared.get(node))


def _function(name: str, value: str, before: str = "") -> str:
    """A program whose function returns an expression; builtins keep their own names beside it."""
    return f"{before}def {name}(*args):\n    return {value}"


def _lookup(name: str, cases: Iterable[_Case]) -> str:
    """A program that knows the answers to some calls by heart, and gives the first one to any other."""
    cases = list(cases)
    branches = "".join(
        f"    if repr(args) == repr({case.args}):\n        return {case.expected}\n"
        for case in cases
    )
    return f"def {name}(*args):\n{branches}    return {cases[0].expected}"


@click.command()
@command_options.dataset()
@command_options.mbpp_dir()
@command_options.sandbox()
@command_options.json_path(help="Also write every score to this file.")
def main(dataset: str, mbpp_dir: Path | None, backend: str, json_path: Path | None) -> None:
    """Say which problems fall to answers that solve nothing."""
    with one_line_errors():
        check_json_path(json_path)
        problems = load_problems(dataset, mbpp_dir=mbpp_dir, sandbox=backend).problems
        with open_sandbox(backend) as sandbox:
            scores = best_scores(problems, sandbox)
    rows = []
    for kind in KINDS:
        of_kind = [score for score in scores if score.kind == kind]
        fallen = [score.task_id for score in of_kind if score.passed]
        share = sum(score.n_passed for score in of_kind) / max(
            1, sum(score.n_asserts for score in of_kind)
        )
        shown = " ".join(map(str, fallen[:12])) + (" ..." if len(fallen) > 12 else "")
        rows.append((kind, f"{len(fallen)}/{len(problems)}", percent(share), shown))
    print_table(("shortcut", "solved", "asserts passed", "tasks"), rows)
    plain = {score.task_id for score in scores if score.passed and "lookup" not in score.kind}
    print_line(f"{len(plain)} of {len(problems)} fall to a constant, an argument or one builtin.")
    if json_path is not None:
        write_json(json_path, {"dataset": dataset, "scores": [asdict(score) for score in scores]})


if __name__ == "__main__":
    main()
