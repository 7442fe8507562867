"""What this machine has for training and evaluation, and what it lacks.

Changes nothing on the machine.
Public: `checks.examine`, `gpu.examine_gpu`, `finding.Finding`.
"""
