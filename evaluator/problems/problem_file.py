"""Problems from files of one JSON object a line: a person's own, and those of this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluator.problems.json_lines import read_json_lines
from evaluator.problems.problem import (
    DatasetError,
    Problem,
    ProblemSet,
    by_task_id,
    normalised_row,
    problem_from_row,
    rows_sha256,
)
from sandbox.judge.asserts import parse


def load_embedded(split: str) -> ProblemSet:
    """Load the problems that come with this package."""
    path = Path(__file__).parent / "embedded" / "problems.jsonl"
    rows = [row for _, row in read_json_lines(path, what="problem", error=DatasetError)]
    normalised = [normalised_row(row) for row in rows]
    chosen = [
        row for row, raw in zip(normalised, rows, strict=True) if split in ("all", raw["split"])
    ]
    return ProblemSet(
        name=f"embedded/{split}",
        sha256=rows_sha256(normalised),
        problems=tuple(problem_from_row(row) for row in sorted(chosen, key=by_task_id)),
        source="embedded",
    )


def load_problem_file(path: Path) -> ProblemSet:
    """Load a person's own problems: one JSON object a line, with MBPP's field names."""
    normalised = []
    for number, row in read_json_lines(path, what="problem", error=DatasetError):
        try:
            normalised.append(normalised_row(row))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                "each line must hold task_id (integer), text, code and test_list, got "
                f"{type(error).__name__} {str(error)!r} at {str(path)!r} line {number}; mend it"
            ) from error
    problems = []
    for row in sorted(normalised, key=by_task_id):
        try:
            problems.append(problem_from_row(row))
        except SyntaxError as error:
            raise DatasetError(
                f"code and asserts must be Python, got {error.msg!r} in task {row['task_id']} of "
                f"{str(path)!r}; mend it"
            ) from error
    _check_problems(problems, path)
    return ProblemSet(
        name=f"file/{path.name}",
        sha256=rows_sha256(normalised),
        problems=tuple(problems),
        source=str(path),
    )


def _check_problems(problems: Sequence[Problem], path: Path) -> None:
    """Refuse what could not be graded: no problems, doubled ids, asserts without a trusted verdict."""
    if not problems:
        raise DatasetError(
            f"a problem file must hold at least one problem, got none in {str(path)!r}; add some"
        )
    seen: set[int] = set()
    for problem in problems:
        if problem.task_id in seen:
            raise DatasetError(
                f"task ids must be unique, got {problem.task_id} twice in {str(path)!r}; "
                "renumber one"
            )
        seen.add(problem.task_id)
        if not problem.callables:
            raise DatasetError(
                "the asserts must call a function that the reference solution defines, got none "
                f"in task {problem.task_id} of {str(path)!r}; mend it"
            )
        for source in problem.asserts:
            parsed = parse(source, problem.callables)
            if not parsed.trusted:
                raise DatasetError(
                    "each assert must be one that is judged outside the solution, got "
                    f"{source[:200]!r} in task {problem.task_id} of {str(path)!r}: {parsed.reason}; "
                    "compare a call with what it must give, written out"
                )
