"""Supervised fine-tuning on the policy's own passing completions: the control without advantage or teacher."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from trainer.losses.aggregation import token_mean


def imitation_loss(
    logprobs: Float[Tensor, "row token"],
    mask: Bool[Tensor, "row token"],
    *,
    n_tokens: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """- sum of log s(y) over the masked tokens / max(n_tokens, 1), n_tokens over the optimizer step.

    Source: one round of rejection-sampling fine-tuning (arXiv:2308.01825) with every rollout batch.
    """
    return token_mean(-logprobs, mask, n_tokens=n_tokens)
