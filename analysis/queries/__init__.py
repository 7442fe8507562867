"""One function a question: connection in, rows out. Charts and the command line use the same ones.

Public: `sql.run_query`, `evaluations.eval_curve, comparison, flips, solve_matrix, pass_at_k`,
`training.reward_curve, failure_classes, audits`, `cost.runs_overview, step_time`.
"""

from analysis.queries.cost import runs_overview, sandbox_latency, step_time
from analysis.queries.evaluations import (
    comparison,
    eval_curve,
    flips,
    pass_at_k,
    solve_matrix,
    teacher_gap,
)
from analysis.queries.sql import NAMES, Runs, of_runs, refused, run_query
from analysis.queries.training import (
    audits,
    failure_classes,
    reward_curve,
    sdpo_internals,
    signal,
    teacher_kinds,
    token_divergence,
)

__all__ = [
    "NAMES",
    "Runs",
    "audits",
    "comparison",
    "eval_curve",
    "failure_classes",
    "flips",
    "of_runs",
    "pass_at_k",
    "refused",
    "reward_curve",
    "run_query",
    "runs_overview",
    "sandbox_latency",
    "sdpo_internals",
    "signal",
    "solve_matrix",
    "step_time",
    "teacher_gap",
    "teacher_kinds",
    "token_divergence",
]
