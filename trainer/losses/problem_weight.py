"""How much each problem of a rollout batch counts in the distillation loss."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def pass_rate_weights(passing: Bool[Tensor, "problem member"]) -> Float[Tensor, " problem"]:
    """sqrt(p (1 - p)) of each problem, p the share of its members that pass, over its mean over the batch.

    A problem that all members solve, or none, weighs 0; where that holds for all, every weight is 0. The rest
    average to 1, so that the loss keeps its size. Source: arXiv:2605.27765; it normalises within the batch
    too, in a way that its abstract does not say.
    """
    rate = passing.to(torch.float64).mean(dim=-1)
    weights = (rate * (1.0 - rate)).sqrt()
    # all zero stay zero: 0 / 0 would make the whole batch's loss NaN
    mean = weights.mean()
    return torch.where(mean > 0.0, weights / mean, weights).to(torch.float32)
