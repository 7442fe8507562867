"""Loads a policy and samples completions from it; the only importer of unsloth."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.adapter import ModelError, check_adapter, named_base

if TYPE_CHECKING:
    import torch

__all__ = [
    "Decoding",
    "ModelError",
    "Policy",
    "Sample",
    "choose_device",
    "generate",
    "generate_batches",
    "load_base",
    "load_policy",
]

StopRule = Callable[[str], bool]
"""Whether a completion as far as it goes is all that is needed."""


@dataclass(frozen=True)
class Policy:
    """A model with its tokenizer, ready to sample; a trainer wraps its own pair in one."""

    model: Any
    """A transformers causal language model, with or without a PEFT adapter."""
    tokenizer: Any
    name: str = ""
    """Hub name or folder of the base model."""
    adapter: str | None = None
    """Folder of the adapter; None for the base model."""

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
class Sample:
    """One sampled completion."""

    text: str
    n_tokens: int
    """Tokens of the completion, without the end-of-text token."""
    truncated: bool
    """True when the length limit ended it."""
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

    @property
    def name(self) -> str:
        """The decoding in words, as stored with an evaluation."""
        if self.temperature == 0.0:
            return f"greedy, {self.max_new_tokens} tokens"
        return (
            f"temperature {self.temperature:g}, top_p {self.top_p:g}, n {self.n_samples}, "
            f"{self.max_new_tokens} tokens"
        )


def load_policy(
    model: str | None,
    *,
    adapter: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    load_in_4bit: bool = False,
    unsloth: bool = False,
    allow_other_base: bool = False,
) -> Policy:
    """Load a base model, or one with an adapter on it, for sampling.

    Args:
        model: folder or hub name; None takes the base model that the adapter names.
        adapter: PEFT adapter folder.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` (bfloat16 on CUDA, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        load_in_4bit: quantise through bitsandbytes; needs CUDA.
        unsloth: load through Unsloth; needs CUDA and the extra `gpu`.
        allow_other_base: accept an adapter whose base model bears another name; shapes must fit.

    Raises:
        ModelError: unknown model, adapter of another model, or no such device.
    """
    name = model or (named_base(adapter) if adapter is not None else None)
    if name is None:
        raise ModelError("a model must be named, got none; pass its folder or hub name")
    chosen = choose_device(device)
    base, tokenizer = load_base(
        name, device=chosen, dtype=dtype, load_in_4bit=load_in_4bit, unsloth=unsloth
    )
    if adapter is not None:
        check_adapter(adapter, base, tokenizer, name, allow_other_base=allow_other_base)
        import peft

        base = peft.PeftModel.from_pretrained(base, str(adapter))
    base.eval()
    return Policy(base, tokenizer, name=name, adapter=str(adapter) if adapter else None)


def load_base(
    name: str,
    *,
    device: str,
    dtype: str = "auto",
    load_in_4bit: bool = False,
    unsloth: bool = False,
    max_tokens: int = 2048,
) -> tuple[Any, Any]:
    """Load a base model and its tokenizer onto a device.

    Args:
        name: folder or hub name.
        device: as `choose_device` returns it.
        dtype: see `load_policy`.
        load_in_4bit: quantise through bitsandbytes.
        unsloth: load through Unsloth.
        max_tokens: longest sequence that Unsloth prepares for, prompt and completion together.

    Raises:
        ModelError: it cannot be loaded; the message is one line.
    """
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(
            f"a model folder must hold config.json, got {name!r}; name a folder that "
            "save_pretrained wrote"
        )
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(
            f"the model must be an existing folder or a hub name, got {name!r}; correct the path"
        )
    if (load_in_4bit or unsloth) and not device.startswith("cuda"):
        raise ModelError(
            f"4-bit loading and Unsloth must run on CUDA, got device {device!r}; leave them out"
        )
    import safetensors
    from huggingface_hub.utils import logging as hub_logging

    # The error says it once; the hub client would log each of its retries as well.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        if unsloth:
            return _load_with_unsloth(name, load_in_4bit=load_in_4bit, max_tokens=max_tokens)
        return _load_with_transformers(name, device, dtype, load_in_4bit=load_in_4bit)
    # Missing files and the hub's errors are OSError; a broken config is ValueError or KeyError.
    except (
        OSError,
        ValueError,
        KeyError,
        ImportError,
        RuntimeError,
        safetensors.SafetensorError,
    ) as error:
        raise ModelError(_load_failure(name, error)) from error


def choose_device(device: str) -> str:
    """Return the device to use; `auto` takes CUDA where there is one.

    Raises:
        ModelError: CUDA is asked for and not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"device must exist on this machine, got {device!r} without CUDA; use --device cpu"
        )
    return device


def generate(
    policy: Policy,
    conversations: Sequence[Sequence[dict[str, str]] | str],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    batch_size: int = 16,
    seed: int = 42,
    stop: Sequence[StopRule] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Sample]:
    """Sample one completion for each conversation; results in input order.

    The model's training mode and the random state are afterwards as they were.

    Args:
        policy: model and tokenizer.
        conversations: chat messages, or plain text that is read as it stands.
        max_new_tokens: length limit of a completion.
        temperature: 0 is greedy.
        top_p: share of probability that sampling keeps, 0..1.
        batch_size: completions sampled together, prompts of like length.
        seed: of the sampling.
        stop: a rule for each conversation that ends it early; None samples to the end of text.
        progress: called with the number of completions after each batch.

    Raises:
        ModelError: no chat template, or a prompt that does not fit the context.
    """
    samples: dict[int, Sample] = {}
    for batch in generate_batches(
        policy,
        conversations,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        batch_size=batch_size,
        seed=seed,
        stop=stop,
    ):
        samples.update(batch)
        if progress is not None:
            progress(len(batch))
    return [samples[index] for index in range(len(conversations))]


def generate_batches(
    policy: Policy,
    conversations: Sequence[Sequence[dict[str, str]] | str],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    batch_size: int,
    seed: int,
    stop: Sequence[StopRule] | None = None,
) -> Iterator[dict[int, Sample]]:
    """Yield completions batch by batch, by index of their conversation; see `generate`.

    Batches hold prompts of like length, the longest first, so that little is padding and a batch
    that does not fit the memory fails at once.
    """
    tokenizer = policy.tokenizer
    prompts = [_prompt_text(tokenizer, conversation) for conversation in conversations]
    token_ids = [
        tokenizer(prompt, add_special_tokens=isinstance(conversation, str))["input_ids"]
        for prompt, conversation in zip(prompts, conversations, strict=True)
    ]
    _check_context(policy, token_ids, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda index: (-len(token_ids[index]), index))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        with _sampling_mode(policy.model, seed + start):
            texts = _generate_batch(
                policy,
                [token_ids[index] for index in chosen],
                [stop[index] for index in chosen] if stop is not None else None,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
            )
        yield {
            index: Sample(text.text, text.n_tokens, text.truncated, prompts[index])
            for index, text in zip(chosen, texts, strict=True)
        }


def _generate_batch(
    policy: Policy,
    token_ids: list[list[int]],
    stop: Sequence[StopRule] | None,
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
) -> list[Sample]:
    """Sample one batch; the samples' prompts are left empty."""
    import torch
    from transformers import GenerationConfig

    model, tokenizer = policy.model, policy.tokenizer
    end_ids = _end_ids(policy)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    width = max(map(len, token_ids))
    input_ids = torch.full((len(token_ids), width), pad_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(token_ids):
        input_ids[row, width - len(ids) :] = torch.tensor(ids, dtype=torch.long)
        attention_mask[row, width - len(ids) :] = 1
    rule = _Stopping(tokenizer, stop, width) if stop is not None else None
    # Every field is set: what is left out would come from the model's own generation_config, and
    # e.g. Qwen's holds a repetition penalty, which is not greedy decoding.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0.0,
        temperature=temperature if temperature > 0.0 else 1.0,
        top_p=top_p,
        top_k=0 if temperature > 0.0 else 50,  # transformers warns of another value when greedy
        num_beams=1,
        repetition_penalty=1.0,
        use_cache=True,
        eos_token_id=end_ids,
        pad_token_id=pad_id,
    )
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            generation_config=config,
            stopping_criteria=[rule] if rule is not None else None,
        )
    rows = output[:, width:].tolist()
    samples = []
    for row, ids in enumerate(rows):
        n_stop = rule.n_tokens.get(row) if rule is not None else None
        kept = ids[:n_stop]
        n_end = next((at for at, token in enumerate(kept) if token in end_ids), None)
        truncated = n_stop is None and n_end is None
        kept = kept[:n_end]
        text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        samples.append(Sample(text, len(kept), truncated, ""))
    return samples


class _Stopping:
    """Stopping criterion of transformers' `generate`: a rule for each row of the batch."""

    def __init__(self, tokenizer: Any, rules: Sequence[StopRule], width: int) -> None:  # noqa: ANN401
        self._tokenizer, self._rules, self._width = tokenizer, rules, width
        self.n_tokens: dict[int, int] = {}
        """Row -> completion tokens where its rule first held."""

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: object,
        **_: object,
    ) -> torch.Tensor:
        """Return which rows are done."""
        import torch

        tails = input_ids[:, max(self._width, input_ids.shape[1] - 4) :].tolist()
        n_tokens = input_ids.shape[1] - self._width
        for row, tail in enumerate(tails):
            if row in self.n_tokens:
                continue
            # Decoding everything at each token would take quadratic time; the last few tokens
            # tell whether something that can end an answer has just been written.
            text = self._tokenizer.decode(tail)
            if ("`" in text or "]" in text) and self._rules[row](
                self._tokenizer.decode(input_ids[row, self._width :], skip_special_tokens=True)
            ):
                self.n_tokens[row] = n_tokens
        done = [row in self.n_tokens for row in range(len(tails))]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


