"""Per-token weights on the distillation loss; constants with respect to the student."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Bound on |log ratio| before exp, so that no ratio overflows. Source: reference core_algos.py 1171."""


def importance_weight(
    logprobs: Float[Tensor, "*token"], old_logprobs: Float[Tensor, "*token"], *, clip: float
) -> Float[Tensor, "*token"]:
    """min(pi / pi_old, clip): corrects for updates made since the rollout; no lower clip."""
    log_ratio = (logprobs - old_logprobs).detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio.exp().clamp_max(clip)


def mismatch_weight(
    trainer_logprobs: Float[Tensor, "*token"],
    sampler_logprobs: Float[Tensor, "*token"],
    *,
    clip: float = 2.0,
) -> Float[Tensor, "*token"]:
    """min(pi_trainer / pi_sampler, clip): corrects for a sampler that computes other probabilities."""
    return importance_weight(trainer_logprobs, sampler_logprobs, clip=clip)
