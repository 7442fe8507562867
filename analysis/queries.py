"""One function a question: connection in, rows out. Charts and the command line use the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from scipy.stats import binomtest

from analysis.journal import StoreError
from analysis.render import Result, unique
from analysis.state import is_damage

_SEEDS = "string_agg(DISTINCT seed::VARCHAR, ', ' ORDER BY seed::VARCHAR)"
"""The seeds that were pooled, as text."""
NAMES = """(SELECT run_id, label || CASE WHEN count(*) OVER (PARTITION BY label) > 1
                THEN ' ' || right(run_id, 6) ELSE '' END AS name FROM runs)"""
"""What people call each run, told apart where they call two the same."""


def run_query(connection: duckdb.DuckDBPyConnection, query: str) -> Result:
    """Run SQL and fetch all rows of its last statement.

    Raises:
        StoreError: DuckDB refuses it; the message is DuckDB's first line.
    """
    try:
        cursor = connection.execute(query)
        if cursor.description is None:
            return Result((), [])
        columns = unique([column[0] for column in cursor.description])
        return Result(columns, cursor.fetchall())
    except duckdb.Error as error:
        raise refused(error) from error


def refused(error: duckdb.Error) -> StoreError:
    """Return a query's error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if is_damage(error):
        return StoreError(
            f"the results file must be intact, got: {lines[0]}; run `sdpo-bench ingest --rebuild`"
        )
    return StoreError(f"the query must be valid read-only SQL, got: {' '.join(lines[:2])}")


def runs_overview(connection: duckdb.DuckDBPyConnection) -> Result:
    """Return one row a run: state, progress, headline."""
    return run_query(
        connection,
        """SELECT run_id, state, coalesce(algorithm, kind) AS algorithm, seed, last_step AS step,
                  planned_steps AS "of", n_rollouts AS rollouts, last_reward AS reward, k, n,
                  pass_at_1, error FROM run_overview""",
    )


def leaderboard(connection: duckdb.DuckDBPyConnection) -> Result:
    """Return the last evaluation of each run, best first."""
    return run_query(connection, "FROM leaderboard")


