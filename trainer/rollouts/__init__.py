"""One batch of rollouts: the model they are drawn from, their grades, rows and metrics.

Does not compute a loss.
Public: `rollouts.RolloutGrader, GradedRollout`, `metrics.group_metrics`, `token_stats.token_records`.
"""
