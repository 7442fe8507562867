"""Exit statuses of `sdpo-bench train`; docs/training.md lists them for people."""

from __future__ import annotations

FINISHED = 0
FAILED = 1
"""A mistake of the user's, said in one line, or an audit whose layers did not all pass."""
NON_FINITE = 65
"""A loss or gradient was NaN or infinite; the batch is saved, the weights are those of the step before."""
FAULT = 74
"""Sandbox, disk or evaluation failed for longer than `fault_patience_s`; the state is saved."""
STOPPED = 75
"""SIGTERM or SIGINT: the step in progress was finished and its state saved; `--resume` goes on."""
UNCALIBRATED = 78
"""The base model's pass@1 is outside the band known for it; nothing was trained."""
KILLED = 128
"""Plus the number of the signal that killed the training process."""
INTERRUPTED = 130
"""SIGINT before the first step, or a second one: stopped at once; `--resume` goes on from the last checkpoint."""
