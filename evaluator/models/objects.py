"""What the objects of transformers and peft are called in signatures: type checkers see neither library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

ModelOutput: TypeAlias = Any
"""A `transformers.utils.ModelOutput`; its `logits` have the shape (batch, token, vocabulary)."""
Tokenizer: TypeAlias = Any
"""A `transformers.PreTrainedTokenizerBase`."""
GenerationSettings: TypeAlias = Any
"""A `transformers.GenerationConfig`."""

if TYPE_CHECKING:
    import torch

    class CausalModel(torch.nn.Module):
        """What is used of a model that predicts text, beside what every module has.

        It is a `transformers.PreTrainedModel`, or the `peft.PeftModel` or accelerator's wrapper around one.
        """

        config: Any
        generation_config: GenerationSettings
        base_model: Any
        """The backbone, from token ids to hidden states."""
        is_loaded_in_4bit: bool
        """Only 4-bit models have it; ask `is_four_bit`."""
        device: torch.device
        dtype: torch.dtype
        generate: Callable[..., torch.Tensor]
        get_input_embeddings: Callable[[], torch.nn.Embedding]
        get_output_embeddings: Callable[[], torch.nn.Linear]
        """From hidden states to logits."""
        get_base_model: Callable[[], CausalModel]
        """Only an adapter's wrapper has it."""

        def modules(self, remove_duplicate: bool = True) -> Iterator[Any]:
            """All layers, itself first."""

else:
    CausalModel = Any
