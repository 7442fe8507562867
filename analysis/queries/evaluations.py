"""Queries about evaluations: pass@1, pass@k, and which policy solves which problem."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from analysis.queries.arms import series
from analysis.queries.sql import of_runs, run_query
from analysis.render import Result
from analysis.statistics.paired import mcnemar_exact


def leaderboard(connection: duckdb.DuckDBPyConnection) -> Result:
    """Return the last evaluation of each run, best first."""
    return run_query(connection, "FROM leaderboard")


def eval_curve(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return pass@1 of each training run's evaluations, by step; mean@n where completions were sampled."""
    found = of_runs(
        connection,
        """SELECT c.policy_run_id AS run_id, c.algorithm, c.seed, c.step, c.k, c.n,
                  coalesce(m.mean_at_n, c.pass_at_1) AS pass_at_1,
                  coalesce(m.interval_low, c.interval_low) AS interval_low,
                  coalesce(m.interval_high, c.interval_high) AS interval_high,
                  c.dataset, c.protocol, c.decoding
           FROM eval_curve c LEFT JOIN mean_at_n m USING (run_id, eval_id)
           WHERE c.step IS NOT NULL AND {runs}
           ORDER BY c.algorithm, c.seed, c.policy_run_id, c.dataset, c.step""",
        run_ids,
        column="c.policy_run_id",
    )
    names = series(connection)
    return Result(
        (*found.columns, "series"), [(*row, names.get(row[0], row[1])) for row in found.rows]
    )


def comparison(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return each policy's last evaluation, with a name and its counts as text.

    Where several completions were sampled pass@1 is their mean, as `eval` and `compare` say it, not that of the first.
    """
    return of_runs(
        connection,
        """WITH several AS (
               SELECT run_id, eval_id, count(*) FILTER (passed) || ' / ' || count(*) || ' answers' AS counts
               FROM eval_results SEMI JOIN mean_at_n USING (run_id, eval_id) WHERE {runs}
               GROUP BY run_id, eval_id),
           measured AS (
               SELECT coalesce(s.counts, k || ' / ' || n) AS counts,
                      l.* REPLACE (coalesce(m.mean_at_n, pass_at_1) AS pass_at_1,
                                   coalesce(m.interval_low, l.interval_low) AS interval_low,
                                   coalesce(m.interval_high, l.interval_high) AS interval_high)
               FROM leaderboard l LEFT JOIN mean_at_n m USING (run_id, eval_id)
               LEFT JOIN several s USING (run_id, eval_id) WHERE {runs})
           SELECT label || CASE WHEN step IS NULL THEN '' ELSE ' @ ' || step END
                  || CASE WHEN count(*) OVER (PARTITION BY label, step) > 1
                          THEN ' (' || right(run_id, 6) || ')' ELSE '' END AS name, *
           FROM measured ORDER BY dataset, pass_at_1 DESC, name""",
        run_ids,
    )


def solve_matrix(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return a cell a problem and evaluation, of the first run that evaluated on its way."""
    return of_runs(
        connection,
        """WITH chosen AS (
               SELECT run_id FROM evals WHERE {runs} AND step IS NOT NULL
               GROUP BY run_id HAVING count(*) > 1 ORDER BY count(*) DESC, run_id LIMIT 1)
           SELECT m.*, r.algorithm, r.seed, name
           FROM solve_matrix m JOIN runs r USING (run_id) JOIN {names} USING (run_id)
           WHERE run_id IN (FROM chosen) AND step IS NOT NULL ORDER BY step, task_order(task_id)""",
        run_ids,
    )


def flips(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None) -> Result:
    """Return gained, lost and unchanged problems between two policies' last evaluations.

    Two runs of one model are compared with each other, GRPO with SDPO of one seed where there are several; one run,
    its first evaluation with its last. The p-value is McNemar's exact one.
    """
    result = of_runs(
        connection,
        """WITH ordered AS (
               SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY step) AS nth,
                      row_number() OVER (PARTITION BY run_id ORDER BY step DESC NULLS FIRST) AS back
               FROM eval_curve WHERE {runs}),
           candidates AS (
               SELECT a.run_id AS run_a, a.eval_id AS eval_a, b.run_id AS run_b,
                      b.eval_id AS eval_b, a.label AS label_a, b.label AS label_b,
                      a.step AS step_a, b.step AS step_b, a.algorithm AS algorithm_a, b.algorithm,
                      b.seed, b.dataset, b.protocol, b.decoding
               FROM ordered a JOIN ordered b
                 ON a.dataset = b.dataset AND a.protocol = b.protocol AND a.decoding = b.decoding
                AND a.model IS NOT DISTINCT FROM b.model
                AND b.back = 1
                AND (a.run_id = b.run_id AND a.nth = 1 AND a.eval_id <> b.eval_id
                     OR a.run_id <> b.run_id AND a.back = 1 AND a.seed IS NOT DISTINCT FROM b.seed)
               ORDER BY a.run_id = b.run_id, (a.algorithm = 'grpo') DESC,
                        (b.algorithm = 'sdpo') DESC, a.created_at, run_a, run_b LIMIT 1),
           paired AS (
               SELECT c.*, a.task_id,
                      CASE WHEN a.passed AND b.passed THEN 'solved by both'
                           WHEN b.passed THEN 'gained' WHEN a.passed THEN 'lost'
                           ELSE 'solved by neither' END AS change
               FROM candidates c
               JOIN eval_results a ON a.run_id = run_a AND a.eval_id = eval_a
               JOIN eval_results b ON b.run_id = run_b AND b.eval_id = eval_b
                                  AND b.task_id = a.task_id
               WHERE a.sample_index = 0 AND b.sample_index = 0)
           SELECT label_a || coalesce(' @ ' || step_a, '') AS name_a,
                  label_b || coalesce(' @ ' || step_b, '') AS name_b, algorithm_a,
                  algorithm, seed, dataset, protocol, decoding, change,
                  count(*) AS n, left(string_agg(task_id, ', ' ORDER BY task_order(task_id)), 200) AS task_ids
           FROM paired
           GROUP BY name_a, name_b, algorithm_a, algorithm, seed, dataset, protocol, decoding, change
           ORDER BY array_position(['gained', 'lost', 'solved by both', 'solved by neither'], change)
        """,
        run_ids,
    )
    counts = {row["change"]: row["n"] for row in result.records()}
    gained, lost = counts.get("gained", 0), counts.get("lost", 0)
    p_value = mcnemar_exact(gained, lost)
    return Result((*result.columns, "p_value"), [(*row, p_value) for row in result.rows])


def pass_at_k(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return pass@k of each run's last evaluation that has several completions a problem."""
    return of_runs(
        connection,
        """WITH last AS (
               SELECT run_id, max_by(eval_id, coalesce(step, 9223372036854775807)) AS eval_id
               FROM pass_at_k
               WHERE {runs} AND n_samples > 1 GROUP BY run_id)
           SELECT p.run_id || ' ' || p.eval_id AS series, p.run_id,
                  r.algorithm, r.seed, p.k, p.pass_at_k,
                  p.n_problems, p.n_samples,
                  p.interval_low, p.interval_high
           FROM pass_at_k p JOIN last USING (run_id, eval_id)
           JOIN eval_curve r USING (run_id, eval_id)
           ORDER BY series, k""",
        run_ids,
    )


def teacher_gap(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
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
