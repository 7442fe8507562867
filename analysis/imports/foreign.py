"""Reads logs of other programs: metrics, completions and evaluations as CSV, Parquet or JSON.

A column or cell that says nothing that we store is left out and named; nothing is made up: what a log
does not hold is NULL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.imports.foreign_evals import (
    Answer,
    Imported,
    evalplus_results,
    evaluation,
    harness_reader,
    is_lm_eval_sample,
    lm_eval_results,
    lm_eval_samples,
    logged,
)
from analysis.imports.log_files import read_content, read_table
from analysis.journal.journal import StoreError
from analysis.records import Metric, Rollout
from analysis.render import Result, visible
from analysis.task_ids import TaskId, checked_task_id

_STEP = ("step", "global_step", "train/global_step", "_step", "trainer/global_step")
_TRUE = {"true", "1", "1.0", "yes", "pass", "passed"}
_FALSE = {"false", "0", "0.0", "no", "fail", "failed"}
_NAME = ("name", "tag", "metric", "key")
"""The column of a metric's name where each row is one metric."""
_NO_METRIC = (
    "",
    "unnamed: 0",
    "epoch",
    "_runtime",
    "_timestamp",
    "relative time (process)",
    "wall time",
    *_STEP,
)
_ENVELOPE = ("__MIN", "__MAX")
"""What Weights & Biases adds to each column of a chart: least and largest value of a smoothed point."""
_OF_RUN = " - "
"""What stands between a run's name and a metric's in such a column."""
_TRACKED_IN_TRAINING = "train/"
"""What transformers puts before a metric's name when it tells a tracker; its own log has none."""
_TENSORBOARD = {"wall time", "step", "value"}
"""Columns of TensorBoard's CSV: only the file's name says of what, with `_` for each `/`."""


def read_log(
    path: Path, *, label: str, dataset: str | None = None, run: str | None = None
) -> Imported:
    """Read one file.

    Args:
        path: .csv, .parquet, .jsonl or .json; the latter may be TRL's trainer_state.json or a harness' results.
        label: what a person calls the run, for an evaluation.
        dataset: the problem set, for an evaluation; None takes the name that the file gives.
        run: which run of a chart's export is meant, where it shows several.

    Raises:
        StoreError: the file cannot be read, or its columns are none of the forms.
    """
    if not path.is_file():
        raise StoreError(
            f"a log must be a file, got {str(path)!r}, which is none; write it to one and name that"
        )
    try:
        if path.suffix.lower() == ".json":
            content = read_content(path)
            match harness_reader(content):
                case "lm-eval":
                    return lm_eval_results(path, content, label=label, dataset=dataset)
                case "evalplus":
                    return evalplus_results(path, content, label=label, dataset=dataset)
        table = read_table(path)
        if is_lm_eval_sample(dict.fromkeys(table.columns)):
            return lm_eval_samples(path, table.records(), label=label, dataset=dataset)
        return _recognised(path, _of_one_run(path, table, run), label=label, dataset=dataset)
    except ValidationError as error:
        raise StoreError(
            f"a log must hold values that can be stored, got {str(path)!r} "
            f"({visible(error.errors()[0]['msg'], 200)}); mend it"
        ) from error


def _of_one_run(path: Path, table: Result, run: str | None) -> Result:
    """Take the names of runs off a chart's columns, and its envelopes away. StoreError: it is unclear of which run."""
    names = [name.strip() for name in table.columns]
    plain = [name for name in names if not name.endswith(_ENVELOPE)]
    runs = dict.fromkeys(name.rpartition(_OF_RUN)[0] for name in plain if _OF_RUN in name)
    others = [name for name in plain if _OF_RUN not in name]
    is_chart = bool(runs) and all(name.lower() in _NO_METRIC for name in others)
    if not is_chart:
        if run is not None:
            raise StoreError(
                f"--run must stand with a chart's export, got {str(path)!r} without names of runs; "
                "leave it out"
            )
        kept = [i for i, name in enumerate(names) if not _is_envelope(name, plain)]
        return _columns(table, kept, [names[i] for i in kept])
    if run is None and len(runs) > 1:
        shown = ", ".join(repr(visible(name, 40)) for name in list(runs)[:4])
        raise StoreError(
            f"a log must be of one run, got {len(runs)} ({shown}) in {str(path)!r}; "
            "name one by --run, and import the others as runs of their own"
        )
    chosen = next(iter(runs)) if run is None else run
    if chosen not in runs:
        raise StoreError(
            f"--run must be one of the runs in {str(path)!r}, got {run!r}; "
            f"there are: {visible(', '.join(runs), 200)}"
        )
    kept = [
        i
        for i, name in enumerate(names)
        if not name.endswith(_ENVELOPE)
        and (name.rpartition(_OF_RUN)[0] == chosen or _OF_RUN not in name)
    ]
    return _columns(table, kept, [names[i].rpartition(_OF_RUN)[2] for i in kept])


