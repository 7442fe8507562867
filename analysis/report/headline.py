"""The report's first sentences: what `analysis.statistics.verdict` finds between the runs on the page."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from analysis.queries.arms import arm_names, as_evaluated, run_infos
from analysis.queries.sql import Runs, of_runs
from analysis.report.markup import count
from analysis.statistics.conditions import differences, mixed
from analysis.statistics.verdict import Arm, Evaluated, Finding, judge
from analysis.task_ids import TaskId, task_id, task_order
from analysis.words import percent

_SETTING = ("dataset", "protocol", "decoding")
_MOST_SENTENCES = 3
_FIRST = {None: 0, "grpo": 1}
"""Methods are compared with the untrained policy and with GRPO."""


@dataclass(frozen=True)
class _Policy:
    """One last evaluation with what it is of."""

    row: dict[str, Any]
    evaluated: Evaluated

    @property
    def algorithm(self) -> str | None:
        return self.evaluated.conditions.algorithm


def headline(connection: Connection, run_ids: Runs = None) -> tuple[str, list[Finding]]:
    """Return what the last evaluations show as a few sentences, and the findings behind them."""
    policies, n_board = _policies(connection, run_ids)
    if not policies:
        return (
            f"{count(n_board, 'evaluation')} without answers, or of an audit: nothing can be compared."
            if n_board
            else "No evaluation has finished, so nothing can be said about pass@1."
        ), []
    settings = _settings(policies)
    arms = max(settings, key=lambda each: (bool(_pairs(each)), sum(len(arm.runs) for arm in each)))
    n_elsewhere = n_board - sum(len(arm.runs) for arm in arms)
    elsewhere = f" {_ELSEWHERE.format(count(n_elsewhere, 'evaluation'))}" if n_elsewhere else ""
    pairs = _pairs(arms)
    if not pairs:
        (arm,) = arms
        row = next(each.row for each in policies if each.evaluated is arm.runs[0])
        return (_of_several(arm) if len(arm.runs) > 1 else _alone(row)) + elsewhere, []
    found = judge(pairs)
    between = [
        finding
        for finding, (first, _) in zip(found, pairs, strict=True)
        if first.algorithm is not None
    ]
    # What can be compared comes first.
    found_first = sorted(between or found, key=lambda item: bool(item.differs or item.spoilt))
    shown = found_first[:_MOST_SENTENCES]
    more = len(found) - len(shown)
    text = " ".join(f"{finding.sentence}." for finding in shown)
    if more:
        text += f" p-values are corrected over these and {more} further comparison(s): `sdpo-bench compare`."
    return text + elsewhere, found


_ELSEWHERE = (
    "Not in these sentences: {} of other problems, another prompt form or other decoding, without answers, "
    "or of an audit."
)
_NO_SECOND = "there is no second policy on the same problems to compare it with."


def _alone(row: dict[str, Any]) -> str:
    """What one policy does, where there is no other to compare it with."""
    rate, low, high = (
        percent(row[name], unit=" %") for name in ("pass_at_1", "interval_low", "interval_high")
    )
    solves = f"solves {row['k']} of {row['n']} problems ({rate}"
    if row["k"] is None:
        solves = (
            f"solves a problem of {row['n']} in {rate} of its answers "
            f"({row['n_passed']} of {row['n_answers']} answers pass"
        )
    return f"{row['label']} {solves}, 95 % interval {low} to {high}); {_NO_SECOND}"


def _of_several(arm: Arm) -> str:
    """What the runs of one policy do, where there is no other: all of them, not the best."""
    rates = [sum(run.passed.values()) / len(run.passed) for run in arm.runs]
    mean, low, high = (percent(rate, unit=" %") for rate in (fmean(rates), min(rates), max(rates)))
    return (
        f"{arm.label} solves {mean} of {len(arm.task_ids)} problems in the mean of {len(rates)} runs "
        f"({low} to {high}); {_NO_SECOND}"
    )


def _settings(policies: Sequence[_Policy]) -> list[list[Arm]]:
    """The arms of each way of evaluating; only those within one can be compared."""
    settings: dict[Hashable, list[_Policy]] = {}
    for policy in policies:
        key = (
            *(policy.row[name] for name in _SETTING),
            tuple(sorted(policy.evaluated.passed, key=task_order)),
        )
        settings.setdefault(key, []).append(policy)
    return [_arms(each) for each in settings.values()]


def _pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Which arms are compared: each trained one with the nearest untrained one and that of the first method."""
    arms = sorted(arms, key=lambda arm: (_FIRST.get(arm.algorithm, 2), -len(arm.repeats)))
    untrained = [arm for arm in arms if arm.algorithm is None]
    trained = [arm for arm in arms if arm.algorithm is not None]
    first_method = [arm for arm in trained if arm.algorithm == trained[0].algorithm]
    pairs = [(_nearest(arm, untrained), arm) for arm in trained] if untrained else []
    pairs += [(_nearest(arm, first_method), arm) for arm in trained[1:]]
    return pairs or [(untrained[0], arm) for arm in untrained[1:]]


