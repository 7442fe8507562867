"""Problems, prompts, sampling and grading: measures what a model can do; never changes its weights.

Public: `problems.mbpp.load_problems`, `grading.grade.grade, Grade`, `grading.reward.reward`,
`grading.feedback.feedback`, `sampling.model.load_policy`, `evaluation.evaluate.evaluate`.
"""