@contextlib.contextmanager
def _sampling_mode(model: Any, seed: int) -> Iterator[None]:  # noqa: ANN401 - any causal model
    """Evaluation mode and a seeded random state; both are put back."""
    import torch

    was_training = model.training
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)


def _prompt_text(tokenizer: Any, conversation: Sequence[dict[str, str]] | str) -> str:  # noqa: ANN401
    """The prompt as the policy reads it."""
    if isinstance(conversation, str):
        return conversation
    if not tokenizer.chat_template:
        raise ModelError(
            "the tokenizer must have a chat template for this protocol, got none; use an instruct "
            "model, or the protocol mbpp-3shot for a base model"
        )
    text: str = tokenizer.apply_chat_template(
        list(conversation), tokenize=False, add_generation_prompt=True
    )
    return text


def _check_context(policy: Policy, token_ids: list[list[int]], max_new_tokens: int) -> None:
    """Refuse prompts that leave no room for the completion."""
    context = getattr(policy.model.config, "max_position_embeddings", None)
    longest = max(map(len, token_ids), default=0)
    if context is not None and longest + max_new_tokens > context:
        raise ModelError(
            f"prompt and completion must fit the model's context of {context} tokens, got "
            f"{longest} + {max_new_tokens}; lower max_new_tokens or take another protocol"
        )


