"""Reads what other programs logged: metrics, completions and evaluations as CSV, Parquet or JSON.

A column or cell that says nothing that we store is left out and named; nothing is made up: what a log
does not hold is NULL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from scipy.stats import binomtest

from analysis.journal import StoreError
from analysis.log_files import read_table
from analysis.records import Eval, EvalResult, Metric, Record, Rollout
from analysis.render import Result, visible

_STEP = ("step", "global_step", "train/global_step", "_step", "trainer/global_step")
_TRUE, _FALSE = (
    {"true", "1", "1.0", "yes", "pass", "passed"},
    {"false", "0", "0.0", "no", "fail", "failed"},
)
_NO_METRIC = ("epoch", "_runtime", "_timestamp", "relative time (process)")


@dataclass
class Imported:
    """What a file held."""

    form: str
    """metrics, completions or evaluation."""
    records: list[Record] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Columns that are no numbers."""


def read_log(path: Path, *, label: str, dataset: str) -> Imported:
    """Read one file.

    Args:
        path: .csv, .parquet, .jsonl or .json; the latter may be TRL's trainer_state.json.
        label: what a person calls the run, for an evaluation.
        dataset: the problem set, for an evaluation.

    Raises:
        StoreError: the file cannot be read, or its columns are none of the forms.
    """
    try:
        return _recognised(path, read_table(path), label=label, dataset=dataset)
    except ValidationError as error:
        raise StoreError(
            f"a log must hold values that can be stored, got {str(path)!r} "
            f"({error.errors()[0]['msg']}); mend it"
        ) from error


def _recognised(path: Path, table: Result, *, label: str, dataset: str) -> Imported:
    """Read a table in the form that its columns tell."""
    names = {name.strip().lower(): i for i, name in enumerate(table.columns)}
    step = next((names[name] for name in _STEP if name in names), None)
    if step is not None and "completion" in names:
        return _completions(path, table, names, step)
    if "task_id" in names and "passed" in names:
        return _evaluation(path, table, names, label=label, dataset=dataset)
    if step is not None and {"name", "value"} <= set(names):
        return _long_metrics(path, table, names, step)
    if step is not None:
        return _metrics(path, table, step)
    raise StoreError(
        "a log must have the columns step and numbers, or step and completion, or task_id and passed, "
        f"got {visible(', '.join(table.columns), 200)!r} in {str(path)!r}; rename its columns"
    )


def _metrics(path: Path, table: Result, step: int) -> Imported:
    """One column a metric."""
    found = Imported("metrics")
    for i, name in enumerate(table.columns):
        if i == step or name.strip().lower() in _NO_METRIC:
            continue
        values = [_number(row[i]) for row in table.rows]
        if any(row[i] is not None and v is None for row, v in zip(table.rows, values, strict=True)):
            found.left_out.append(name)
            continue
        for number, (row, value) in enumerate(zip(table.rows, values, strict=True), 2):
            if value is not None:
                at = _step_of(path, row[step], number)
                found.records.append(Metric(step=at, name=name.strip(), value=value))
    return found


def _long_metrics(path: Path, table: Result, names: dict[str, int], step: int) -> Imported:
    """One row a metric."""
    found = Imported("metrics")
    for number, row in enumerate(table.rows, 2):
        value = _number(row[names["value"]])
        if value is None:
            found.left_out.append(f"line {number}")
            continue
        found.records.append(
            Metric(
                step=_step_of(path, row[step], number), name=str(row[names["name"]]), value=value
            )
        )
    return found


