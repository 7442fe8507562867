"""Metrics of each step beside TRL's own: pure functions of the graded groups, and peak memory."""

from __future__ import annotations

import builtins
import resource
import statistics
from collections import Counter
from collections.abc import Sequence

import torch

from trainer.rollouts.rollouts import GradedRollout

_CLASSES = {"passed", "wrong_answer", "no_code", "timeout", "memory", "crashed"} | {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


def group_metrics(graded: Sequence[GradedRollout], *, group_size: int) -> dict[str, float]:
    """Spread of the rewards within groups, groups without a signal, and failure classes, as fractions.

    A program can define an exception of any name: only Python's own become names of metrics, the others
    are `outcome/other_fraction`. The rows of `rollouts` hold the class as it was.
    """
    rewards = [rollout.reward.total for rollout in graded]
    spreads = [
        statistics.pstdev(rewards[start : start + group_size])
        for start in range(0, len(rewards), group_size)
    ]
    counts = Counter(
        rollout.grade.outcome if rollout.grade.outcome in _CLASSES else "other"
        for rollout in graded
    )
    n_rollouts, n_groups = max(len(graded), 1), max(len(spreads), 1)
    return {
        "groups/reward_std": sum(spreads) / n_groups,
        "groups/no_reward_signal_fraction": sum(spread == 0.0 for spread in spreads) / n_groups,
        **{f"outcome/{name}_fraction": n / n_rollouts for name, n in sorted(counts.items())},
    }


def peak_memory_bytes() -> int:
    """The allocator's peak on a GPU, else the process's peak resident memory; both since its start."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
