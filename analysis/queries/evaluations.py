"""Queries about evaluations: pass@1, pass@k, and which policy solves which problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from analysis.queries.arms import as_evaluated, run_infos, series
from analysis.queries.sql import Runs, of_runs
from analysis.records import RunInfo
from analysis.render import Result
from analysis.statistics.conditions import differences, listed
from analysis.statistics.verdict import Arm, judge
from analysis.task_ids import task_id


def eval_curve(connection: Connection, run_ids: Runs = None) -> Result:
    """Return pass@1 of each training run's evaluations, by step; mean@n where completions were sampled."""
    found = of_runs(
        connection,
        """SELECT policy_run_id AS run_id, algorithm, seed, step, n, n_passed, n_answers, pass_at_1,
                  interval_low, interval_high, dataset, protocol, decoding
           FROM eval_curve WHERE step IS NOT NULL AND {runs}
           ORDER BY algorithm, seed, policy_run_id, dataset, step""",
        run_ids,
        column="policy_run_id",
    )
    names = series(connection)
    return Result(
        (*found.columns, "series"), [(*row, names.get(row[0], row[1])) for row in found.rows]
    )


def comparison(connection: Connection, run_ids: Runs = None) -> Result:
    """Return each policy's last evaluation, with a name and its counts as text.

    Where several completions were sampled pass@1 is their mean, as `eval` and `compare` say it, not that of the first.
    """
    return of_runs(
        connection,
        """SELECT label || CASE WHEN step IS NULL THEN '' ELSE ' @ ' || step END
                  || CASE WHEN count(*) OVER (PARTITION BY label, step) > 1
                          THEN ' (' || right(run_id, 6) || ')' ELSE '' END AS name,
                  n_passed || ' / ' || n_answers || if(k IS NULL, ' answers', '') AS counts, *
           FROM leaderboard WHERE {runs} ORDER BY dataset, pass_at_1 DESC, name""",
        run_ids,
    )


def solve_matrix(connection: Connection, run_ids: Runs = None) -> Result:
    """Return a cell a problem and evaluation, of the first run that evaluated on its way.

    Of several ways in which it did, such as greedy and sampled, it is the one with most evaluations, else the greedy.
    """
    return of_runs(
        connection,
        """WITH chosen AS (
               SELECT run_id, unnest(eval_ids) AS eval_id FROM (
                   SELECT run_id, list(eval_id) AS eval_ids FROM evals WHERE {runs} AND step IS NOT NULL
                   GROUP BY run_id, dataset, protocol, decoding HAVING count(*) > 1
                   ORDER BY count(*) DESC, run_id, min(length(eval_id)), decoding LIMIT 1))
           SELECT m.*, r.algorithm, r.seed, name
           FROM solve_matrix m JOIN chosen USING (run_id, eval_id) JOIN runs r USING (run_id)
           JOIN {names} USING (run_id) ORDER BY step, task_order(task_id)""",
        run_ids,
    )


def flips(connection: Connection, run_ids: Runs = None) -> Result:
    """Return gained, lost and unchanged problems between two policies' last evaluations.

    Two runs of one model are compared with each other, GRPO with SDPO of one seed where there are several; one run,
    its first evaluation with its last. Those that differ in no more than the algorithm come first: else `p_value`,
    McNemar's exact one, is NULL, and `no_test` says why. Of several answers a problem none is gained or lost.
    """
    candidates = of_runs(connection, _PAIRS, run_ids).records()
    infos = run_infos(connection)
    if not candidates:
        return Result((), [])
    pair = next((each for each in candidates if not _differences(each, infos)), candidates[0])
    p_value, no_test = _tested(connection, pair, infos)
    found = of_runs(
        connection,
        """WITH paired AS (
               SELECT a.task_id,
                      CASE WHEN a.passed AND b.passed THEN 'solved by both'
                           WHEN b.passed THEN 'gained' WHEN a.passed THEN 'lost'
                           ELSE 'solved by neither' END AS change
               FROM eval_results a JOIN eval_results b USING (task_id)
               WHERE a.run_id = $pair[1] AND a.eval_id = $pair[2]
                 AND b.run_id = $pair[3] AND b.eval_id = $pair[4])
           SELECT change, count(*) AS n,
                  left(string_agg(task_id, ', ' ORDER BY task_order(task_id)), 200) AS task_ids
           FROM paired GROUP BY change
           ORDER BY array_position(['gained', 'lost', 'solved by both', 'solved by neither'], change)
        """,
        None,
        pair=[pair[name] for name in ("run_id_a", "eval_a", "run_id_b", "eval_b")],
    )
    said = {name: pair[name] for name in _OF_THE_PAIR} | {"p_value": p_value, "no_test": no_test}
    return Result((*found.columns, *said), [(*row, *said.values()) for row in found.rows])


