"""Keeps trained weights in float32, whatever the base's precision: smaller formats round small updates away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from evaluator.models.four_bit import is_four_bit
from evaluator.models.objects import CausalModel


@contextmanager
def not_called_quantised(model: CausalModel) -> Iterator[None]:
    """Hide from TRL's constructor that the base is in 4 bits: it would cast the trained weights to bfloat16.

    In bfloat16 a step of lr 5e-6 is rounded away at most weights.
    """
    four_bit = is_four_bit(model)
    if four_bit:
        model.is_loaded_in_4bit = False
    try:
        yield
    finally:
        if four_bit:
            model.is_loaded_in_4bit = True


def keep_float32(model: CausalModel) -> None:
    """Have every trained weight in float32: what is smaller loses the steps."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
