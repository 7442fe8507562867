"""Advantages that depend on the teacher, for a policy loss; constants with respect to the student."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainer.losses.importance import MAX_LOG_RATIO


def routed_advantages(
    advantages: Float[Tensor, " row"], distill_mask: Bool[Tensor, " row"]
) -> Float[Tensor, " row"]:
    """0 for the rows that the teacher corrects, the advantage of the others.

    Source: arXiv:2604.02288: passing rollouts take the GRPO term, failing ones that have a teacher the SDPO
    term, failing ones without a teacher the GRPO term.
    """
    return torch.where(distill_mask, torch.zeros_like(advantages), advantages)


def scaled_advantages(
    advantages: Float[Tensor, " row"],
    student_logprobs: Float[Tensor, "row token"],
    teacher_logprobs: Float[Tensor, "row token"],
    *,
    clip: float,
    mix: float,
) -> Float[Tensor, "row token"]:
    """A (1 - mix + mix clip(w_t, 1 - clip, 1 + clip)),  w_t = (q(y_t) / s(y_t))^sign(A).

    The sign is A's whatever the teacher thinks; where it agrees with that sign the token counts more. A token
    without a teacher, whose log-probabilities are equal, keeps A. Source: arXiv:2604.03128, equations 13 to
    15, and the interpolation with the uniform advantage described after them.

    Raises:
        ValueError: the clip is not in 0..1, where a weight could change the sign, or mix is not.
    """
    if not 0.0 <= clip <= 1.0 or not 0.0 <= mix <= 1.0:
        raise ValueError(f"clip and mix must lie in 0..1, got {clip} and {mix}; choose others")
    signs = advantages.sign().unsqueeze(-1)
    evidence = signs * (teacher_logprobs - student_logprobs).detach()
    weights = evidence.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp().clamp(1.0 - clip, 1.0 + clip)
    return advantages.unsqueeze(-1) * (1.0 - mix + mix * weights)


def mix_at(step: int, *, mix: float, n_steps: int) -> float:
    """The share of the scaled advantages at an optimizer step from 0: falls to 0 over `n_steps`, 0 never."""
    return mix if n_steps == 0 else mix * max(0.0, 1.0 - step / n_steps)