def _is_envelope(name: str, plain: Sequence[str]) -> bool:
    return name.endswith(_ENVELOPE) and name[: -len(_ENVELOPE[0])] in plain


def _columns(table: Result, kept: Sequence[int], names: Sequence[str]) -> Result:
    """Some columns of a table under other names."""
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    return Result(tuple(names), rows)


def _recognised(path: Path, table: Result, *, label: str, dataset: str | None) -> Imported:
    """Read a table in the form that its columns tell."""
    names = {name.strip().lower(): i for i, name in enumerate(table.columns)}
    step = next((names[name] for name in _STEP if name in names), None)
    if step is not None and "completion" in names:
        return _completions(path, table, names, step)
    if "task_id" in names and "passed" in names:
        return _evaluation(path, table, names, label=label, dataset=dataset)
    if step is not None:
        found = _any_metrics(path, table, names, step)
        if not found.records:
            raise StoreError(
                f"a log of metrics must hold numbers beside their steps, got none in {str(path)!r} "
                f"({visible('; '.join(found.left_out[:5]), 200) or 'nothing but steps'}); name another"
            )
        return found
    raise StoreError(
        "a log must have the columns step and numbers, or step and completion, or task_id and passed, or be "
        "one of lm-eval, evalplus, TRL or Weights & Biases, "
        f"got {visible(', '.join(table.columns), 200)!r} in {str(path)!r}; rename its columns"
    )


def _any_metrics(path: Path, table: Result, names: dict[str, int], step: int) -> Imported:
    """One row a metric, or one column; rows without a step, such as those of a configuration, are left out."""
    stepless = [i for i, row in enumerate(table.rows, 1) if row[step] is None]
    if set(names) == _TENSORBOARD:
        tag = re.sub(r"^(?:.*-)?tag-(?=.)", "", path.stem)
        called = tag.removeprefix(_TRACKED_IN_TRAINING.replace("/", "_")) or tag
        columns = tuple(called if i == names["value"] else c for i, c in enumerate(table.columns))
        found = _metrics(path, Result(columns, table.rows), step)
        found.notes.append(f"the metric is {visible(called, 60)}, as the file is called")
    elif "value" in names and any(name in names for name in _NAME):
        found = _long_metrics(path, table, names, step)
    else:
        found = _metrics(path, table, step)
    if stepless:
        found.left_out.append(
            f"{len(stepless):,} row(s) without a step, the first is row {stepless[0]}"
        )
    return found


def _metrics(path: Path, table: Result, step: int) -> Imported:
    """One column a metric."""
    found = Imported("metrics")
    names = [name.strip() for name in table.columns]
    for i, name in enumerate(names):
        if i == step or name.lower() in _NO_METRIC or not _has_numbers(table, i, found.left_out):
            continue
        for number, row in enumerate(table.rows, 1):
            value = _number(row[i])
            if value is not None and row[step] is not None:
                at = _step_of(path, row[step], number)
                found.records.append(Metric(step=at, name=_metric(name, names), value=value))
    return found


def _has_numbers(table: Result, column: int, left_out: list[str]) -> bool:
    """Whether most cells of a column that hold something hold numbers; says which do not."""
    held = [i for i, row in enumerate(table.rows) if row[column] is not None]
    other = [i for i in held if _number(table.rows[i][column]) is None]
    name = table.columns[column].strip()
    if not other:
        return True
    if 2 * len(other) > len(held):
        few = f"{len(held) - len(other)} of {len(held)} cells"
        left_out.append(f"{name}: {few if len(other) < len(held) else 'no'} numbers")
        return False
    found = f"{len(other):,} cell(s) without a number, the first in row {other[0] + 1}"
    left_out.append(f"{name}: {found}")
    return True


def _metric(name: str, names: Sequence[str]) -> str:
    """A metric's name as the program itself logs it: a tracker's `train/reward` is `reward`."""
    short = name.removeprefix(_TRACKED_IN_TRAINING)
    return short if short and short not in names else name


