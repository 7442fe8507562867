"""What the objects of transformers and peft are called in signatures: type checkers see neither library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

ModelOutput: TypeAlias = Any
"""A `transformers.utils.ModelOutput`; its `logits` have the shape (batch, token, vocabulary)."""
Tokenizer: TypeAlias = Any
"""A `transformers.PreTrainedTokenizerBase`."""
GenerationSettings: TypeAlias = Any
"""A `transformers.GenerationConfig`."""


class CausalModel(Protocol):
    """What is used of a model that predicts text.

    It is a `transformers.PreTrainedModel`, or the `peft.PeftModel` or accelerator's wrapper around one.
    """

    config: Any
    generation_config: GenerationSettings
    base_model: Any
    """The backbone, from token ids to hidden states."""
    is_loaded_in_4bit: bool
    """Only 4-bit models have it; ask `is_four_bit`."""
    training: bool
    forward: Callable[..., ModelOutput]
    generate: Callable[..., torch.Tensor]

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its weights."""

    def __call__(self, **inputs: object) -> ModelOutput:
        """Run it on token ids."""

    def train(self, mode: bool = True) -> object:
        """Enter or leave the training mode."""

    def eval(self) -> object:
        """Leave the training mode."""

    def zero_grad(self) -> None:
        """Drop the gradients of all weights."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """All weights."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """All weights with their names."""

    def modules(self) -> Iterator[Any]:
        """All layers, itself first."""

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """All layers with their names."""

    def get_submodule(self, name: str) -> torch.nn.Module:
        """The layer of that name.

        Raises:
            AttributeError: there is none.
        """

    def get_input_embeddings(self) -> torch.nn.Embedding:
        """From token ids to vectors."""

    def get_output_embeddings(self) -> torch.nn.Linear:
        """From hidden states to logits."""