def _completions(path: Path, table: Result, names: dict[str, int], step: int) -> Imported:
    """TRL's log of completions: prompt, completion, a column a reward function, advantage."""
    found = Imported("completions")
    known = {"prompt", "completion", "advantage", "reward", "task_id"}
    rewards = []
    for i, name in enumerate(table.columns):
        if i == step or name.strip().lower() in known:
            continue
        if all(row[i] is None or _number(row[i]) is not None for row in table.rows):
            rewards.append(i)
        else:
            found.left_out.append(name)
    for at, group, member, row in _grouped(path, table, names, step):
        given = _number(_cell(row, names, "reward"))
        parts = [value for i in rewards if (value := _number(row[i])) is not None]
        found.records.append(
            Rollout(
                step=at,
                group_index=group,
                member_index=member,
                execution_id=f"imported-{at}-{group}-{member}",
                task_id=_integer(_cell(row, names, "task_id")),
                prompt=_text(_cell(row, names, "prompt")),
                completion=_text(row[names["completion"]]),
                n_prompt_tokens=None,
                n_completion_tokens=None,
                truncated=None,
                code=None,
                outcome="imported",
                n_passed=None,
                n_asserts=None,
                correctness=None,
                format_score=None,
                reward=given if given is not None else math.fsum(parts),
                advantage=_number(_cell(row, names, "advantage")),
                feedback=None,
                demonstration_member=None,
                feedback_used=False,
                teacher_prompt=None,
            )
        )
    return found


def _grouped(
    path: Path, table: Result, names: dict[str, int], step: int
) -> Iterator[tuple[int, int, int, tuple[Any, ...]]]:
    """Step, group and member of each row: neighbours with one prompt are a group."""
    last_step, last_prompt, group, member = None, None, -1, 0
    for number, row in enumerate(table.rows, 2):
        at, prompt = _step_of(path, row[step], number), _text(_cell(row, names, "prompt"))
        if at != last_step:
            group, member = 0, 0
        elif prompt != last_prompt:
            group, member = group + 1, 0
        else:
            member += 1
        last_step, last_prompt = at, prompt
        yield at, group, member, row


def _evaluation(
    path: Path, table: Result, names: dict[str, int], *, label: str, dataset: str
) -> Imported:
    """One row a completion of a problem, with whether it passed."""
    found, seen, eval_id = Imported("evaluation"), dict[int, int](), path.stem[:100]
    n_passed = 0
    for number, row in enumerate(table.rows, 2):
        task_id, passed = _integer(row[names["task_id"]]), _flag(row[names["passed"]])
        if task_id is None or passed is None:
            raise StoreError(
                f"task_id must be a number and passed true or false, got line {number} of "
                f"{str(path)!r}; mend it"
            )
        sample = seen[task_id] = seen.get(task_id, -1) + 1
        n_passed += passed and sample == 0
        outcome = _cell(row, names, "outcome")
        found.records.append(
            EvalResult(
                eval_id=eval_id,
                task_id=task_id,
                sample_index=sample,
                execution_id=f"imported-{eval_id}-{task_id}-{sample}",
                prompt=None,
                completion=_text(_cell(row, names, "completion")),
                code=None,
                outcome=_text(outcome) if outcome else "passed" if passed else "imported",
                passed=passed,
                n_passed=None,
                n_asserts=None,
                n_completion_tokens=None,
                truncated=None,
                feedback=None,
            )
        )
    interval = binomtest(n_passed, len(seen)).proportion_ci(method="wilson")
    found.records.append(
        Eval(
            eval_id=eval_id,
            step=None,
            label=label,
            dataset=dataset,
            protocol="imported",
            decoding="imported",
            n=len(seen),
            k=n_passed,
            interval_low=float(interval.low),
            interval_high=float(interval.high),
            wall_s=None,
        )
    )
    return found


def _cell(row: Sequence[Any], names: dict[str, int], name: str) -> Any:  # noqa: ANN401
    """A cell by its column's name; None where there is no such column."""
    return row[names[name]] if name in names else None


def _text(value: object) -> str:
    """A text, or a chat as its last message's content: TRL logs either."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return str(value[-1].get("content", ""))
    return "" if value is None else str(value)


def _number(value: object) -> float | None:
    """A number, from text too; None where it is none."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _integer(value: object) -> int | None:
    """A whole number, from text such as `5.0` too; None where it is none."""
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return None
    return int(number)


def _step_of(path: Path, value: object, line: int) -> int:
    """The optimizer step of a row."""
    step = _integer(value)
    if step is None or step < 0:
        raise StoreError(
            f"a step must be a whole number from 0, got {visible(str(value), 60)!r} in line {line} of "
            f"{str(path)!r}; mend it"
        )
    return step


def _flag(value: object) -> bool | None:
    """True or false, in the ways that logs say it."""
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None