def _nearest(arm: Arm, others: Sequence[Arm]) -> Arm:
    """The first of those that differ least from an arm beside the method."""
    under = [run.conditions for run in arm.runs]
    return min(
        (other for other in others if other is not arm),
        key=lambda other: len(differences([run.conditions for run in other.runs], under)),
    )


def _arms(policies: Sequence[_Policy]) -> list[Arm]:
    """Policies that differ in the seed alone are one arm."""
    groups: list[list[_Policy]] = []
    for policy in policies:
        for group in groups:
            if _alike(policy, group[0]):
                group.append(policy)
                break
        else:
            groups.append([policy])
    names = arm_names(
        [str(group[0].algorithm or group[0].row["label"]) for group in groups],
        [[str(policy.row["label"]) for policy in group] for group in groups],
        [str(group[0].row["run_id"]) for group in groups],
    )
    return [
        Arm(name, tuple(policy.evaluated for policy in group))
        for name, group in zip(names, groups, strict=True)
    ]


def _alike(one: _Policy, other: _Policy) -> bool:
    """Whether two policies differ in the seed alone."""
    repeat = one.evaluated.repeat
    if one.algorithm is None and (repeat is None or repeat != other.evaluated.repeat):
        return False
    return not mixed([one.evaluated.conditions, other.evaluated.conditions])


def _policies(connection: Connection, run_ids: Runs) -> tuple[list[_Policy], int]:
    """The last evaluation of each run with its passes, best first; and how many there are, comparable or not."""
    board = of_runs(
        connection,
        """SELECT l.*, c.policy_run_id, c.dataset_sha256 FROM leaderboard l JOIN eval_curve c USING (run_id, eval_id)
           WHERE {runs} ORDER BY l.pass_at_1 DESC, l.label""",
        run_ids,
        column="l.run_id",
    ).records()
    passes: dict[tuple[str, str], dict[TaskId, float]] = {}
    answers: dict[tuple[str, str], list[Hashable]] = {}
    for row in of_runs(connection, _PASSES, run_ids).records():
        key = (row["run_id"], row["eval_id"])
        passes.setdefault(key, {})[task_id(row["task_id"])] = row["share"]
        answers.setdefault(key, []).append((row["task_id"], row["share"], row["answers"]))
    infos = run_infos(connection)
    # one that was graded again speaks for its answers; the same answers twice would be two comparisons
    given_way = {infos[row["run_id"]].config.get("regraded") for row in board}
    board = [row for row in board if f"{row['run_id']}/{row['eval_id']}" not in given_way]
    found = []
    for row in board:
        key = (row["run_id"], row["eval_id"])
        if key not in passes or row["algorithm"] == "audit":
            continue
        found.append(_Policy(row, as_evaluated(row, infos, passes[key], answers[key])))
    return found, len(board)


_PASSES = """
SELECT run_id, eval_id, task_id, avg(passed::INT) AS share,
       sum(DISTINCT hash(completion)) AS answers
FROM eval_results SEMI JOIN leaderboard USING (run_id, eval_id) WHERE {runs}
GROUP BY run_id, eval_id, task_id ORDER BY task_order(task_id)
"""
