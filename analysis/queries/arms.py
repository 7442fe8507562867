"""Which runs are repeats of each other: alike in all that may move a figure but the seed."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from analysis.queries.sql import Runs, of_runs
from analysis.records import RunInfo
from analysis.render import Result
from analysis.statistics.conditions import Conditions, conditions, mixed
from analysis.statistics.verdict import Evaluated
from analysis.task_ids import TaskId

_MOST_LABELS = 4


def arm_names(
    methods: Sequence[str], labels: Sequence[Sequence[str]], run_ids: Sequence[str]
) -> list[str]:
    """A name for each arm that no other has: its method, else the labels of its runs.

    Args:
        methods: of each arm.
        labels: of the runs of each arm; they are given in the form that `compare` takes.
        run_ids: a run of each arm, which tells arms of the same labels apart.
    """
    names = [
        method if methods.count(method) == 1 else _joined(each)
        for method, each in zip(methods, labels, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({run_id[-6:]})"
        for name, run_id in zip(names, run_ids, strict=True)
    ]


def _joined(labels: Sequence[str]) -> str:
    """Labels in one word, of many the first ones."""
    each = sorted(set(labels))
    more = len(each) - _MOST_LABELS
    return ",".join(each[:_MOST_LABELS]) + (f" and {more} more" if more > 0 else "")


def run_infos(connection: Connection, run_ids: Runs = None) -> dict[str, RunInfo]:
    """What each run stores of itself, by its id; the oldest first.

    Raises:
        StoreError: the results file cannot be read.
    """
    rows = of_runs(
        connection,
        """SELECT run_id, kind, algorithm, label, created_at::VARCHAR AS created_at,
                  config::VARCHAR AS config, config_sha256, seed, model, model_sha256, adapter, dataset,
                  dataset_sha256, protocol, protocol_sha256, sandbox, reward_function, reward_sha256, feedback_function,
                  feedback_sha256, chat_template_sha256, git_commit, git_dirty, git_diff,
                  packages::VARCHAR AS packages, hardware::VARCHAR AS hardware
           FROM runs WHERE {runs} ORDER BY created_at, run_id""",
        run_ids,
    ).records()
    return {
        row["run_id"]: RunInfo(
            **{
                **row,
                "config": json.loads(row["config"]),
                "packages": json.loads(row["packages"] or "{}"),
                "hardware": json.loads(row["hardware"] or "{}"),
            }
        )
        for row in rows
    }


def as_evaluated(
    row: Mapping[str, Any],
    infos: Mapping[str, RunInfo],
    shares: Mapping[TaskId, float],
    answers: Sequence[Hashable],
) -> Evaluated:
    """An evaluation as the verdict reads it.

    Args:
        row: of the view `eval_curve`.
        infos: of `run_infos`.
        shares: task id -> share of its completions that pass.
        answers: what tells the answers from those of another evaluation.
    """
    info = infos[row["policy_run_id"]]
    repeat: Hashable = info.seed if info.algorithm else (info.model, info.adapter, info.seed)
    if info.algorithm is None and info.model is None:
        repeat = None
    under = conditions(
        info,
        step=row["step"],
        evaluation=infos[row["run_id"]],
        problems=(row["dataset"], row["dataset_sha256"]),
    )
    return Evaluated(shares, repeat, tuple(answers), under)


def pooled_by_arm(connection: Connection, query: str, run_ids: Runs) -> Result:
    """Run a query that joins `{arms}`: the training runs with the name of their arm in `series`.

    Raises:
        StoreError: the results file cannot be read.
    """
    names = series(connection, run_ids)
    arms = "(SELECT unnest($arm_runs) AS run_id, unnest($arm_names) AS series)"
    return of_runs(
        connection,
        query.replace("{arms}", arms),
        run_ids,
        arm_runs=list(names),
        arm_names=list(names.values()),
    )


def series(connection: Connection, run_ids: Runs = None) -> Mapping[str, str]:
    """The name of each training run's arm, by the id of the run.

    That is the algorithm where it has one arm, else the labels of the runs.

    Raises:
        StoreError: the results file cannot be read.
    """
    groups: list[tuple[Conditions, list[RunInfo]]] = []
    for info in run_infos(connection, run_ids).values():
        if info.algorithm is None and info.kind != "train":
            continue
        under = conditions(info)
        same = next((infos for other, infos in groups if not mixed([other, under])), None)
        if same is None:
            groups.append((under, [info]))
        else:
            same.append(info)
    arms = [infos for _, infos in groups]
    names = arm_names(
        [arm[0].algorithm or arm[0].kind for arm in arms],
        [[info.label for info in arm] for arm in arms],
        [arm[0].run_id for arm in arms],
    )
    return {info.run_id: name for arm, name in zip(arms, names, strict=True) for info in arm}
