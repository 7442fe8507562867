"""How many tokens a loaded model takes in one sequence."""

from __future__ import annotations

from evaluator.models.objects import CausalModel


def context_length(model: CausalModel) -> int | None:
    """Tokens of the longest sequence, prompt and completion together; None where the model names no limit.

    The smaller of what its configuration says and what Unsloth was told to prepare for: beyond the second it
    cuts the sequence and goes on with the wrong hidden states.
    """
    config = model.config
    limits = (
        getattr(config, "max_position_embeddings", None),
        getattr(model, "max_seq_length", None),
    )
    known = [int(limit) for limit in limits if limit is not None]
    return min(known) if known else None
