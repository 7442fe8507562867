"""Tests whether a model reads the padding left of a shorter prompt, and which position ids prevent it.

Found by trying: one small forward pass of a row alone and beside a longer one. Lists of model names go out of date.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from evaluator.models.lora import ModelError
from evaluator.models.modes import evaluation_mode
from evaluator.models.objects import CausalModel

if TYPE_CHECKING:
    from torch import Tensor

_N_PAD, _N_TOKENS = 4, 6

_FOUND: WeakKeyDictionary[Any, tuple[bool, float]] = WeakKeyDictionary()
"""Of each model that was tried: whether positions are given to it, and how far padding then moves its logits."""


def position_ids(model: CausalModel, attention_mask: Tensor) -> Tensor | None:
    """Positions that count the tokens and not the padding; None where the model finds its own."""
    return _counted(attention_mask) if _tried(model)[0] else None


def check_padding(model: CausalModel) -> None:
    """Refuse a model whose answer to a prompt depends on the padding before it.

    Raises:
        ModelError: neither its own positions nor ours help; recurrent models without a mask are so.
    """
    off = _tried(model)[1]
    if off > _tolerance(model):
        raise ModelError(
            "prompts of different lengths must not disturb each other, got logits that padding moves by "
            f"{off:.2g} of the largest in {type(causal_model(model)).__name__}; take another model, or in an "
            "evaluation --batch-size 1"
        )


def accepted(model: CausalModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """Those of the inputs that the model's forward takes."""
    parameters = inspect.signature(causal_model(model).forward).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return inputs
    return {name: value for name, value in inputs.items() if name in parameters}


@contextmanager
def undisturbed(model: CausalModel) -> Iterator[None]:
    """For a forward pass apart from training: no dropout, no gradient, modes as before afterwards."""
    import torch

    with evaluation_mode(model), torch.no_grad():
        yield


def example(model: CausalModel, n_tokens: int) -> Tensor:
    """A row of different token ids that the model has, (1, n_tokens)."""
    import torch

    embeddings = model.get_input_embeddings().weight
    ids: Tensor = (11 + 7 * torch.arange(n_tokens)) % n_embedded(model)
    return ids.unsqueeze(0).to(embeddings.device)


def n_embedded(model: CausalModel) -> int:
    """Token ids that the model has, from 0; a tokenizer may have more."""
    return int(model.get_input_embeddings().weight.shape[0])


def filler(model: CausalModel) -> int:
    """A token id that the model has, for places that are not read."""
    named = getattr(model.config, "pad_token_id", None) or 0
    return named if 0 <= named < n_embedded(model) else 0


def _tried(model: CausalModel) -> tuple[bool, float]:
    inner = causal_model(model)
    if inner not in _FOUND:
        with undisturbed(model):
            _FOUND[inner] = _try(inner)
    return _FOUND[inner]


def _try(model: CausalModel) -> tuple[bool, float]:
    """Compare a short row alone with the same row padded to a longer one's width, by each way that there is."""
    import torch

    ids = example(model, _N_PAD + _N_TOKENS)
    mask = torch.ones_like(ids)
    alone = _logits(model, ids[:, _N_PAD:], mask[:, _N_PAD:], with_positions=False)
    padded = torch.cat([ids.roll(1, dims=1), ids])
    masks = torch.cat([mask, mask])
    padded[1, :_N_PAD] = filler(model)
    masks[1, :_N_PAD] = 0
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    ways = {}
    for with_positions in [True, False] if takes_positions else [False]:
        beside = _logits(model, padded, masks, with_positions=with_positions)[1:, _N_PAD:]
        ways[with_positions] = float((beside - alone).abs().max() / alone.abs().max())
    # positions that count the tokens are right for a model that computes with them; some count from elsewhere
    best = min(ways, key=lambda way: (ways[way] > _tolerance(model), not way))
    return best, ways[best]


def _logits(model: CausalModel, ids: Tensor, mask: Tensor, *, with_positions: bool) -> Tensor:
    inputs = accepted(model, {"input_ids": ids, "attention_mask": mask, "use_cache": False})
    if with_positions:
        inputs["position_ids"] = _counted(mask)
    logits: Tensor = model(**inputs).logits.float()
    return logits


def _counted(mask: Tensor) -> Tensor:
    return (mask.long().cumsum(dim=-1) - 1).clamp_min(0)


def _tolerance(model: CausalModel) -> float:
    """Relative to the largest logit: rounding over some tens of layers in the model's number format."""
    import torch

    return max(1e-3, 16 * torch.finfo(model.get_input_embeddings().weight.dtype).eps)


def causal_model(model: CausalModel) -> CausalModel:
    """The causal language model inside an adapter's wrapper."""
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        return model.get_base_model()
    return model
