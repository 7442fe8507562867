"""Problems from files: a person's own in several forms, and those of this package."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.task_ids import TaskId
from evaluator.problems import livecodebench
from evaluator.problems.evalplus import rows as evalplus
from evaluator.problems.evalplus.expected import expected_values
from evaluator.problems.own_row import RowError, content_of, problem_of
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
from sandbox.client import Sandbox

IO = "io"
"""Split of the embedded problems whose tests are input and output."""


@functools.cache
def load_embedded(split: str) -> ProblemSet:
    """Load the problems that come with this package; `io` are those of whole programs."""
    folder = Path(__file__).parent / "embedded"
    if split == IO:
        return _set(f"embedded/{split}", read_problems(folder / "io.jsonl"), source="embedded")
    rows = [json.loads(line) for line in (folder / "problems.jsonl").read_bytes().splitlines()]
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


def load_problem_file(path: Path, *, sandbox: Sandbox | str = "auto") -> ProblemSet:
    """Load a person's own problems from a file or folder; the columns are in `own_row`, evalplus' in its own folder.

    Canonical solutions that must be run for what they return run in `sandbox`, an open one or the backend to open.

    Raises:
        DatasetError: the file cannot be read, or a row is no problem; the message names the first such row.
        SandboxError: it is needed and cannot be had.
    """
    return _set(f"file/{path.name}", read_problems(path, sandbox=sandbox), source=str(path))


@dataclass(frozen=True)
class ReadRow:
    """One row of a file: its problem, or what is wrong with it."""

    place: str
    problem: Problem | None
    faults: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Inputs that grade nothing, each with the reason."""


def read_problems(path: Path, *, sandbox: Sandbox | str = "auto") -> list[Problem]:
    """Return the problems of a file in the order of its rows; says how many inputs are left out.

    Raises:
        DatasetError, SandboxError: see `load_problem_file`.
    """
    rows = examine(path, sandbox=sandbox, only_if_sound=True)
    wrong = [row for row in rows if row.faults]
    if wrong:
        others = f" (and {len(wrong) - 1} more rows are wrong)" if len(wrong) > 1 else ""
        raise DatasetError(
            f"every row must be a problem, got {wrong[0].place} of {str(path)!r}: "
            f"{wrong[0].faults[0]}{others}; `sdpo-bench problems check FILE` lists all that is wrong"
        )
    n_left_out = sum(len(row.left_out) for row in rows)
    if n_left_out:
        what = "1 input is" if n_left_out == 1 else f"{n_left_out} inputs are"
        _note(f"{path.name}: {what} left out; `sdpo-bench problems check FILE` says why")
    return [row.problem for row in rows if row.problem is not None]


@functools.cache
def _note(text: str) -> None:
    """Say it once a process, however often the file is loaded."""
    print(text, file=sys.stderr)


def examine(
    path: Path, *, sandbox: Sandbox | str = "auto", only_if_sound: bool = False
) -> list[ReadRow]:
    """Read every row of a file or folder, see `load_problem_file`; a second problem of one id is wrong, too.

    With `only_if_sound` no canonical solution runs where some row is wrong already.

    Raises:
        DatasetError: the file as a whole cannot be read.
        SandboxError: it is needed and cannot be had.
    """
    found = [_read(row) for row in read_rows(path)]
    if only_if_sound and (wrong := [r for r in found if isinstance(r, ReadRow) and r.faults]):
        return wrong
    rows = _with_expected(found, sandbox)
    seen: dict[TaskId, str] = {}
    checked = []
    for row in rows:
        if row.problem is not None:
            first = seen.setdefault(row.problem.task_id, row.place)
            if first != row.place:
                fault = f"task ids must be unique, got {row.problem.task_id!r} in {first} as well"
                row = replace(row, faults=(*row.faults, fault))
        checked.append(row)
    return checked


@dataclass(frozen=True)
class _Asked:
    """A row of which the expected values are not known yet."""

    place: str
    row: evalplus.Row


def _with_expected(rows: Sequence[ReadRow | _Asked], sandbox: Sandbox | str) -> list[ReadRow]:
    """The rows, those of evalplus with what their canonical solutions return."""
    asked = [row.row for row in rows if isinstance(row, _Asked)]
    answered = iter(expected_values([row.question for row in asked], sandbox))
    read = []
    for row in rows:
        if isinstance(row, _Asked):
            try:
                problem, left_out = evalplus.problem_of(row.row, next(answered))
                row = ReadRow(row.place, problem, left_out=_lines(left_out))
            except RowError as error:
                row = ReadRow(row.place, None, _lines(error.faults))
        read.append(row)
    return read


def _read(row: FileRow) -> ReadRow | _Asked:
    try:
        if row.fault is not None:
            raise RowError(row.fault)
        if livecodebench.is_row(row.values):
            return ReadRow(row.place, livecodebench.problem_of(row.values))
        if evalplus.is_row(row.values):
            return _Asked(row.place, evalplus.read_row(row.values))
        return ReadRow(row.place, problem_of(row.values))
    except RowError as error:
        return ReadRow(row.place, None, _lines(error.faults))


def _lines(faults: Iterable[str]) -> tuple[str, ...]:
    """Each fault once, on one line, bounded."""
    return tuple(" ".join(fault.split())[:400] for fault in dict.fromkeys(faults))


def _set(name: str, problems: Sequence[Problem], *, source: str) -> ProblemSet:
    """The problems in order of their ids, with their identity."""
    content = [content_of(problem) for problem in problems]
    return ProblemSet(
        name=name,
        sha256=rows_sha256(content),
        problems=tuple(sorted(problems, key=lambda problem: by_task_id(vars(problem)))),
        source=source,
    )
