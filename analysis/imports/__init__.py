"""Takes in what other programs logged.

Makes nothing up: what a log does not hold is NULL.
Public: `foreign.read_log`, `foreign_evals.Imported`.
"""
