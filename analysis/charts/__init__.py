"""One function a figure: rows in, altair chart out; reads nothing. The one importer of altair.

Estimates are drawn with their intervals, axes carry units, n and seeds stand in the subtitle.
Colours stand for the algorithm and are told apart by colour-blind readers.

Public: `evaluations.pass_at_1_over_steps, comparison, flips, solve_matrix, pass_at_k`,
`training.training_reward, sdpo_internals, failure_classes`, `cost.step_time, sandbox_latency`.
"""

from analysis.charts.cost import bench_growth, sandbox_latency, step_time
from analysis.charts.evaluations import (
    comparison,
    flips,
    pass_at_1_over_steps,
    pass_at_k,
    solve_matrix,
    teacher_gap,
)
from analysis.charts.style import Parts, parts
from analysis.charts.training import (
    audit_deltas,
    failure_classes,
    sdpo_internals,
    signal,
    teacher_kinds,
    token_divergence,
    training_reward,
)

__all__ = [
    "Parts",
    "audit_deltas",
    "bench_growth",
    "comparison",
    "failure_classes",
    "flips",
    "pass_at_1_over_steps",
    "parts",
    "pass_at_k",
    "sandbox_latency",
    "sdpo_internals",
    "signal",
    "solve_matrix",
    "step_time",
    "teacher_gap",
    "teacher_kinds",
    "token_divergence",
    "training_reward",
]
