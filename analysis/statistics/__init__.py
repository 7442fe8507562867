"""Pass rates with their intervals, and the one judge of differences between runs.

Reads no file.
Public: `intervals.wilson, wilson_of_mean, mean_interval`, `pass_at_k.pass_at_k`, `verdict.judge, Arm, Finding`,
`paired.paired_difference`, `conditions.conditions`.
"""
