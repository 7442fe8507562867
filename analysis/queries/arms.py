"""Which runs are repeats of each other: alike in all that may move a figure but the seed.

What asks the results raises StoreError where their file cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from analysis.queries.sql import Runs, of_runs
from analysis.records import RunInfo
from analysis.render import Result
from analysis.statistics.conditions import Conditions, conditions, listed, mixed
from analysis.statistics.verdict import Evaluated
from analysis.task_ids import TaskId


def arm_names(
    methods: Sequence[str], labels: Sequence[Sequence[str]], run_ids: Sequence[str]
) -> list[str]:
    """A name for each arm that no other has: its method, else its runs' labels in the form that `compare` takes.

    `run_ids` is a run of each arm, which tells arms of the same labels apart.
    """
    names = [
        method if methods.count(method) == 1 else listed(sorted(set(each)), apart=",")
        for method, each in zip(methods, labels, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({run_id[-6:]})"
        for name, run_id in zip(names, run_ids, strict=True)
    ]


def run_infos(connection: Connection, run_ids: Runs = None) -> dict[str, RunInfo]:
    """What each run stores of itself, by its id; the oldest first."""
    columns = ", ".join(RunInfo.model_fields.keys() - {"schema_version"})
    rows = of_runs(
        connection,
        f"SELECT {columns} FROM runs WHERE {{runs}} ORDER BY created_at, run_id",  # noqa: S608
        run_ids,
    ).records()
    mappings = ("config", "packages", "hardware")
    return {
        row["run_id"]: RunInfo(**row | {name: json.loads(row[name] or "{}") for name in mappings})
        for row in rows
    }


def as_evaluated(
    row: Mapping[str, Any],
    infos: Mapping[str, RunInfo],
    shares: Mapping[TaskId, float],
    answers: Sequence[Hashable],
) -> Evaluated:
    """An evaluation, a row of the view `eval_curve`, as the verdict reads it.

    `shares` is the share of completions that pass by task id; `answers` tell it from another evaluation.
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
    """Run a query that joins `{arms}`: the training runs with the name of their arm in `series`."""
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
    """The name of each training run's arm by the run's id: its algorithm, or its labels where that has several arms."""
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