def eval_curve(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return pass@1 of each training run's evaluations, by step."""
    return of_runs(
        connection,
        """SELECT policy_run_id AS run_id, algorithm, seed, step, k, n, pass_at_1, interval_low,
                  interval_high, dataset, protocol, decoding
           FROM eval_curve WHERE step IS NOT NULL AND {runs}
           ORDER BY algorithm, seed, policy_run_id, dataset, step""",
        run_ids,
        column="policy_run_id",
    )


def reward_curve(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None, *, n_bins: int = 20
) -> Result:
    """Return training reward by bin of steps, seeds pooled, with the interval over groups.

    One step has a handful of groups; a bin pools enough of them to show a trend.
    """
    return of_runs(
        connection,
        f"""WITH by_group AS (
                SELECT run_id, step, group_index, avg(reward) AS reward, count(*) AS n
                FROM rollouts WHERE {{runs}} GROUP BY ALL),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM by_group)
            SELECT coalesce(algorithm, kind) AS algorithm, model, dataset,
                   {_SEEDS} AS seed, count(DISTINCT run_id) AS n_runs,
                   floor((step - 1) / width) * width + (width + 1) / 2 AS step,
                   sum(n)::BIGINT AS n_completions, count(*) AS n_groups, avg(reward) AS reward_mean,
                   avg(reward) - t_975(count(*) - 1) * stddev_samp(reward) / sqrt(count(*)) AS interval_low,
                   avg(reward) + t_975(count(*) - 1) * stddev_samp(reward) / sqrt(count(*)) AS interval_high
            FROM by_group JOIN runs USING (run_id) CROSS JOIN extent
            GROUP BY ALL ORDER BY model, dataset, algorithm, step""",  # noqa: S608 - an int
        run_ids,
    )


def sdpo_internals(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None, *, n_bins: int = 50
) -> Result:
    """Return teacher coverage and the `distill/` metrics by bin of steps."""
    return of_runs(
        connection,
        f"""WITH points AS (
                SELECT run_id, step, 'completions with a teacher' AS quantity,
                       'fraction (0 to 1)' AS unit, 0 AS rank, coverage_fraction AS value
                FROM teacher_coverage WHERE {{runs}}
                UNION ALL
                SELECT run_id, step, replace(replace(name, '/', ' '), '_', ' '),
                       CASE WHEN name LIKE '%fraction%' THEN 'fraction (0 to 1)'
                            WHEN name LIKE '%loss%' THEN 'loss'
                            WHEN name LIKE '%tokens%' THEN 'tokens' ELSE 'nats' END,
                       1, value
                FROM metrics
                WHERE {{runs}} AND name LIKE 'distill/%' AND isfinite(value)),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM points)
            SELECT run_id, algorithm, seed, quantity, unit, rank,
                   floor((step - 1) / width) * width + (width + 1) / 2 AS step,
                   avg(value) AS value, count(*) AS n
            FROM points JOIN runs USING (run_id) CROSS JOIN extent
            WHERE algorithm <> 'grpo' AND step > 0
            GROUP BY ALL ORDER BY rank, quantity, run_id, step""",  # noqa: S608 - an int
        run_ids,
    )


def audits(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None) -> Result:
    """Return the largest difference of each audit layer at each step."""
    return of_runs(
        connection,
        """SELECT run_id, algorithm, seed, step, layer, max(delta) AS delta,
                  min(threshold) AS threshold
           FROM audits JOIN runs USING (run_id) WHERE {runs} AND isfinite(delta)
           GROUP BY ALL ORDER BY layer, run_id, step""",
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
           WHERE run_id IN (FROM chosen) AND step IS NOT NULL ORDER BY step, task_id""",
        run_ids,
    )


def failure_classes(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None, *, n_bins: int = 20
) -> Result:
    """Return how training completions end, by bin of steps."""
    return of_runs(
        connection,
        f"""WITH counted AS (
                SELECT run_id, step, outcome, n FROM failure_classes
                WHERE source = 'rollouts' AND {{runs}}),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM counted)
            SELECT run_id, name, algorithm, seed, outcome,
                   floor((step - 1) / width) * width + 0.5 AS step,
                   floor((step - 1) / width) * width + width + 0.5 AS step_end,
                   sum(n)::BIGINT AS n
            FROM counted JOIN runs USING (run_id) JOIN {{names}} USING (run_id) CROSS JOIN extent
            GROUP BY ALL ORDER BY name, run_id, step, outcome""",  # noqa: S608 - an int
        run_ids,
    )


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
                  greatest(0, p.pass_at_k - 1.96 * sqrt(p.pass_at_k * (1 - p.pass_at_k) / p.n_problems))
                      AS interval_low,
                  least(1, p.pass_at_k + 1.96 * sqrt(p.pass_at_k * (1 - p.pass_at_k) / p.n_problems))
                      AS interval_high
           FROM pass_at_k p JOIN last USING (run_id, eval_id)
           JOIN eval_curve r USING (run_id, eval_id)
           ORDER BY series, k""",
        run_ids,
    )


