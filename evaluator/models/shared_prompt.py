"""A prompt that several rows begin with, computed once: its keys and values serve all of them.

Exact where a token's keys and values depend on what stands before it alone, and stay in the cache: plain attention,
with whatever positions. It is found by trying, as padding is; what a small trial cannot show (a window wider than
the trial, positions that depend on the longest row) is read from the cache and the position embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from evaluator.models.objects import CausalModel, GenerationSettings
from evaluator.models.padding import (
    accepted,
    causal_model,
    example,
    filler,
    position_ids,
    undisturbed,
)

if TYPE_CHECKING:
    from torch import Tensor

_KNOWN = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl")
"""Whose forward passes may take a cache: Unsloth's, and code that comes with a model, do as they like."""

_FOUND: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def can_share(model: CausalModel) -> bool:
    """Whether rows may continue a prompt that was computed once; tried the first time it is asked.

    Not among several processes, where each would make another number of forward passes.
    """
    import torch

    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1:
        return False
    inner = causal_model(model)
    if inner not in _FOUND:
        with undisturbed(model):
            _FOUND[inner] = _is_known(inner) and _agrees(inner)
    return _FOUND[inner]


def prefix_cache(
    model: CausalModel,
    ids: Tensor,
    mask: Tensor,
    *,
    of_rows: Tensor,
) -> Any:  # noqa: ANN401 - transformers' DynamicCache
    """Keys and values of prefixes (prefix, token), left-padded, for the rows: row i continues prefix `of_rows[i]`."""
    from transformers import DynamicCache

    inner = causal_model(model)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "use_cache": True,
        "past_key_values": DynamicCache(config=inner.config),
        **accepted(model, {"logits_to_keep": 1}),
    }
    if (positions := position_ids(model, mask)) is not None:
        inputs["position_ids"] = positions
    cache = inner(**inputs).past_key_values
    for layer in cache.layers:
        # not `keys[of_rows]`, whose backward pass adds up entry by entry
        layer.keys = layer.keys.index_select(0, of_rows)
        layer.values = layer.values.index_select(0, of_rows)
    return cache


def continued(model: CausalModel, cache: Any, ids: Tensor, mask: Tensor) -> dict[str, Any]:  # noqa: ANN401
    """The forward pass's inputs for rows (row, token) that continue what `cache` holds; `mask` covers both."""
    inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": True}
    if (positions := position_ids(model, mask)) is not None:
        inputs["position_ids"] = positions[:, -ids.shape[1] :]
    return inputs


def prefilled(
    model: CausalModel, ids: Tensor, mask: Tensor, settings: GenerationSettings
) -> dict[str, Any]:
    """What `generate` is given beside left-padded prompts, so that equal ones are computed once; else nothing."""
    import torch

    rows = [tuple(row) for row in torch.cat([ids, mask], dim=1).tolist()]
    first = {row: place for place, row in reversed(list(enumerate(rows)))}
    is_usual = len(first) < len(rows) and ids.shape[1] > 1 and _is_plain(settings)
    if not is_usual or not can_share(model):
        return {}
    distinct = {row: place for place, row in enumerate(first)}
    chosen = torch.tensor(list(first.values()), device=ids.device)
    of_rows = torch.tensor([distinct[row] for row in rows], device=ids.device)
    # the last token is left to `generate`, which reads the first distribution from it
    with torch.no_grad():
        cache = prefix_cache(model, ids[chosen, :-1], mask[chosen, :-1], of_rows=of_rows)
    return {"past_key_values": cache}


@contextmanager
def prompts_once(model: CausalModel) -> Iterator[None]:
    """Within the block `model.generate` computes equal prompts once, whoever calls it."""
    if not can_share(model):
        yield
        return
    inner = causal_model(model)
    own, of_instance = inner.generate, vars(inner).get("generate")

    def generate(
        input_ids: Tensor,
        attention_mask: Tensor,
        generation_config: GenerationSettings,
        **more: Any,
    ) -> Any:  # noqa: ANN401
        cache = {} if more else prefilled(model, input_ids, attention_mask, generation_config)
        return own(
            input_ids=input_ids,
            attention_mask=attention_mask,
            generation_config=generation_config,
            **more,
            **cache,
        )

    inner.generate = generate
    try:
        yield
    finally:
        if of_instance is None:
            del inner.generate
        else:
            inner.generate = of_instance


def _is_plain(settings: GenerationSettings) -> bool:
    """Whether one row is drawn for each prompt, one token at a time, with the usual cache."""
    names = (
        "cache_implementation", "prompt_lookup_num_tokens", "prefill_chunk_size", "guidance_scale",
        "penalty_alpha", "dola_layers", "is_assistant",
    )  # fmt: skip
    once = all(
        (getattr(settings, n, None) or 1) == 1 for n in ("num_beams", "num_return_sequences")
    )
    return bool(settings.use_cache) and once and not any(getattr(settings, n, None) for n in names)


def _is_known(model: CausalModel) -> bool:
    for module in model.modules():
        for forward in (type(module).forward, module.forward):
            if (getattr(forward, "__module__", None) or "").partition(".")[0] not in _KNOWN:
                return False
        kinds = getattr(module, "rope_type", None)
        kinds = kinds.values() if isinstance(kinds, dict) else [kinds]
        # their angles depend on the longest position of a forward pass
        if any("dynamic" in str(kind) or "longrope" in str(kind) for kind in kinds):
            return False
    return True


def _agrees(model: CausalModel) -> bool:
    """Compare two unlike prompts of two rows each with the same rows in one piece."""
    import torch
    from transformers.cache_utils import DynamicLayer

    ids = example(model, 12)
    ids = torch.cat([ids, ids.flip(1)])
    n_prefix, n_gap = 7, 3
    prefixes, mask = ids[:, :n_prefix], torch.ones_like(ids[:, :n_prefix])
    prefixes[1, :n_gap], mask[1, :n_gap] = filler(model), 0
    of_rows = torch.tensor([0, 1, 0, 1], device=ids.device)
    tails = torch.cat([ids[:, n_prefix:], ids[:, n_prefix:].flip(1)])
    tail_mask = torch.ones_like(tails)
    tail_mask[2, 0] = 0  # padding between a prefix and a shorter rest
    whole = torch.cat([mask[of_rows], tail_mask], dim=1)
    inputs = {
        "input_ids": torch.cat([prefixes[of_rows], tails], dim=1),
        "attention_mask": whole,
        **accepted(model, {"use_cache": False}),
    }
    if (positions := position_ids(model, whole)) is not None:
        inputs["position_ids"] = positions
    try:
        plain = model(**inputs).logits[:, n_prefix:].float()
        cache = prefix_cache(model, prefixes, mask, of_rows=of_rows)
        if any(type(layer) is not DynamicLayer for layer in cache.layers):
            return False
        shared = model(**continued(model, cache, tails, whole)).logits.float()
    except (RuntimeError, AttributeError, TypeError, ValueError, IndexError, NotImplementedError):
        return False  # no cache, or one of its own
    if shared.shape != plain.shape:
        return False
    real = tail_mask.bool()
    off = (shared - plain)[real].abs().max() / plain[real].abs().max()
    eps = torch.finfo(model.get_input_embeddings().weight.dtype).eps
    return bool(off <= max(_ROUNDING, 8 * eps))


_ROUNDING = 1e-5
"""Of the largest logit, over some tens of layers in float32."""
