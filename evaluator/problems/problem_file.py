"""Problems from files: a person's own in several forms, and those of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.task_ids import TaskId
from evaluator.problems import livecodebench
from evaluator.problems.json_lines import read_json_lines
from evaluator.problems.own_row import RowError, content_of, described, problem_of
from evaluator.problems.problem import (
    DatasetError,
    Problem,
    ProblemSet,
    by_task_id,
    normalised_row,
    problem_from_row,
    rows_sha256,
)
from evaluator.problems.row_file import FileRow, read_rows

IO = "io"
"""Split of the embedded problems whose tests are input and output."""


def load_embedded(split: str) -> ProblemSet:
    """Load the problems that come with this package; `io` are those of whole programs."""
    folder = Path(__file__).parent / "embedded"
    if split == IO:
        return _set(f"embedded/{split}", read_problems(folder / "io.jsonl"), source="embedded")
    rows = [
        row
        for _, row in read_json_lines(folder / "problems.jsonl", what="problem", error=DatasetError)
    ]
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
    """Load a person's own problems; the columns are in `evaluator.problems.own_row`.

    Raises:
        DatasetError: the file cannot be read, or a row is no problem; the message names the first such row.
    """
    return _set(f"file/{path.name}", read_problems(path), source=str(path))


@dataclass(frozen=True)
class ReadRow:
    """One row of a file: its problem, or what is wrong with it."""

    place: str
    problem: Problem | None
    faults: tuple[str, ...] = ()


def read_problems(path: Path) -> list[Problem]:
    """Return the problems of a file in the order of its rows.

    Raises:
        DatasetError: see `load_problem_file`.
    """
    rows = examine(path)
    wrong = [row for row in rows if row.faults]
    if wrong:
        others = f" (and {len(wrong) - 1} more rows are wrong)" if len(wrong) > 1 else ""
        raise DatasetError(
            f"every row must be a problem, got {wrong[0].place} of {str(path)!r}: "
            f"{wrong[0].faults[0]}{others}; `sdpo-bench problems check FILE` lists all that is wrong"
        )
    return [row.problem for row in rows if row.problem is not None]


def examine(path: Path) -> list[ReadRow]:
    """Read every row of a file; a second problem of one id is wrong, too.

    Raises:
        DatasetError: the file as a whole cannot be read.
    """
    rows = [_read(row) for row in read_rows(path)]
    seen: dict[TaskId, str] = {}
    checked = []
    for row in rows:
        if row.problem is not None:
            first = seen.setdefault(row.problem.task_id, row.place)
            if first != row.place:
                fault = f"task ids must be unique, got {row.problem.task_id!r} in {first} as well"
                row = ReadRow(row.place, row.problem, (*row.faults, fault))
        checked.append(row)
    return checked


def _read(row: FileRow) -> ReadRow:
    """One row as a problem of its form."""
    if row.fault is not None:
        return ReadRow(row.place, None, tuple(described([row.fault])))
    try:
        if livecodebench.is_row(row.values):
            return ReadRow(row.place, livecodebench.problem_of(row.values))
        return ReadRow(row.place, problem_of(row.values))
    except RowError as error:
        return ReadRow(row.place, None, tuple(described(error.faults)))


def _set(name: str, problems: Sequence[Problem], *, source: str) -> ProblemSet:
    """The problems in order of their ids, with their identity."""
    content = [content_of(problem) for problem in problems]
    return ProblemSet(
        name=name,
        sha256=rows_sha256(content),
        problems=tuple(sorted(problems, key=lambda problem: by_task_id(vars(problem)))),
        source=source,
    )
