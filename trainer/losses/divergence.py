"""Divergences between the student's and the teacher's distribution of one token, in nats.

Every function takes log-probabilities over the same buckets, which sum to 1, and reduces the last axis.
Source: arXiv:2601.20802, section 3; reference implementation verl/trainer/ppo/core_algos.py, 1138-1162.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = -1e30
"""Stands in for log 0 inside logaddexp, whose gradient at (-inf, -inf) is NaN; exp(FLOOR) is 0 in every dtype."""


def forward_kl(
    student_logp: Float[Tensor, "*token bucket"], teacher_logp: Float[Tensor, "*token bucket"]
) -> Float[Tensor, "*token"]:
    """KL(T || S) = sum T (log T - log S): large where the teacher is likely and the student is not."""
    return _expected_log_ratio(teacher_logp, student_logp)


def reverse_kl(
    student_logp: Float[Tensor, "*token bucket"], teacher_logp: Float[Tensor, "*token bucket"]
) -> Float[Tensor, "*token"]:
    """KL(S || T) = sum S (log S - log T): large where the student is likely and the teacher is not."""
    return _expected_log_ratio(student_logp, teacher_logp)


def jensen_shannon(
    student_logp: Float[Tensor, "*token bucket"],
    teacher_logp: Float[Tensor, "*token bucket"],
    *,
    alpha: float,
) -> Float[Tensor, "*token"]:
    """Generalised Jensen-Shannon divergence.

    (1-a) KL(S || M) + a KL(T || M)  with  M = (1-a) S + a T,  0 < a < 1.

    Raises:
        ValueError: alpha is not strictly between 0 and 1; there the formula is 0 everywhere, not a KL.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(
            f"alpha must lie strictly between 0 and 1, got {alpha}; "
            "for a one-sided divergence use forward_kl or reverse_kl"
        )
    weights = student_logp.new_tensor([1.0 - alpha, alpha]).log()
    mixture = torch.logaddexp(
        student_logp.clamp_min(FLOOR) + weights[0], teacher_logp.clamp_min(FLOOR) + weights[1]
    )
    student_term = _expected_log_ratio(student_logp, mixture)
    teacher_term = _expected_log_ratio(teacher_logp, mixture)
    return (1.0 - alpha) * student_term + alpha * teacher_term


def _expected_log_ratio(
    logp: Float[Tensor, "*token bucket"], other_logp: Float[Tensor, "*token bucket"]
) -> Float[Tensor, "*token"]:
    """Sum of p (log p - log other), with 0 log 0 = 0 in value and gradient."""
    ratio = (logp - other_logp).masked_fill(logp == -torch.inf, 0.0)
    return (logp.exp() * ratio).sum(dim=-1)
