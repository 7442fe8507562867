"""The one judge of differences between runs.

Reads no file.
Public: `verdict.judge, Arm, Finding`, `paired.paired_difference`, `conditions.conditions`.
"""
