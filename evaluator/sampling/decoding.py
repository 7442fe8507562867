"""How tokens are sampled and where an answer ends: one rule for training, evaluation, solve and demo.

Nothing is left to the generation_config that comes with a model, but the list of its end tokens: every other
field that changes what is drawn (repetition penalty, min_p, suppressed tokens, ...) is ours, and stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from evaluator.answers.answer_text import begins_or_ends_thinking
from evaluator.models.lora import ModelError
from evaluator.models.objects import CausalModel, GenerationSettings, Tokenizer
from evaluator.models.padding import causal_model, n_embedded

_OF_THE_MACHINE = ("cache_implementation", "disable_compile", "use_cache", "prefill_chunk_size")
"""Fields that change how a token is computed, and not from what it is drawn."""


@dataclass(frozen=True)
class Filters:
    """What narrows the distribution that tokens are drawn from, beside temperature and top_p; default nothing."""

    top_k: int = 0
    """Most likely tokens that are kept; 0 keeps all."""
    min_p: float = 0.0
    """Least probability that is kept, as a share of the largest, 0..1."""
    repetition_penalty: float = 1.0
    """Divides the score of tokens that were there before; 1 leaves them."""
    further: Mapping[str, Any] = field(default_factory=dict)
    """Fields of transformers' GenerationConfig by their own names, asked for by a person."""

    @property
    def words(self) -> list[str]:
        """What is set and changes what is drawn, each in words."""
        said = {
            "top_k": self.top_k or None,
            "min_p": self.min_p or None,
            "repetition_penalty": self.repetition_penalty
            if self.repetition_penalty != 1.0
            else None,
            **{name: self.further[name] for name in self.further if name not in _OF_THE_MACHINE},
        }
        return [f"{name} {value}" for name, value in said.items() if value is not None]


def end_ids(model: CausalModel, tokenizer: Tokenizer) -> list[int]:
    """Token ids that end an answer: the tokenizer's, and those the model's makers list (Gemma, Phi, Llama 3).

    Raises:
        ModelError: there is none.
    """
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(listed if isinstance(listed, list | tuple) else [listed])]
    n_tokens = n_embedded(model)
    known = [id_ for id_ in dict.fromkeys(ids) if isinstance(id_, int) and id_ < n_tokens]
    if not known:
        raise ModelError(
            "the tokenizer must have an end-of-text token that the model has, got none; set its eos_token"
        )
    return known


def pad_id(model: CausalModel, tokenizer: Tokenizer) -> int:
    """Token id that fills the left of shorter prompts; some tokenizers' own is beyond what the model has."""
    known = tokenizer.pad_token_id
    usable = known is not None and known < n_embedded(model)
    return int(known if usable else end_ids(model, tokenizer)[0])


def check_tokens(
    model: CausalModel, tokenizer: Tokenizer, token_ids: Iterable[Sequence[int]]
) -> None:
    """Refuse prompts with a token that the model does not have.

    Raises:
        ModelError: with one line for the user.
    """
    largest = max((max(ids, default=0) for ids in token_ids), default=0)
    n_tokens = n_embedded(model)
    if largest >= n_tokens:
        raise ModelError(
            f"the tokenizer must have the tokens of its model, got {tokenizer.convert_ids_to_tokens(largest)!r} with "
            f"id {largest} for a model of {n_tokens}; take the tokenizer that the model was trained with"
        )


def up_to_end(ids: Sequence[int], ends: Sequence[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there is one."""
    at = next((place for place, token in enumerate(ids) if token in ends), None)
    return list(ids[:at]), at is not None


def answer_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of tokens without end marks and the like, but with the tags of thinking; spaces stay as they are."""
    tags = _TAGS.get(tokenizer)
    if tags is None:
        tags = _TAGS.setdefault(tokenizer, _tags(tokenizer))
    parts: list[str] = []
    begin = 0
    for end, token in [*((n, t) for n, t in enumerate(ids) if t in tags), (len(ids), None)]:
        text: str = tokenizer.decode(
            list(ids[begin:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        parts += [text, "" if token is None else tags[token]]
        begin = end + 1
    return "".join(parts)


_TAGS: WeakKeyDictionary[Tokenizer, dict[int, str]] = WeakKeyDictionary()
"""Of each tokenizer the tags of thinking that it would leave out of a text; looked up for every token sampled."""


def _tags(tokenizer: Tokenizer) -> dict[int, str]:
    return {
        token: text
        for text, token in tokenizer.get_added_vocab().items()
        if begins_or_ends_thinking(text)
        and not tokenizer.decode([token], skip_special_tokens=True).strip()
    }


def generation_settings(
    model: CausalModel,
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    filters: Filters | None = None,
) -> GenerationSettings:
    """The settings of one `generate` call; temperature 0 is greedy. To be used `alone`."""
    from transformers import GenerationConfig

    filters = filters or Filters()
    is_sampled = temperature > 0.0
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": is_sampled,
        "temperature": temperature if is_sampled else 1.0,
        "top_p": top_p,
        "top_k": filters.top_k if is_sampled else 50,  # transformers warns of another when greedy
        "min_p": filters.min_p if is_sampled and filters.min_p else None,
        "typical_p": 1.0,
        "repetition_penalty": filters.repetition_penalty,
        "num_beams": 1,
        "use_cache": True,
        "eos_token_id": end_ids(model, tokenizer),
        "pad_token_id": pad_id(model, tokenizer),
    }
    return GenerationConfig(**{**settings, **filters.further})


@contextmanager
def alone(model: CausalModel, settings: GenerationSettings) -> Iterator[None]:
    """Within the block nothing but `settings` counts: transformers fills what they leave out from the model's own."""
    inner = causal_model(model)
    own = getattr(inner, "generation_config", None)
    inner.generation_config = settings
    try:
        yield
    finally:
        inner.generation_config = own


def stored(settings: GenerationSettings) -> dict[str, Any]:
    """The fields that are set, as plain data to be kept with a run."""
    return {
        name: value
        for name, value in sorted(settings.to_dict().items())
        if value is not None and not name.startswith("_") and name != "transformers_version"
    }
