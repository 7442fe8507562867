"""Base weights in 4 bits (NF4, double quantised) through bitsandbytes, on CUDA and on CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluator.models.objects import CausalModel

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How weights are quantised; `dtype` is that of the arithmetic.

    Source: QLoRA, arXiv:2305.14314, sections 3 and 4.
    """
    import transformers

    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_gradients_on_cpu(model: CausalModel) -> None:
    """Keep 4-bit layers off the packed format of AVX512-BF16 processors; before the first forward pass.

    The first forward pass without gradients packs the weights for a fast kernel, and later training passes
    go through that kernel too, past autograd: gradients of all layers below are then silently wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_four_bit(model: CausalModel) -> bool:
    """Whether the base weights are in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
