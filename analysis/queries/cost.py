"""Queries about runs and what they cost: state, time of a step, of an execution."""

from __future__ import annotations

from duckdb import DuckDBPyConnection as Connection

from analysis.queries.sql import Runs, of_runs, run_query
from analysis.render import Result


def runs_overview(connection: Connection) -> Result:
    """Return one row a run: state, progress, headline."""
    return run_query(
        connection,
        """SELECT run_id, label, state, coalesce(algorithm, kind) AS algorithm, seed, last_step AS step,
                  planned_steps AS "of", n_rollouts AS rollouts, last_reward AS reward, k, n,
                  n_passed, n_answers, pass_at_1, error FROM run_overview""",
    )


def step_time(connection: Connection, run_ids: Runs = None) -> Result:
    """Return the mean time of each phase over all steps; a rare phase counts as often as it comes."""
    return of_runs(
        connection,
        """WITH counted AS (
               SELECT run_id, count(DISTINCT step) AS n_steps FROM step_time_split
               WHERE {runs} GROUP BY run_id)
           SELECT run_id, name, algorithm, seed, phase, sum(seconds) / max(n_steps) AS seconds_mean,
                  max(n_steps) AS n_steps
           FROM step_time_split JOIN counted USING (run_id) JOIN runs USING (run_id)
           JOIN {names} USING (run_id)
           GROUP BY ALL ORDER BY name, run_id, phase""",
        run_ids,
    )


def sandbox_latency(connection: Connection, run_ids: Runs = None) -> Result:
    """Return the distribution of execution times of each run, at each percentile."""
    return of_runs(
        connection,
        """WITH quantiles AS (
               SELECT run_id, count(*) AS n,
                      quantile_cont(wall_ms, list_transform(range(0, 101), lambda i: i / 100)) AS q
               FROM executions WHERE {runs} AND wall_ms > 0 GROUP BY run_id)
           SELECT run_id, coalesce(algorithm, 'base') AS algorithm, seed, n,
                  unnest(q) AS wall_ms, (generate_subscripts(q, 1) - 1) / 100 AS fraction
           FROM quantiles JOIN runs USING (run_id) ORDER BY run_id, fraction""",
        run_ids,
    )