_OF_THE_PAIR = "name_a name_b algorithm_a algorithm seed dataset protocol decoding".split()
_PAIRS = """
WITH ordered AS (
    SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY step) AS nth,
           row_number() OVER (PARTITION BY run_id ORDER BY step DESC NULLS FIRST) AS back
    FROM eval_curve WHERE {runs} AND k IS NOT NULL)
SELECT a.run_id AS run_id_a, a.eval_id AS eval_a, a.policy_run_id AS policy_run_id_a, a.step AS step_a,
       a.dataset_sha256 AS dataset_sha256_a, a.algorithm AS algorithm_a,
       a.label || coalesce(' @ ' || a.step, '') AS name_a,
       b.run_id AS run_id_b, b.eval_id AS eval_b, b.policy_run_id AS policy_run_id_b, b.step AS step_b,
       b.dataset_sha256 AS dataset_sha256_b, b.label || coalesce(' @ ' || b.step, '') AS name_b,
       b.algorithm, b.seed, b.dataset, b.protocol, b.decoding
FROM ordered a JOIN ordered b
  ON a.dataset = b.dataset AND a.protocol = b.protocol AND a.decoding = b.decoding
 AND a.model IS NOT DISTINCT FROM b.model
 AND b.back = 1
 AND (a.run_id = b.run_id AND a.nth = 1 AND a.eval_id <> b.eval_id
      OR a.run_id <> b.run_id AND a.back = 1 AND a.seed IS NOT DISTINCT FROM b.seed)
ORDER BY a.run_id = b.run_id, (a.algorithm = 'grpo') DESC,
         (b.algorithm = 'sdpo') DESC, a.created_at, run_id_a, run_id_b LIMIT 100
"""
"""Of many pairs the first hundred, among which one that can be tested is looked for."""


def _side(pair: Mapping[str, Any], side: str) -> dict[str, Any]:
    """What `as_evaluated` reads of one evaluation of a pair."""
    names = ("run_id", "policy_run_id", "step", "dataset_sha256")
    return {name: pair[f"{name}_{side}"] for name in names} | {"dataset": pair["dataset"]}


def _differences(pair: Mapping[str, Any], infos: Mapping[str, RunInfo]) -> tuple[str, ...]:
    """What two evaluations differ in beside the algorithm, without a look at their rows."""
    if pair["run_id_a"] == pair["run_id_b"]:  # that its steps differ is what is asked
        return ()
    first, second = (as_evaluated(_side(pair, side), infos, {}, ()).conditions for side in "ab")
    return differences([first], [second])


def _tested(
    connection: Connection, pair: Mapping[str, Any], infos: Mapping[str, RunInfo]
) -> tuple[float | None, str | None]:
    """McNemar's p-value of two evaluations; else why the judge of differences would not compare them."""
    arms = []
    for side in "ab":
        rows = of_runs(
            connection,
            """SELECT task_id, passed::INT, hash(completion) FROM eval_results
               WHERE run_id = $evaluation[1] AND eval_id = $evaluation[2]
               ORDER BY task_order(task_id)""",
            None,
            evaluation=[pair[f"run_id_{side}"], pair[f"eval_{side}"]],
        ).rows
        shares = {task_id(name): float(passed) for name, passed, _ in rows}
        evaluated = as_evaluated(_side(pair, side), infos, shares, rows)
        arms.append(Arm(pair[f"name_{side}"], (evaluated,)))
    first, second = arms
    if not first.task_ids or first.task_ids != second.task_ids:
        return None, "they were asked other problems"
    (finding,) = judge([(first, second)])
    if pair["run_id_a"] == pair["run_id_b"]:  # that its steps differ is what is asked
        return finding.p, None
    if finding.differs:
        return None, f"they differ in more than the algorithm: {listed(finding.differs)}"
    return (None, finding.spoilt) if finding.spoilt else (finding.p, None)


def pass_at_k(connection: Connection, run_ids: Runs = None) -> Result:
    """Return pass@k of each run's last evaluation that has several completions a problem."""
    return of_runs(
        connection,
        """WITH last AS (
               SELECT run_id, max_by(eval_id, (coalesce(step, 9223372036854775807), eval_id)) AS eval_id
               FROM pass_at_k
               WHERE {runs} AND n_samples > 1 GROUP BY run_id)
           SELECT p.run_id || ' ' || p.eval_id AS series, name, p.run_id,
                  r.algorithm, r.seed, p.k, p.pass_at_k,
                  p.n_problems, p.n_samples,
                  p.interval_low, p.interval_high, r.dataset, r.protocol
           FROM pass_at_k p JOIN last USING (run_id, eval_id)
           JOIN eval_curve r USING (run_id, eval_id) JOIN {names} USING (run_id)
           ORDER BY series, k""",
        run_ids,
    )


def teacher_gap(connection: Connection, run_ids: Runs = None) -> Result:
    """Return what each untrained model gains where something is shown beside the problem."""
    return of_runs(
        connection,
        """SELECT g.*, name, r.seed FROM teacher_gap g JOIN runs r USING (run_id)
           JOIN {names} USING (run_id)
           WHERE shown <> 'nothing' AND {runs}
           ORDER BY name, run_id,
                    array_position(['pass_rate', 'passing_logprob', 'failing_logprob'], measure),
                    array_position(['peer', 'reference', 'feedback', 'wrong', 'other'], shown)""",
        run_ids,
    )