def _long_metrics(path: Path, table: Result, names: dict[str, int], step: int) -> Imported:
    """One row a metric."""
    found = Imported("metrics")
    called = next(names[name] for name in _NAME if name in names)
    for number, row in enumerate(table.rows, 1):
        value, name = _number(row[names["value"]]), row[called]
        if value is None or name is None:
            found.left_out.append(f"row {number}: no {'number' if value is None else 'name'}")
        elif row[step] is not None:
            at = _step_of(path, row[step], number)
            found.records.append(Metric(step=at, name=str(name), value=value))
    return found


def _completions(path: Path, table: Result, names: dict[str, int], step: int) -> Imported:
    """TRL's log of completions: prompt, completion, a column a reward function, advantage."""
    found = Imported("completions")
    known = {"prompt", "completion", "advantage", "reward", "task_id"}
    rewards = []
    for i, name in enumerate(table.columns):
        if i == step or name.strip().lower() in known:
            continue
        if _has_numbers(table, i, found.left_out):
            rewards.append(i)
    if "reward" not in names and len(rewards) > 1:
        summed = " + ".join(table.columns[i] for i in rewards)
        found.notes.append(f"reward is {summed}: the log does not say how the run weighted them")
    for at, group, member, row in _grouped(path, table, names, step):
        found.records.append(
            logged(
                Rollout,
                step=at,
                group_index=group,
                member_index=member,
                execution_id=f"imported-{at}-{group}-{member}",
                task_id=_id(_cell(row, names, "task_id")),
                prompt=_text(_cell(row, names, "prompt")),
                completion=_text(row[names["completion"]]),
                outcome="imported",
                reward=_reward(row, names, rewards),
                advantage=_present(_cell(row, names, "advantage")),
                feedback_used=False,
            )
        )
    return found


def _reward(row: Sequence[Any], names: dict[str, int], rewards: Sequence[int]) -> float | None:
    """The row's reward; else the sum of what its reward functions gave; None where none gave anything."""
    if "reward" in names:
        return _present(row[names["reward"]])
    parts = [value for i in rewards if (value := _present(row[i])) is not None]
    return math.fsum(parts) if parts else None


def _grouped(
    path: Path, table: Result, names: dict[str, int], step: int
) -> Iterator[tuple[int, int, int, tuple[Any, ...]]]:
    """Step, group and member of each row: neighbours with one prompt are a group."""
    last_step, last_prompt, group, member = None, None, -1, 0
    for number, row in enumerate(table.rows, 1):
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
    path: Path, table: Result, names: dict[str, int], *, label: str, dataset: str | None
) -> Imported:
    """One row a completion of a problem, with whether it passed."""
    found = Imported("evaluation")
    answers = []
    for number, row in enumerate(table.rows, 1):
        task_id, passed = _id(row[names["task_id"]]), _flag(row[names["passed"]])
        if task_id is None or passed is None:
            got = " and ".join(repr(visible(str(row[names[k]]), 60)) for k in ("task_id", "passed"))
            raise StoreError(
                f"task_id must be a number or a name and passed true or false, got {got} in row {number} of "
                f"{str(path)!r}; mend it"
            )
        text = _text(_cell(row, names, "completion"))
        outcome = _text(_cell(row, names, "outcome")) or None
        answers.append(Answer(task_id, passed, text, outcome))
    eval_id = path.stem[:100]
    found.records += evaluation(eval_id, answers, label=label, dataset=dataset or "unknown")
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
    """A number, from text too; None where it is none, such as `2_1`, which Python would take for 21."""
    if value is None or isinstance(value, bool | list | dict) or "_" in str(value):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _present(value: object) -> float | None:
    """A number; None where there is none or TRL wrote NaN, which is how it logs a missing reward."""
    number = _number(value)
    return None if number is None or math.isnan(number) else number


def _integer(value: object) -> int | None:
    """A whole number, from text such as `5.0` too; None where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,30}\s*", value):
        return int(value)  # a float would round it
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return None
    return int(number)


def _id(value: object) -> TaskId | None:
    """A problem's id: a whole number, or a name; None where it is neither."""
    number = _integer(value)
    if number is not None and abs(number) < 10**18:
        return number
    if number is None and not isinstance(value, str):
        return None
    try:
        return checked_task_id(str(value))
    except ValueError:
        return None


def _step_of(path: Path, value: object, row: int) -> int:
    step = _integer(value)
    if step is None or step < 0:
        raise StoreError(
            f"a step must be a whole number from 0, got {visible(str(value), 60)!r} in row {row} of "
            f"{str(path)!r}; mend it"
        )
    return step


def _flag(value: object) -> bool | None:
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None
