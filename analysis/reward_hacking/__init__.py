"""Finds programs that know the asserts instead of solving the problem.

A suspicion, never a verdict; runs nothing.
Public: `suspects.suspicion, examine`, `hard_coding.hard_coded`.
"""
