"""From per-token losses to a scalar; each function is named for what it divides by.

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
