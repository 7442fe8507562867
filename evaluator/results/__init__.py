"""Evaluations as rows, summaries and comparisons.

Does not write a journal, nor print.
Public: `stored.StoredEval, find_evals`, `summary.EvalSummary`, `compare.compare`, `plausibility.suspicion`.
"""