def _end_ids(policy: Policy) -> list[int]:
    """Token ids that end a text: the tokenizer's, and those the model's makers list."""
    listed = getattr(getattr(policy.model, "generation_config", None), "eos_token_id", None)
    ids = [policy.tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])]
    known = [token for token in dict.fromkeys(ids) if token is not None]
    if not known:
        raise ModelError(
            "the tokenizer must have an end-of-text token, got none; set its eos_token"
        )
    return known


def _load_with_transformers(
    name: str, device: str, dtype: str, *, load_in_4bit: bool
) -> tuple[Any, Any]:
    """Load through transformers alone."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if load_in_4bit:
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
        options["device_map"] = {"": device}
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        name, output_loading_info=True, **options
    )
    if report["missing_keys"]:
        # transformers fills these with random numbers and only warns.
        raise ModelError(
            f"the model folder must hold every weight, got {name!r} without "
            f"{min(report['missing_keys'])!r} and {len(report['missing_keys']) - 1} more; "
            "restore its files"
        )
    return (model if load_in_4bit else model.to(device)), tokenizer


def _load_with_unsloth(name: str, *, load_in_4bit: bool, max_tokens: int) -> tuple[Any, Any]:
    """Load through Unsloth, whose import patches transformers: hence only when asked."""
    import unsloth

    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        model_name=name, max_seq_length=max_tokens, load_in_4bit=load_in_4bit
    )
    return model, tokenizer


def _load_failure(name: str, error: BaseException) -> str:
    """One line for what can be many."""
    if isinstance(error, json.JSONDecodeError):
        reason = f"damaged JSON, {error}"
    else:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"the model must load from its folder or the hub, got {name!r} ({reason}); "
        "correct the name or restore its files"
    )
