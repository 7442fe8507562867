"""Per-token weights of the distillation loss; constants with respect to the student."""

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
    """min(pi_trainer / pi_sampler, clip): corrects for a sampler that computes other probabilities.

    A token that the sampler could not score (NaN) keeps weight 1. Source: reference core_algos.py 1178-1180.
    """
    weights = importance_weight(trainer_logprobs, sampler_logprobs, clip=clip)
    return weights.masked_fill(sampler_logprobs.isnan(), 1.0)


def at_the_clip(
    logprobs: Float[Tensor, " token"], old_logprobs: Float[Tensor, " token"], *, clip: float
) -> Float[Tensor, " token"]:
    """1 for each token whose importance weight stands at the clip, else 0."""
    weights = importance_weight(logprobs, old_logprobs, clip=clip)
    return (weights >= clip).to(logprobs.dtype)
