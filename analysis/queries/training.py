"""Queries about training: reward, what the teacher says, how completions end, the audit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from analysis.queries.arms import pooled_by_arm
from analysis.queries.sql import Runs, of_runs
from analysis.render import Result

_SEEDS = "string_agg(DISTINCT seed::VARCHAR, ', ' ORDER BY seed::VARCHAR)"
"""The seeds that were pooled, as text."""


def reward_curve(connection: Connection, run_ids: Runs = None, *, n_bins: int = 20) -> Result:
    """Return training reward by bin of steps: the mean over completions, its interval over groups, seeds pooled.

    One step has a handful of groups; a bin pools enough of them to show a trend. A run whose completions
    nobody has, an imported one, is drawn by its metric `reward`: without interval, n_completions 0.
    """
    return pooled_by_arm(
        connection,
        f"""WITH by_group AS (
                SELECT run_id, step, sum(reward) AS total, count(reward) AS n, n AS weight
                FROM rollouts WHERE {{runs}} GROUP BY run_id, step, group_index
                HAVING count(reward) > 0
                UNION ALL
                SELECT run_id, step, value, 0, 1 FROM metrics
                WHERE {{runs}} AND name = 'reward' AND isfinite(value) AND step > 0
                  AND run_id NOT IN (SELECT run_id FROM rollouts)),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM by_group),
            bins AS (
                SELECT series, coalesce(algorithm, kind) AS algorithm, model, dataset,
                       {_SEEDS} AS seed, count(DISTINCT run_id) AS n_runs,
                       floor((step - 1) / width) * width + (width + 1) / 2 AS step,
                       sum(n)::BIGINT AS n_completions, count(*) FILTER (n > 0) AS n_groups,
                       sum(total) / sum(weight) AS reward_mean,
                       CASE WHEN min(n) > 0 THEN grouped_half(weight, total) END AS half
                FROM by_group JOIN runs USING (run_id) JOIN {{arms}} USING (run_id)
                CROSS JOIN extent GROUP BY ALL)
            SELECT * EXCLUDE (half), reward_mean - half AS interval_low,
                   reward_mean + half AS interval_high
            FROM bins ORDER BY model, dataset, algorithm, series, step""",  # noqa: S608 - an int
        run_ids,
    )


def sdpo_internals(connection: Connection, run_ids: Runs = None, *, n_bins: int = 50) -> Result:
    """Return teacher coverage and the `distill/` metrics by bin of steps; equal curves once."""
    found = of_runs(
        connection,
        f"""WITH points AS (
                SELECT run_id, step, 'completions with a teacher' AS quantity,
                       'fraction (0 to 1)' AS unit, 0 AS rank, coverage_fraction AS value
                FROM teacher_coverage WHERE {{runs}}
                UNION ALL
                SELECT run_id, step,
                       CASE name WHEN 'distill/loss' THEN 'distillation loss'
                            WHEN 'distill/per_token' THEN 'divergence per token'
                            WHEN 'distill/kl_per_token' THEN 'KL to the teacher per token'
                            ELSE replace(replace(name, 'distill/', ''), '_', ' ') END,
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
    return _equal_once(found)


def _equal_once(found: Result) -> Result:
    """Join quantities whose values are the same in every run and bin: their curve is one.

    The loss is the divergence per token unless problems are weighed or tokens counted otherwise.
    """
    curves: dict[str, dict[tuple[str, float], float]] = {}
    for row in found.records():
        curves.setdefault(row["quantity"], {})[row["run_id"], row["step"]] = row["value"]
    names: dict[str, list[str]] = {}
    for quantity, curve in curves.items():
        first = next((name for name in names if _equal(curves[name], curve)), quantity)
        names.setdefault(first, []).append(quantity)
    place = found.columns.index("quantity")
    rows = [
        (*row[:place], " = ".join(names[row[place]]), *row[place + 1 :])
        for row in found.rows
        if row[place] in names
    ]
    return Result(found.columns, rows)


def _equal(first: Mapping[Any, float], second: Mapping[Any, float]) -> bool:
    """Whether two curves agree to what float32 sums keep."""
    return first.keys() == second.keys() and all(
        math.isclose(first[key], second[key], rel_tol=1e-4, abs_tol=1e-9) for key in first
    )


def audits(connection: Connection, run_ids: Runs = None) -> Result:
    """Return the largest difference of each audit layer at each step."""
    return of_runs(
        connection,
        """SELECT run_id, algorithm, seed, step, layer, max(delta) AS delta,
                  min(threshold) AS threshold
           FROM audits JOIN runs USING (run_id) WHERE {runs} AND isfinite(delta)
           GROUP BY ALL ORDER BY layer, run_id, step""",
        run_ids,
    )


def failure_classes(connection: Connection, run_ids: Runs = None, *, n_bins: int = 20) -> Result:
    """Return how training completions end, by bin of steps; an imported log does not tell."""
    return of_runs(
        connection,
        f"""WITH counted AS (
                SELECT run_id, step, outcome, n FROM failure_classes
                WHERE source = 'rollouts' AND outcome <> 'imported' AND {{runs}}),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM counted)
            SELECT run_id, name, algorithm, seed, outcome,
                   floor((step - 1) / width) * width + 0.5 AS step,
                   floor((step - 1) / width) * width + width + 0.5 AS step_end,
                   sum(n)::BIGINT AS n
            FROM counted JOIN runs USING (run_id) JOIN {{names}} USING (run_id) CROSS JOIN extent
            GROUP BY ALL ORDER BY name, run_id, step, outcome""",  # noqa: S608 - an int
        run_ids,
    )


def signal(connection: Connection, run_ids: Runs = None, *, n_bins: int = 20) -> Result:
    """Return the share of groups with equal rewards, seeds of an arm pooled, with Wilson intervals."""
    return pooled_by_arm(
        connection,
        f"""WITH by_group AS (
                SELECT run_id, step, group_index, max(reward) = min(reward) AS flat
                FROM rollouts WHERE {{runs}} GROUP BY ALL HAVING count(reward) > 0),
            extent AS (SELECT greatest(1, ceil(max(step) / {int(n_bins)})) AS width FROM by_group),
            bins AS (
                SELECT series, coalesce(algorithm, kind) AS algorithm, model, dataset,
                       {_SEEDS} AS seed,
                       floor((step - 1) / width) * width + (width + 1) / 2 AS step,
                       count(*) AS n, count(*) FILTER (flat) / count(*) AS p
                FROM by_group JOIN runs USING (run_id) JOIN {{arms}} USING (run_id)
                CROSS JOIN extent GROUP BY ALL)
            SELECT series, algorithm, model, dataset, seed, step, n AS n_groups, p AS flat_fraction,
                   wilson_low(p, n) AS interval_low, wilson_high(p, n) AS interval_high
            FROM bins ORDER BY model, dataset, algorithm, series, step""",  # noqa: S608 - an int
        run_ids,
    )


def teacher_kinds(connection: Connection, run_ids: Runs = None) -> Result:
    """Return reward by what the teacher was shown: the mean over completions, its interval over groups.

    A group's completions share their problem: each counts by its distance from the mean, summed within its
    group. There is no interval below three groups or where all groups agree.
    """
    return of_runs(
        connection,
        """WITH by_group AS (
               SELECT run_id, replace(teacher_kind, 'none', 'no teacher') AS teacher_kind,
                      count(*) AS n, sum(reward) AS total
               FROM shown_to_teacher WHERE {runs} AND reward IS NOT NULL
               GROUP BY run_id, teacher_kind, step, group_index),
           summed AS (
               SELECT run_id, teacher_kind, sum(n)::BIGINT AS n, count(*) AS n_groups,
                      sum(total) / sum(n) AS reward_mean, grouped_half(n, total) AS half
               FROM by_group GROUP BY run_id, teacher_kind)
           SELECT run_id, r.algorithm, r.seed, teacher_kind, n, n_groups, reward_mean,
                  reward_mean - half AS interval_low, reward_mean + half AS interval_high
           FROM summed JOIN runs r USING (run_id) WHERE r.algorithm <> 'grpo'
           ORDER BY run_id, teacher_kind""",
        run_ids,
    )


def token_divergence(connection: Connection, run_ids: Runs = None) -> Result:
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
