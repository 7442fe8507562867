"""The completions that a report holds: of training, and of each run's last evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from duckdb import DuckDBPyConnection as Connection

from analysis.queries import Runs, of_runs
from analysis.render import Result
from analysis.report.markup import count

MOST_ROLLOUTS = 3200
"""Completions of training in a page; of more, whole steps of runs are left out evenly."""
MOST_EVALUATED = 1600
"""Completions of evaluations in a page; of more, the later problems are left out."""
LONGEST_TEXT = 20_000
"""Characters kept of a prompt or completion in the page; the results file has all."""


@dataclass(frozen=True)
class Completions:
    """Rows for the browser, and what there is in all."""

    rows: Result
    n_rollouts: int
    n_rollouts_kept: int
    n_evaluated: int
    """First completions of last evaluations."""
    n_evaluated_kept: int
    n_other: int
    """Further completions of evaluations: earlier ones, and samples beyond the first."""

    @property
    def n_stored(self) -> int:
        """Every completion that the results hold of these runs."""
        return self.n_rollouts + self.n_evaluated + self.n_other


def completions(connection: Connection, run_ids: Runs) -> Completions:
    """Return the completions for the browser. StoreError: the results are damaged."""
    last = "SEMI JOIN leaderboard USING (run_id, eval_id)"
    counts = of_runs(
        connection,
        f"""SELECT (SELECT count(*) FROM rollouts WHERE {{runs}}),
                   (SELECT count(*) FROM eval_results {last} WHERE {{runs}} AND sample_index = 0),
                   (SELECT count(*) FROM eval_results WHERE {{runs}})""",  # noqa: S608
        run_ids,
    )
    n_rollouts, n_evaluated, n_all_evaluated = counts.rows[0]
    rows = _kept(connection, run_ids, last, share=min(1.0, MOST_ROLLOUTS / max(n_rollouts, 1)))
    place = rows.columns.index("source")
    n_kept = sum(row[place] == "training" for row in rows.rows)
    n_evaluated_kept = len(rows.rows) - n_kept
    n_other = n_all_evaluated - n_evaluated
    return Completions(rows, n_rollouts, n_kept, n_evaluated, n_evaluated_kept, n_other)


def _kept(connection: Connection, run_ids: Runs, last: str, *, share: float) -> Result:
    """The completions of a page: of training a share (0..1) of the steps of all runs, evenly, and at least one."""
    up_to = f"floor(place * {share!r}::DOUBLE + {1 - share + 1e-9!r}::DOUBLE)"
    return of_runs(
        connection,
        f"""WITH steps AS (
                SELECT run_id, step, row_number() OVER (ORDER BY run_id, step) AS place
                FROM rollouts WHERE {{runs}} GROUP BY run_id, step),
            chosen AS (
                SELECT run_id, step FROM steps
                QUALIFY {up_to} > lag({up_to}, 1, 0) OVER (ORDER BY place)),
            kept AS (
                SELECT run_id, 'training' AS source, step, group_index, member_index, execution_id,
                       task_id, outcome, reward, advantage, n_passed, n_asserts,
                       n_completion_tokens, truncated, prompt, completion, feedback, teacher_prompt
                FROM rollouts SEMI JOIN chosen USING (run_id, step)
                WHERE {{runs}}
                ORDER BY run_id, step, group_index, member_index LIMIT {MOST_ROLLOUTS}),
            evaluated AS (
                SELECT r.run_id, 'evaluation' AS source, e.step, r.eval_id, r.execution_id,
                       r.task_id, r.outcome, r.n_passed, r.n_asserts, r.n_completion_tokens,
                       r.truncated, r.prompt, r.completion, r.feedback
                FROM (FROM eval_results {last}) r JOIN evals e USING (run_id, eval_id)
                WHERE {{runs}} AND sample_index = 0
                ORDER BY task_order(r.task_id), r.run_id LIMIT {MOST_EVALUATED}),
            both_sources AS (FROM kept UNION ALL BY NAME FROM evaluated),
            tests AS (
                SELECT run_id, execution_id, list({{{{
                    'assertion': left(assertion, 500), 'verdict': verdict, 'exception': exception,
                    'message': left(message, 500), 'got': left(got, 500)}}}} ORDER BY assert_index) AS tests
                FROM test_results SEMI JOIN both_sources USING (run_id, execution_id) GROUP BY ALL)
            SELECT name, run_id, source, step, eval_id, group_index, member_index, task_id, outcome,
                   reward, advantage, n_passed, n_asserts, n_completion_tokens, truncated,
                   left(prompt, {LONGEST_TEXT}) AS prompt,
                   left(completion, {LONGEST_TEXT}) AS completion,
                   left(feedback, {LONGEST_TEXT}) AS feedback,
                   left(teacher_prompt, {LONGEST_TEXT}) AS teacher_prompt,
                   coalesce(tests, []) AS tests
            FROM both_sources LEFT JOIN tests USING (run_id, execution_id)
            JOIN {{names}} USING (run_id)
            ORDER BY source DESC, name, run_id, step, group_index, member_index, task_order(task_id)""",  # noqa: S608
        run_ids,
    )


def describe(found: Completions) -> str:
    """Say what the browser holds, what there is beside, and how to see that."""
    if not found.n_stored:
        return "These runs have no completions."
    parts = [
        _part(found.n_rollouts_kept, found.n_rollouts, "of training", "whole steps, spread evenly"),
        _part(
            found.n_evaluated_kept, found.n_evaluated, "of last evaluations", "the first problems"
        ),
        f"none of {found.n_other:,} of earlier evaluations and further samples"
        if found.n_other
        else "",
    ]
    said = f"The results hold {count(found.n_stored, 'completion')} of these runs. On this page: "
    said += ", ".join(part for part in parts if part) + "."
    return said if len(found.rows.rows) == found.n_stored else said + _REST


_REST = (
    " The rest: `sdpo-bench report RUN` writes a page of one run, `sdpo-bench sql` reads the tables"
    " rollouts and eval_results."
)


def _part(n_kept: int, n_total: int, what: str, which: str) -> str:
    """Describe one source; nothing where it has no rows."""
    if not n_total:
        return ""
    return (
        f"all {n_total:,} {what}"
        if n_kept == n_total
        else f"{n_kept:,} of {n_total:,} {what} ({which})"
    )
