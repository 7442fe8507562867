"""Compares stored evaluations problem by problem; `analysis.statistics.verdict` says what the figures can show."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from analysis.journal.journal import StoreError, read_run_info
from analysis.records import RunInfo
from analysis.statistics.conditions import conditions
from analysis.statistics.verdict import Arm, Evaluated, Finding, judge
from analysis.task_ids import TaskId, task_order
from evaluator.results.stored import StoredEval


class ComparisonError(Exception):
    """The evaluations cannot be compared; the message names the difference."""


@dataclass(frozen=True)
class Side:
    """One policy: its evaluations of one set of problems, one for each seed."""

    label: str
    evals: tuple[StoredEval, ...]

    def arm(self) -> Arm:
        """The side as the verdict reads it."""
        return Arm(self.label, tuple(_evaluated(item) for item in self.evals))


def compare(sides: Sequence[Side], *, every_pair: bool = False) -> list[Finding]:
    """Compare each further policy with the first, or every two, Holm-corrected over all of them.

    Raises:
        ComparisonError: dataset, protocol, decoding or problems differ.
    """
    for side in sides:
        for item in side.evals:
            _check_alike(sides[0].evals[0], item)
    arms = [side.arm() for side in sides]
    return judge(
        list(combinations(arms, 2)) if every_pair else [(arms[0], other) for other in arms[1:]]
    )


def _evaluated(item: StoredEval) -> Evaluated:
    """An evaluation with the run that made its policy."""
    passed: dict[TaskId, list[float]] = {}
    for (task_id, _), result in item.results.items():
        passed.setdefault(task_id, []).append(float(result.passed))
    policy = _policy(item)
    return Evaluated(
        {task_id: sum(each) / len(each) for task_id, each in passed.items()},
        repeat=_repeat(policy, item.info),
        answers=_digest(item),
        conditions=conditions(
            policy,
            step=None if item.row is None else item.row.step,
            evaluation=item.info,
            problems=None if item.row is None else (item.row.dataset, item.row.dataset_sha256),
        ),
    )


def _policy(item: StoredEval) -> RunInfo:
    """The run that trained the evaluated policy, where it can be found; else the evaluation's own."""
    folders = []
    if item.info.parent_run_id is not None:
        folders.append(item.run_dir.parent / item.info.parent_run_id)
    if item.info.adapter is not None:
        # a checkpoint lies deeper; runs that were moved or restored stand beside the evaluation, under their old names
        for trained in Path(item.info.adapter).parents:
            folders += [trained, item.run_dir.parent / trained.name]
    for folder in folders:
        try:
            return read_run_info(folder)
        except StoreError:
            continue
    return item.info


def _repeat(policy: RunInfo, evaluation: RunInfo) -> Hashable:
    """What makes an evaluation a repeat of its own: the seed that its policy was trained with."""
    if policy.algorithm is not None:
        return policy.seed
    if evaluation.model is None and evaluation.adapter is None:
        return None  # recorded answers: only they can tell
    return (evaluation.model, evaluation.adapter, evaluation.seed)


def _digest(item: StoredEval) -> str:
    """The same for evaluations that hold the same answers; how often each was drawn does not count."""
    answers = {
        (task_order(task_id), result.completion, result.passed)
        for (task_id, _), result in item.results.items()
    }
    return hashlib.sha256(repr(sorted(answers)).encode("utf-8", "backslashreplace")).hexdigest()


def _check_alike(first: StoredEval, other: StoredEval) -> None:
    """Refuse two evaluations that did not measure the same thing."""
    for what, ours, theirs in _conditions(first, other):
        if ours != theirs:
            raise ComparisonError(
                f"compared evaluations must have the same {what}, got {ours!r} for {first.name} "
                f"and {theirs!r} for {other.name}; evaluate both alike"
            )
    mine, others = ({task_id for task_id, _ in item.results} for item in (first, other))
    one_sided = sorted(mine ^ others, key=task_order)
    if one_sided:
        raise ComparisonError(
            f"compared evaluations must cover the same problems, got {len(one_sided)} (task "
            f"{one_sided[0]}, ...) in only one of {first.name} and {other.name}; "
            "evaluate both alike"
        )


def _conditions(first: StoredEval, other: StoredEval) -> list[tuple[str, object, object]]:
    """What must be equal, as (name, ours, theirs)."""
    if first.row is None or other.row is None:
        raise ComparisonError(
            f"compared evaluations must be finished, got {first.name} and {other.name}; "
            "resume the unfinished one"
        )
    conditions: list[tuple[str, object, object]] = [
        (name, getattr(first.row, name), getattr(other.row, name))
        for name in ("dataset", "protocol", "decoding")
    ]
    contents = [
        row.dataset_sha256 or (item.info.dataset_sha256 if item.info.kind == "eval" else None)
        for item, row in ((first, first.row), (other, other.row))
    ]
    if None not in contents:  # runs from before it was recorded do not tell
        conditions.append(("dataset content", contents[0], contents[1]))
    # A training run's own sha256s are of its training data and prompts, not of its evaluations.
    if first.info.kind == other.info.kind == "eval":
        wordings = [item.info.protocol_sha256 for item in (first, other)]
        conditions.append(("prompt wording", wordings[0], wordings[1]))
    return conditions
