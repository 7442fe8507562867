"""Which runs are repeats of each other: alike in all that may move a figure but the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import duckdb

from analysis.queries.sql import of_runs
from analysis.records import RunInfo
from analysis.render import Result
from analysis.statistics.conditions import Conditions, conditions, mixed

_MOST_LABELS = 4


def arm_name(labels: Sequence[str]) -> str:
    """The labels of an arm's runs, in the form that `compare` takes; of many the first ones."""
    each = sorted(set(labels))
    more = len(each) - _MOST_LABELS
    return ",".join(each[:_MOST_LABELS]) + (f" and {more} more" if more > 0 else "")


def run_infos(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> dict[str, RunInfo]:
    """What each run stores of itself, by its id."""
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


def pooled_by_arm(
    connection: duckdb.DuckDBPyConnection, query: str, run_ids: Sequence[str] | None
) -> Result:
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


def series(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Mapping[str, str]:
    """The name of each training run's arm, by the id of the run.

    That is the algorithm where it has one arm, else the labels of the runs.
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
    return {
        info.run_id: name for infos, name in zip(arms, _names(arms), strict=True) for info in infos
    }


def _names(arms: Sequence[Sequence[RunInfo]]) -> list[str]:
    """A name for each arm that no other has."""
    algorithms = [arm[0].algorithm or arm[0].kind for arm in arms]
    names = [
        algorithm if algorithms.count(algorithm) == 1 else arm_name([info.label for info in arm])
        for algorithm, arm in zip(algorithms, arms, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({arm[0].run_id[-6:]})"
        for name, arm in zip(names, arms, strict=True)
    ]
