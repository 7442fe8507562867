"""Reads evaluations back from the journals, for comparing, showing and resuming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from analysis.journal.journal import (
    StoreError,
    labelled_runs,
    read_run_info,
    run_folders,
    segments,
)
from analysis.journal.lines import Damage, scan
from analysis.records import Eval, EvalResult, Rewind, RunInfo, TestResult
from analysis.task_ids import TaskId, task_order

BESIDE = "-sampled"
"""Ends the id of an evaluation that sampled beside the greedy one whose id stands before it."""


class StoredError(Exception):
    """An evaluation that was asked for is not there; the message says what is."""


@dataclass(frozen=True)
class StoredEval:
    """One evaluation as its run stored it."""

    info: RunInfo
    run_dir: Path
    row: Eval | None
    """Its summary; None where it was interrupted before its end."""
    results: dict[tuple[TaskId, int], EvalResult]
    """(task id, sample index) -> row."""
    tests: dict[str, list[TestResult]] = field(default_factory=dict)
    """Execution id -> verdicts in order; only where they were asked for."""

    @property
    def name(self) -> str:
        """Run and evaluation, as `find_evals` takes them."""
        eval_id = self.row.eval_id if self.row is not None else ""
        return f"{self.info.run_id}/{eval_id}".rstrip("/")

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.row.label if self.row is not None else self.info.label


def read_evals(
    run_dir: Path, *, with_tests: bool = False, say: Callable[[str], None] | None = None
) -> list[StoredEval]:
    """Read the evaluations of one run, finished or not, in order of their first row.

    With `say` damaged lines are left out and told, one call each, as `ingest` does.

    Raises:
        StoreError: no such run, or, without `say`, a damaged line in its journal.
    """
    info = read_run_info(run_dir)
    rows: dict[str, Eval] = {}
    results: dict[str, dict[tuple[TaskId, int], EvalResult]] = {}
    tests: dict[str, dict[int, TestResult]] = {}
    for record in _records(run_dir, with_tests=with_tests, say=say):
        match record:
            case Eval():
                rows[record.eval_id] = record
                results.setdefault(record.eval_id, {})
            case EvalResult():
                key = (record.task_id, record.sample_index)
                results.setdefault(record.eval_id, {})[key] = record
            case TestResult():
                tests.setdefault(record.execution_id, {})[record.assert_index] = record
            case Rewind():
                # The run went back to a checkpoint: evaluations of later steps do not count.
                late = [key for key, row in rows.items() if (row.step or 0) > record.step]
                for eval_id in late:
                    del rows[eval_id]
                    results.pop(eval_id, None)
    evals = []
    for eval_id, found in results.items():
        in_order = sorted(found.items(), key=lambda item: (task_order(item[0][0]), item[0][1]))
        verdicts = {}
        for result in found.values() if with_tests else ():
            of_asserts = tests.get(result.execution_id, {})
            verdicts[result.execution_id] = [of_asserts[index] for index in sorted(of_asserts)]
        evals.append(StoredEval(info, run_dir, rows.get(eval_id), dict(in_order), verdicts))
    return evals


def find_evals(
    runs_dir: Path,
    name: str,
    *,
    every_run: bool = False,
    with_tests: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[StoredEval]:
    """Return the finished evaluations that a name stands for.

    Args:
        runs_dir: folder of the runs.
        name: a run id (its last evaluation; the greedy one, where others were sampled beside it),
            `run id/eval id`, a label (its newest evaluation), or several of these joined by commas:
            seeds of one policy.
        every_run: a label stands for all evaluations that bear it, not only for the newest.
        with_tests: read the verdicts as well.
        say: told what was left out, damaged lines and runs, and which of several runs was taken.

    Raises:
        StoredError: nothing of that name.
        StoreError: the run that the name is the id of cannot be read.
    """
    found: list[StoredEval] = []
    for part in name.split(","):
        found += _find_one(runs_dir, part.strip(), every_run, with_tests=with_tests, say=say)
    return found


def _find_one(
    runs_dir: Path, name: str, every_run: bool, *, with_tests: bool, say: Callable[[str], None]
) -> list[StoredEval]:
    """The evaluations of one name without commas."""
    run_id, _, eval_id = name.partition("/")
    if _is_run(runs_dir, run_id):
        run_dir = runs_dir / run_id
        evals = [item for item in read_evals(run_dir, with_tests=with_tests, say=say) if item.row]
        chosen = [item for item in evals if item.name == name] if eval_id else _greedy(evals)
        others = [info for info in labelled_runs(runs_dir, name) if info.run_id != run_id]
        if chosen and others:
            say(
                f"{name!r} is the id of a run, which was taken, and the label of {others[-1].run_id}: "
                "name that by its id"
            )
        if chosen:
            return chosen[-1:]
        held = ", ".join(item.name for item in evals)
        if not others:
            raise StoredError(
                f"a run must hold the finished evaluation that is asked for, got {name!r}; "
                + (f"name one of {held}" if held else "none has finished in it")
            )
    labelled: list[StoredEval] = []
    for folder in run_folders(runs_dir):
        try:
            evals = read_evals(folder, with_tests=with_tests, say=say)
        except StoreError as error:  # one run that cannot be read says nothing about the others
            say(f"left out: {error}")
            continue
        finished = _greedy([item for item in evals if item.row is not None])
        labelled += [item for item in finished if item.label == name]
    if not labelled:
        raise StoredError(
            f"a name must be the id of a run or the label of a finished evaluation in "
            f"{str(runs_dir)!r}, got {name!r}; see `sdpo-bench runs`"
        )
    labelled.sort(key=lambda item: item.info.order)
    # As for the id of a run: its last evaluation, so that steps of one run are not taken for seeds.
    last = list({item.info.run_id: item for item in labelled}.values())
    if every_run or len(last) == 1:
        return last
    say(
        f"{name!r} is the label of {len(last)} runs: took the newest, {last[-1].name}; "
        "name runs, or take all as seeds with --every-run"
    )
    return last[-1:]


def _greedy(evals: list[StoredEval]) -> list[StoredEval]:
    """Those that no name is needed for: samples that were drawn beside a greedy evaluation are asked for by theirs."""
    names = {item.name for item in evals}
    return [
        e
        for e in evals
        if e.name == e.name.removesuffix(BESIDE) or e.name[: -len(BESIDE)] not in names
    ]


def _is_run(runs_dir: Path, run_id: str) -> bool:
    """Whether a name is that of a run's folder; a label can be anything, longer than a name too."""
    try:
        return bool(run_id) and (runs_dir / run_id / "run.json").is_file()
    except (OSError, ValueError):
        return False


def _records(
    run_dir: Path, *, with_tests: bool, say: Callable[[str], None] | None
) -> Iterator[Eval | EvalResult | TestResult | Rewind]:
    """Rows of an evaluation's tables, in the order in which they were written."""
    types: dict[str, type[Eval | EvalResult | TestResult | Rewind]] = {
        kind.table: kind for kind in (Eval, EvalResult, Rewind)
    }
    if with_tests:
        types[TestResult.table] = TestResult
    try:
        for _, path in segments(run_dir):
            for line in scan(path):
                if isinstance(line, Damage):
                    if say is None:
                        raise StoreError(
                            f"a journal must be as it was written, got {line}; restore it"
                        )
                    say(f"left out: {line}")
                    continue
                kind = types.get(line.table)
                if kind is not None:
                    yield kind.model_validate_json(line.row)
    except ValidationError as error:
        raise StoreError(
            f"a journal's rows must be of this version, got {str(run_dir)!r} "
            f"({error.errors()[0]['msg']}); upgrade sdpo-bench"
        ) from error
    except OSError as error:
        raise StoreError(
            f"a run's journal must be readable, got {str(run_dir)!r} ({error.strerror}); "
            "check its permissions"
        ) from error
