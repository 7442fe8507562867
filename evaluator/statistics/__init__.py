"""Estimates and intervals of pass rates.

Does not compare policies: `analysis.statistics` does.
Public: `stats.wilson, wilson_of_mean, mean_interval`, `pass_at_k.pass_at_k`.
"""