def comparison(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return each policy's last evaluation, with a name and its counts as text."""
    return of_runs(
        connection,
        """SELECT label || CASE WHEN step IS NULL THEN '' ELSE ' @ ' || step END
                  || CASE WHEN count(*) OVER (PARTITION BY label, step) > 1
                          THEN ' (' || right(run_id, 6) || ')' ELSE '' END AS name,
                  k || ' / ' || n AS counts, *
           FROM leaderboard WHERE {runs} ORDER BY dataset, pass_at_1 DESC, name""",
        run_ids,
    )


def signal(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None, *, n_bins: int = 20
) -> Result:
    """Return the share of groups with equal rewards, seeds pooled, with Wilson intervals."""
    return of_runs(
        connection,
        f"""WITH by_group AS (
                SELECT run_id, step, group_index, max(reward) = min(reward) AS flat
                FROM rollouts WHERE {{runs}} GROUP BY ALL),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM by_group),
            bins AS (
                SELECT coalesce(algorithm, kind) AS algorithm, model, dataset, {_SEEDS} AS seed,
                       floor((step - 1) / width) * width + (width + 1) / 2 AS step,
                       count(*) AS n, count(*) FILTER (flat) / count(*) AS p, 1.96 * 1.96 AS zz
                FROM by_group JOIN runs USING (run_id) CROSS JOIN extent GROUP BY ALL)
            SELECT algorithm, model, dataset, seed, step, n AS n_groups, p AS flat_fraction,
                   (p + zz / (2 * n) - 1.96 * sqrt(p * (1 - p) / n + zz / (4 * n * n)))
                       / (1 + zz / n) AS interval_low,
                   (p + zz / (2 * n) + 1.96 * sqrt(p * (1 - p) / n + zz / (4 * n * n)))
                       / (1 + zz / n) AS interval_high
            FROM bins ORDER BY model, dataset, algorithm, step""",  # noqa: S608 - an int
        run_ids,
    )


def teacher_kinds(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return reward by what the teacher was shown, with the interval of the mean."""
    return of_runs(
        connection,
        """SELECT k.run_id, r.algorithm, r.seed, k.teacher_kind, count(*) AS n,
                  avg(k.reward) AS reward_mean,
                  avg(k.reward) - t_975(count(*) - 1) * stddev_samp(k.reward) / sqrt(count(*)) AS interval_low,
                  avg(k.reward) + t_975(count(*) - 1) * stddev_samp(k.reward) / sqrt(count(*)) AS interval_high
           FROM (SELECT run_id, reward, CASE
                     WHEN teacher_prompt IS NULL THEN 'no teacher'
                     WHEN demonstration_member IS NOT NULL AND feedback_used
                          THEN 'demonstration + feedback'
                     WHEN demonstration_member IS NOT NULL THEN 'demonstration'
                     ELSE 'feedback' END AS teacher_kind
                 FROM rollouts WHERE {runs}) k
           JOIN runs r USING (run_id) WHERE r.algorithm <> 'grpo'
           GROUP BY ALL ORDER BY k.run_id, teacher_kind""",
        run_ids,
    )


def step_time(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
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


def sandbox_latency(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
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


def token_divergence(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None
) -> Result:
    """Return the sampled tokens of the completion on which teacher and student differ most."""
    return of_runs(
        connection,
        """WITH worst AS (
               SELECT run_id, step, group_index, member_index FROM token_stats
               WHERE {runs} AND divergence IS NOT NULL
               GROUP BY ALL ORDER BY avg(divergence) DESC, run_id, step, group_index, member_index LIMIT 1)
           SELECT t.run_id, name, r.algorithm, r.seed, t.step, o.task_id, t.token_index,
                  t.token, t.student_logprob, t.teacher_logprob, t.divergence
           FROM token_stats t JOIN worst USING (run_id, step, group_index, member_index)
           JOIN runs r USING (run_id) JOIN {names} USING (run_id)
           LEFT JOIN rollouts o USING (run_id, step, group_index, member_index)
           ORDER BY t.token_index LIMIT 420""",
        run_ids,
    )


def flips(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None = None) -> Result:
    """Return gained, lost and unchanged problems between two policies' last evaluations.

    Two runs are compared with each other; one run, its first evaluation with its last. The p-value
    is McNemar's exact one.
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
                      a.step AS step_a, b.step AS step_b, b.algorithm, b.seed
               FROM ordered a JOIN ordered b
                 ON a.dataset = b.dataset AND a.protocol = b.protocol AND a.decoding = b.decoding
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
                  label_b || coalesce(' @ ' || step_b, '') AS name_b, algorithm, seed,
                  change,
                  count(*) AS n, left(string_agg(task_id, ', ' ORDER BY task_id), 200) AS task_ids
           FROM paired GROUP BY name_a, name_b, algorithm, seed, change
           ORDER BY array_position(['gained', 'lost', 'solved by both', 'solved by neither'], change)
        """,
        run_ids,
    )
    counts = {row["change"]: row["n"] for row in result.records()}
    gained, lost = counts.get("gained", 0), counts.get("lost", 0)
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Result((*result.columns, "p_value"), [(*row, p_value) for row in result.rows])


def of_runs(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    run_ids: Sequence[str] | None,
    *,
    column: str = "run_id",
) -> Result:
    """Run a query whose `{runs}` is a condition on the run, or true for all runs; `{names}` is NAMES."""
    try:
        if run_ids is None:
            cursor = connection.execute(query.format(runs="true", names=NAMES))
        else:
            condition = f"list_contains($1, {column})"
            query = query.format(runs=condition, names=NAMES)
            cursor = connection.execute(query, [list(run_ids)])
        return Result(tuple(c[0] for c in cursor.description or ()), cursor.fetchall())
    except duckdb.Error as error:
        raise refused(error) from error
