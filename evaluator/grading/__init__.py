"""Grades completions, and turns a grade into a reward and into feedback.

Every weight of a reward lives here; the verdicts are the sandbox's.
Public: `grade.grade, Grade`, `reward.reward, Reward`, `feedback.feedback`.
"""
