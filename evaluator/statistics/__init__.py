"""Estimates and intervals of pass rates.

Does not compare policies: `analysis.statistics` does.
Public: `stats.wilson, Interval`, `pass_at_k.pass_at_k`.
"""
