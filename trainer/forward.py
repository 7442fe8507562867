"""From token ids to what the losses read: the last hidden states and the output head, or plain logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from evaluator.adapter import ModelError
from evaluator.context_length import context_length
from trainer.losses.lean import Head


class Rows(NamedTuple):
    """Prompts and the completions that follow them, as a micro-batch holds them."""

    prompt_ids: Tensor
    """(row, prompt token), left-padded."""
    prompt_mask: Tensor
    completion_ids: Tensor
    """(row, token), right-padded."""
    completion_mask: Tensor


def completion_hidden(model: Any, rows: Rows) -> Tensor:  # noqa: ANN401
    """Last hidden states at the positions that predict each completion token: (row, token, hidden)."""
    hidden: Tensor = _causal_model(model).base_model(**_inputs(model, rows)).last_hidden_state
    n_tokens = rows.completion_ids.shape[1]
    return hidden[:, -n_tokens - 1 : -1]


def completion_logits(model: Any, rows: Rows) -> Tensor:  # noqa: ANN401
    """Raw logits at those positions: (row, token, vocabulary)."""
    n_tokens = rows.completion_ids.shape[1]
    logits: Tensor = model(**_inputs(model, rows), logits_to_keep=n_tokens + 1).logits
    return logits[:, -n_tokens - 1 : -1]


def output_head(model: Any) -> Head:  # noqa: ANN401
    """The projection from hidden states to logits.

    Raises:
        UnusualHead: the logits are not `hidden @ weight.T + bias`; use completion_logits.
    """
    if (problem := head_problem(model)) is not None:
        raise UnusualHead(problem)
    head = _causal_model(model).get_output_embeddings()
    return Head(head.weight, head.bias)


class UnusualHead(Exception):
    """The model does more to its hidden states than one linear projection."""


def head_problem(model: Any) -> str | None:  # noqa: ANN401
    """Why the head is no plain projection, or None where it is one."""
    inner = _causal_model(model)
    head = inner.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        kind = "an adapter on it" if isinstance(head, BaseTunerLayer) else type(head).__name__
        return f"the output head must be a linear layer, got {kind}"
    if type(head).forward is not torch.nn.Linear.forward:
        return f"the output head must be a plain linear layer, got {type(head).__name__}"
    config = inner.config.get_text_config()
    for name in ("final_logit_softcapping", "logit_scale", "output_multiplier", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1.0):
            return (
                f"logits must not be transformed after the head, got {name}={getattr(config, name)}"
            )
    return None


def _inputs(model: Any, rows: Rows) -> dict[str, Any]:  # noqa: ANN401
    n_tokens, context = (
        rows.prompt_ids.shape[1] + rows.completion_ids.shape[1],
        context_length(model),
    )
    if context is not None and n_tokens > context:
        raise ModelError(
            f"a sequence must fit the {context} tokens that the model takes, got {n_tokens}; lower "
            "max_teacher_prompt_tokens or max_completion_length"
        )
    return {
        "input_ids": torch.cat([rows.prompt_ids, rows.completion_ids], dim=1),
        "attention_mask": torch.cat([rows.prompt_mask, rows.completion_mask], dim=1),
        "use_cache": False,
    }


def _causal_model(model: Any) -> Any:  # noqa: ANN401
    """The causal language model inside an adapter's wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
