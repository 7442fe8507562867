"""Whole experiments: single hard problems, the teacher's gap, the benchmark as stages.

Does not train by itself: it calls `trainer.training`.
Public: `solve.solve`, `gap.measure_gap`, `discovery.compare_trials`, `reproduce`.
"""
