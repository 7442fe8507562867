"""Losses, teacher, training loop, audit and demo: turns graded completions into weight updates.

No other package imports it. Problems and grades come from `evaluator`, rows go to `analysis.journal`.

Public: `training.train.train, resume, RunResult`, `options.config.parse_options, Options`.
"""
