"""What `generation_kwargs` may ask for: fields that narrow what a token is drawn from, tried before step 1."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

from trainer.options.config import ConfigError
from trainer.options.early import near_miss

_NARROWING = (
    "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "no_repeat_ngram_size", "min_new_tokens", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "exponential_decay_length_penalty",
    "renormalize_logits", "remove_invalid_values", "use_cache", "prefill_chunk_size",
)  # fmt: skip
"""Fields of transformers' GenerationConfig that leave one row a prompt, its end and its temperature as they are."""

_OPTIONS = {
    "temperature": "temperature, by which the loss divides, too",
    "do_sample": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_completion_length",
    "max_length": "max_completion_length",
    "min_length": "min_new_tokens",
    "num_return_sequences": "num_generations",
    "eos_token_id": "the list in the model's generation_config.json",
    "forced_eos_token_id": "mask_truncated_completions",
    "cache_implementation": "cache_implementation",
}
"""Fields that an option of the run sets: beside it they would be read by the sampler alone."""


def check_generation_kwargs(given: Any) -> None:  # noqa: ANN401 - whatever the file holds
    """Refuse what is no field of transformers' GenerationConfig, and fields by which sampler and loss would differ.

    Raises:
        ConfigError: with one line for the user.
    """
    if given is None:
        return
    if not isinstance(given, dict):
        raise ConfigError(f"generation_kwargs must be a mapping, got {given!r}; write name: value")
    known = vars(GenerationConfig())
    for name in given:
        if name not in known:
            raise ConfigError(
                f"generation_kwargs must name fields of transformers' GenerationConfig, got {name!r}; "
                f"{near_miss(str(name), known) or 'correct it'}"
            )
        if name not in _NARROWING:
            instead = f"set {_OPTIONS[name]}" if name in _OPTIONS else "leave it out"
            raise ConfigError(
                "generation_kwargs must hold what narrows the distribution of a token "
                f"({', '.join(_NARROWING)}), got {name!r}; {instead}"
            )
