"""Answers that need no sampling: recorded completions from a file, and the reference solutions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.task_ids import TaskId, checked_task_id, task_order
from evaluator.answers.answer_text import opened_by
from evaluator.problems.mbpp import Problem, ProblemSet


class CompletionsError(Exception):
    """A file of recorded completions cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Answer:
    """One completion of one problem, not yet graded."""

    problem: Problem
    completion: str
    sample_index: int = 0
    prompt: str | None = None
    """Templated prompt; None for an answer that was not sampled here."""
    n_tokens: int | None = None
    """Its end token counted, whichever engine wrote it."""
    truncated: bool | None = None

    @property
    def graded_text(self) -> str:
        """The completion, after the tag for thinking where the prompt ends with one."""
        return opened_by(self.prompt) + self.completion


def gold_answers(problems: Sequence[Problem]) -> list[Answer]:
    """Return the reference solutions, of the problems that have one, as a policy would write them."""
    return [
        Answer(problem, f"```python\n{problem.reference}\n```")
        for problem in problems
        if problem.reference
    ]


def read_completions(path: Path, problem_set: ProblemSet) -> list[Answer]:
    """Read recorded completions, in order of task id and sample index.

    Each line is a JSON object with `task_id` and `completion` (or `solution`, as evalplus calls a whole program), and
    `sample_index` where a task has several: any number of them, numbered in any way. Other fields do not matter.

    Raises:
        CompletionsError: unreadable, no rows, a malformed or doubled row, or an unknown task.
    """
    by_id = {problem.task_id: problem for problem in problem_set.problems}
    answers: list[Answer] = []
    lines_by_key: dict[tuple[TaskId, int], int] = {}
    for number, row in _json_lines(path):
        completion = row.get("completion", row.get("solution"))
        sample_index = row.get("sample_index", 0)
        where = f"{str(path)!r} line {number}"
        task_id = _id(row.get("task_id"))
        if task_id is None or not isinstance(completion, str):
            raise CompletionsError(
                "each line must hold an integer task_id or a name, and a text completion, got "
                f"{row.get('task_id')!r:.60} and {type(completion).__name__} at {where}; mend it"
            )
        if type(sample_index) is not int or sample_index < 0:  # JSON's true is no integer
            raise CompletionsError(
                f"sample_index must be an integer from 0, got {sample_index!r:.60} at {where}; mend it"
            )
        if task_id not in by_id:
            raise CompletionsError(
                f"task ids must be of {problem_set.name} ({len(by_id)} problems), got {task_id!s:.100} at "
                f"{where}; name the right --dataset"
            )
        earlier = lines_by_key.setdefault((task_id, sample_index), number)
        if earlier != number:
            raise CompletionsError(
                f"each task and sample_index must come once, got task {task_id} sample "
                f"{sample_index} at lines {earlier} and {number} of {str(path)!r}; remove one, or "
                "number several samples by sample_index"
            )
        answers.append(Answer(by_id[task_id], completion, sample_index))
    if not answers:
        raise CompletionsError(
            f"a completions file must hold at least one row, got none in {str(path)!r}; "
            "record some or name another file"
        )
    return sorted(
        answers, key=lambda answer: (task_order(answer.problem.task_id), answer.sample_index)
    )


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of each line that is not blank.

    Raises:
        CompletionsError: the file or a line cannot be read.
    """
    try:
        # Not text lines: a lone carriage return or a line separator within a string ends no object.
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CompletionsError(
            f"the completions file must be readable, got {str(path)!r} ({error.strerror}); correct its name"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # Deeply nested brackets exhaust the parser's stack.
        except (ValueError, RecursionError) as error:
            raise CompletionsError(
                f"each line must hold one JSON object, got {str(path)!r} line {number} "
                f"({str(error)[:100]}); mend or remove it"
            ) from error
        if not isinstance(row, dict):
            raise CompletionsError(
                f"each line must hold one JSON object, got {type(row).__name__} at {str(path)!r} "
                f"line {number}; mend or remove it"
            )
        yield number, row


def _id(value: object) -> TaskId | None:
    with contextlib.suppress(ValueError):
        return checked_task_id(value)
    return None
