"""From per-token losses to a scalar, each mean named for what it divides by; how much each problem counts.

Tokens outside the mask never matter, NaN included. An empty mask gives 0, attached to the graph.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def token_mean(
    per_token: Float[Tensor, "row token"],
    mask: Bool[Tensor, "row token"],
    *,
    n_tokens: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Sum over the masked tokens / max(number of masked tokens, 1).

    With `n_tokens`, the count over a whole optimizer step, the sums of its micro-batches add up to the
    step's mean however the step is cut.
    """
    count = mask.sum() if n_tokens is None else n_tokens
    return _masked(per_token, mask).sum() / count.clamp_min(1)


def sequence_mean(
    per_token: Float[Tensor, "row token"],
    mask: Bool[Tensor, "row token"],
    *,
    n_rows: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Mean of each row's token mean, over the rows that have a masked token.

    `n_rows` is the number of those over a whole optimizer step, as `token_mean`'s `n_tokens`.
    """
    return _row_means(per_token, mask).sum() / _n_rows(mask, n_rows)


def sequence_sum(
    per_token: Float[Tensor, "row token"],
    mask: Bool[Tensor, "row token"],
    *,
    n_rows: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Mean of each row's token sum, over the rows that have a masked token; `n_rows` as for `sequence_mean`."""
    return _masked(per_token, mask).sum() / _n_rows(mask, n_rows)


def sequence_sum_norm(
    per_token: Float[Tensor, "row token"],
    mask: Bool[Tensor, "row token"],
    *,
    n_padded: float | None = None,
) -> Float[Tensor, ""]:
    """Sum over the masked tokens / the length that rows are padded to, a constant of the run.

    `n_padded` is that length where the rows at hand are shorter.
    """
    return _masked(per_token, mask).sum() / (mask.shape[1] if n_padded is None else n_padded)


def all_sequences_mean(
    per_token: Float[Tensor, "row token"], mask: Bool[Tensor, "row token"]
) -> Float[Tensor, ""]:
    """Mean of each row's token mean over ALL rows; a row without masked tokens counts as 0.

    What the reference's token-mean becomes when its micro-batches hold one sequence each (dp_actor.py).
    """
    return _row_means(per_token, mask).sum() / max(mask.shape[0], 1)


def _n_rows(mask: Tensor, n_rows: Tensor | None) -> Tensor:
    return (mask.any(dim=-1).sum() if n_rows is None else n_rows).clamp_min(1)


def _row_means(per_token: Tensor, mask: Tensor) -> Tensor:
    return _masked(per_token, mask).sum(dim=-1) / mask.sum(dim=-1).clamp_min(1)


def _masked(per_token: Tensor, mask: Tensor) -> Tensor:
    # where, not a product: 0 * NaN is NaN
    return torch.where(mask, per_token, torch.zeros_like(per_token))


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
