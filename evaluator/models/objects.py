"""What the objects of transformers and peft are called in signatures: type checkers see neither library."""

from __future__ import annotations

from typing import Any, TypeAlias

CausalModel: TypeAlias = Any
"""A `transformers.PreTrainedModel` that predicts text, or the `peft.PeftModel` or accelerator's wrapper around one."""
Tokenizer: TypeAlias = Any
"""A `transformers.PreTrainedTokenizerBase`."""
GenerationSettings: TypeAlias = Any
"""A `transformers.GenerationConfig`."""
