"""Samples completions from a policy: prompts in batches of similar length, each answer cut at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from evaluator.answers.answer_text import opened_by
from evaluator.models.context_length import context_length
from evaluator.models.lora import ModelError
from evaluator.models.objects import CausalModel, Tokenizer
from evaluator.problems.user_code import check_chat_template
from evaluator.sampling.decoding import Filters, check_tokens
from evaluator.sampling.generate import Generated, StopRule, generate_rows

Asked: TypeAlias = Sequence[dict[str, str]] | str
"""Chat messages, or plain text that is read as it stands."""


@dataclass(frozen=True)
class Policy:
    """A model with its tokenizer, ready to sample; a trainer wraps its own pair in one."""

    model: CausalModel
    tokenizer: Tokenizer
    name: str = ""
    """Hub name or folder of the base model."""
    adapter: str | None = None
    """Folder of the adapter; None for the base model."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template is given beside the messages, e.g. `enable_thinking`."""

    @property
    def placement(self) -> dict[str, str]:
        """Device and number format of the weights, as stored with a run."""
        weight = next(self.model.parameters())
        placement = {"device": str(weight.device), "dtype": str(weight.dtype).split(".")[-1]}
        if weight.device.type == "cuda":
            import torch

            placement["gpu"] = torch.cuda.get_device_name(weight.device)
        return placement


@dataclass(frozen=True)
class Sample(Generated):
    """One sampled completion."""

    prompt: str
    """The templated prompt as the policy read it."""


@dataclass(frozen=True)
class Decoding:
    """How completions are sampled."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    n_samples: int = 1
    """Completions of each problem."""
    seed: int = 42
    filters: Filters = field(default_factory=Filters)
    """What narrows sampling further."""

    @property
    def name(self) -> str:
        """The decoding in words, as stored with an evaluation."""
        if self.temperature == 0.0:
            return f"greedy, {self.max_new_tokens} tokens"
        said = [
            f"temperature {self.temperature:g}",
            f"top_p {self.top_p:g}",
            *self.filters.words,
            f"n {self.n_samples}",
            f"{self.max_new_tokens} tokens",
        ]
        return ", ".join(said)


def generate(
    policy: Policy,
    conversations: Sequence[Asked],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    filters: Filters | None = None,
    batch_size: int = 16,
    seed: int = 42,
    stop: Sequence[StopRule] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Sample one completion for each conversation; results in input order. Temperature 0 is greedy.

    `stop` has a rule for each conversation that ends it early; None samples to the end of text. `progress` is called
    with the number of completions after each batch. The model's training mode and the random state are afterwards
    as they were.

    Raises:
        ModelError: no chat template, or a prompt that does not fit the context.
    """
    decoding = Decoding(max_new_tokens, temperature, top_p, seed=seed, filters=filters or Filters())
    rules = None if stop is None else dict(enumerate(stop))
    samples: dict[int, Sample] = {}
    for batch in plan_batches(
        policy, conversations, max_new_tokens=max_new_tokens, batch_size=batch_size
    ):
        samples.update(sample_batch(policy, batch, decoding=decoding, stop=rules))
        if progress is not None:
            progress(len(batch.indices))
    return [samples[index] for index in range(len(conversations))]


@dataclass(frozen=True)
class Batch:
    """Some prompts that are sampled together."""

    position: int
    """How many prompts come before it: with the seed it decides the random numbers."""
    indices: tuple[int, ...]
    """Of its conversations."""
    prompts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]


def plan_batches(
    policy: Policy,
    conversations: Sequence[Asked],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> list[Batch]:
    """Put prompts of like length together, the longest first.

    So little is padding, and a batch that does not fit the memory fails at once. The plan follows
    from the prompts alone: whoever makes it again gets the same batches.

    Raises:
        ModelError: no chat template, or a prompt that does not fit the context.
        UserCodeError: the chat template cannot write a conversation.
    """
    tokenizer = policy.tokenizer
    if tokenizer.chat_template and any(not isinstance(one, str) for one in conversations):
        check_chat_template(tokenizer, policy.chat_template_kwargs)
    prompts = [
        prompt_text(tokenizer, conversation, policy.chat_template_kwargs)
        for conversation in conversations
    ]
    token_ids = [
        prompt_ids(tokenizer, prompt, plain=isinstance(conversation, str))
        for prompt, conversation in zip(prompts, conversations, strict=True)
    ]
    check_tokens(policy.model, tokenizer, token_ids)
    _check_context(policy, token_ids, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda index: -len(token_ids[index]))
    plan = []
    for position in range(0, len(order), batch_size):
        chosen = tuple(order[position : position + batch_size])
        texts = tuple(prompts[index] for index in chosen)
        plan.append(Batch(position, chosen, texts, tuple(tuple(token_ids[i]) for i in chosen)))
    return plan


def sample_batch(
    policy: Policy,
    batch: Batch,
    *,
    decoding: Decoding,
    stop: Mapping[int, StopRule] | None,
) -> dict[int, Sample]:
    """Sample one batch of a plan, by index of the conversation; `stop` has a rule for each."""
    rules = None
    if stop is not None:
        rules = [
            partial(_holds_after, stop[index], opened_by(prompt))
            for index, prompt in zip(batch.indices, batch.prompts, strict=True)
        ]
    answers = generate_rows(
        policy.model,
        policy.tokenizer,
        batch.token_ids,
        rules=rules,
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        filters=decoding.filters,
        seed=decoding.seed + batch.position,
    )
    return {
        index: Sample(**vars(answer), prompt=prompt)
        for index, answer, prompt in zip(batch.indices, answers, batch.prompts, strict=True)
    }


def _holds_after(rule: StopRule, opening: str, text: str) -> bool:
    """Whether a rule holds for a completion whose prompt ended with the tag that opens thinking."""
    return rule(opening + text)


def prompt_text(
    tokenizer: Tokenizer,
    conversation: Asked,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The prompt as the policy reads it."""
    if isinstance(conversation, str):
        return conversation
    if not tokenizer.chat_template:
        raise ModelError(
            "the tokenizer must have a chat template for this protocol, got none; use an instruct "
            "model, or the protocol mbpp-3shot for a base model"
        )
    text: str = tokenizer.apply_chat_template(
        list(conversation),
        tokenize=False,
        add_generation_prompt=True,
        **(chat_template_kwargs or {}),
    )
    return text


def prompt_ids(tokenizer: Tokenizer, prompt: str, *, plain: bool) -> list[int]:
    """The prompt's token ids; a plain text has before it what the tokenizer puts there by itself.

    Nothing stands behind it: some tokenizers end each text with an end token, after which no answer follows.
    """
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return [*first_ids(tokenizer), *ids] if plain else ids


def first_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens that a tokenizer puts before a text by itself."""
    ids: list[int] = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    starts = range(len(ids) - len(bare) + 1)
    return ids[: next((at for at in starts if ids[at : at + len(bare)] == bare), 0)]


def _check_context(policy: Policy, token_ids: list[list[int]], max_new_tokens: int) -> None:
    context = context_length(policy.model)
    longest = max(map(len, token_ids), default=0)
    if context is not None and longest + max_new_tokens > context:
        raise ModelError(
            f"prompt and completion must fit the model's context of {context} tokens, got "
            f"{longest} + {max_new_tokens}; lower max_new_tokens or take another protocol"
        )
