"""Attention of one new token over heads that share their keys and values, without a copy of these for each head.

transformers repeats keys and values for every query head before each call, in each layer and for each token. For
a single query the heads of a group can instead stand where queries do, since all of them see the same keys under
the same mask. The sums are the same but for their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def share_keys_and_values() -> None:
    """Let every model that transformers loads with its `sdpa` attention decode this way; once for the process."""
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register("sdpa", grouped_attention)


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Return attention's output, (row, query, head, size), as transformers' own `sdpa` function does.

    Args:
        module: the attention layer.
        query: (row, head, query, size).
        key: (row, key head, key, size); each serves the same number of neighbouring query heads.
        value: likewise.
        attention_mask: (row, 1 or head, query, key), true where a query may look or what is added to its
            scores; None is all for a single query.
        dropout: share of weights that are dropped.
        scaling: of the scores; None is one over the root of the size.
        more: what transformers' function takes besides.
    """
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    n_rows, n_heads, n_queries, size = query.shape
    n_shared, rest = divmod(n_heads, key.shape[1])
    one_mask = attention_mask is None or attention_mask.shape[1] == 1
    has_bias = more.get("position_bias") is not None
    if n_queries > 1 or n_shared == 1 or rest or not one_mask or dropout or has_bias:
        theirs: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return theirs
    groups = query.reshape(n_rows, key.shape[1], n_shared, size)
    output = scaled_dot_product_attention(
        groups, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(n_rows, 1, n_heads, -1), None
