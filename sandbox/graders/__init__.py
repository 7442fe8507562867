"""Graders of others, as commands for `sandbox attack --grader`; each file stands alone."""
