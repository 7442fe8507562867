"""From token ids to what the losses read: the last hidden states and the output head, or plain logits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn.functional import linear

from evaluator.models.context_length import context_length
from evaluator.models.lora import ModelError
from evaluator.models.objects import CausalModel
from evaluator.models.padding import accepted, causal_model, example, position_ids, undisturbed
from trainer.losses.chunked import Head
from trainer.step.common_prefix import shared_inputs


class Rows(NamedTuple):
    """Prompts and the completions that follow them, as a micro-batch holds them."""

    prompt_ids: Tensor
    """(row, prompt token), left-padded."""
    prompt_mask: Tensor
    completion_ids: Tensor
    """(row, token), right-padded."""
    completion_mask: Tensor


class GroupedRows(Rows):
    """Rows of known groups: what the prompts of a group begin with is computed once, where that is exact."""

    groups: tuple[int, ...]
    """The group of each row."""

    @classmethod
    def of(cls, rows: Rows, groups: Tensor) -> GroupedRows:
        """The rows with the group of each."""
        grouped = cls(*rows)
        grouped.groups = tuple(groups.tolist())
        return grouped


def completion_hidden(model: CausalModel, rows: Rows) -> Tensor:
    """Last hidden states at the positions that predict each completion token: (row, token, hidden)."""
    hidden: Tensor = causal_model(model).base_model(**_inputs(model, rows)).last_hidden_state
    n_tokens = rows.completion_ids.shape[1]
    return hidden[:, -n_tokens - 1 : -1]


def completion_logits(model: CausalModel, rows: Rows) -> Tensor:
    """Raw logits at those positions: (row, token, vocabulary)."""
    n_tokens = rows.completion_ids.shape[1]
    kept = accepted(model, {"logits_to_keep": n_tokens + 1})
    logits: Tensor = model(**_inputs(model, rows), **kept).logits
    return logits[:, -n_tokens - 1 : -1]


class WithPositions:
    """A model that is given position ids wherever it is called with a mask alone, as TRL does."""

    def __init__(
        self,
        model: CausalModel,
        unwrapped: CausalModel,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Call `model`; `unwrapped` is what stands inside its distributed wrapper, `autocast` what it computes in."""
        self._model, self._unwrapped, self._autocast = model, unwrapped, autocast

    def __call__(self, **inputs: Any) -> Any:  # noqa: ANN401
        """Run the model; equal prompts are computed once where the logits of completions alone are asked for."""
        if self._model is self._unwrapped and set(inputs) == _OF_COMPLETIONS:
            n_kept = inputs["logits_to_keep"]
            rows = _split(inputs["input_ids"], inputs["attention_mask"], n_kept - 1)
            with self._autocast():  # keys and values in one number format
                shared = shared_inputs(self._unwrapped, rows)
            if shared is not None:
                return self._model(**shared, logits_to_keep=n_kept)
        positions = position_ids(self._unwrapped, inputs["attention_mask"])
        return self._model(**inputs, **({} if positions is None else {"position_ids": positions}))


_OF_COMPLETIONS = {"input_ids", "attention_mask", "logits_to_keep", "use_cache"}
"""What TRL gives a model whose completions it scores, where nothing else is asked of it."""


def _split(ids: Tensor, mask: Tensor, n_tokens: int) -> GroupedRows:
    """Rows in one piece as prompts and completions of `n_tokens`, each a group of its own."""
    rows = Rows(ids[:, :-n_tokens], mask[:, :-n_tokens], ids[:, -n_tokens:], mask[:, -n_tokens:])
    return GroupedRows.of(rows, torch.arange(len(ids)))


class UnusualHead(Exception):
    """The model does more to its hidden states than one linear projection."""


def output_head(model: CausalModel) -> Head:
    """The projection from hidden states to logits; one small forward pass each way tells whether it is one.

    Raises:
        UnusualHead: the logits are not `hidden @ weight.T + bias`; use completion_logits.
    """
    head = causal_model(model).get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        kind = "an adapter on it" if isinstance(head, BaseTunerLayer) else type(head).__name__
        raise UnusualHead(f"the output head must be a linear layer, got {kind}")
    ids = example(model, 9)
    rows = Rows(ids[:, :4], torch.ones_like(ids[:, :4]), ids[:, 4:], torch.ones_like(ids[:, 4:]))
    outputs: list[Tensor] = []
    hook = head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        with undisturbed(model):
            logits = completion_logits(model, rows)
            of_head = outputs[-1] if outputs else None
            projected = linear(completion_hidden(model, rows), head.weight, head.bias)
    except (RuntimeError, AttributeError, TypeError) as error:
        # no hidden states, or none that fit the head
        raise UnusualHead(
            f"hidden states must fit the output head, got {type(error).__name__} in {type(head).__name__}"
        ) from error
    finally:
        hook.remove()
    deviation = float((projected.float() - logits.float()).abs().max() / logits.abs().max())
    if not deviation <= _ROUNDINGS * torch.finfo(head.weight.dtype).eps:
        raise UnusualHead(
            "logits must be the hidden states through the output head, got others by "
            f"{deviation:.2g} of the largest"
        )
    # a cap leaves small logits nearly as they are: what comes out of the head must be what is read, to the bit
    read = logits if of_head is None else of_head[:, -logits.shape[1] - 1 : -1]
    if read.shape != logits.shape or not torch.equal(read.float(), logits.float()):
        raise UnusualHead(
            "logits must be what comes out of the output head, got something done to them after it"
        )
    return Head(head.weight, head.bias)


_ROUNDINGS = 8
"""Roundings by which two equal projections may differ: their sums may be taken in another order."""


def _inputs(model: CausalModel, rows: Rows) -> dict[str, Any]:
    mask = torch.cat([rows.prompt_mask, rows.completion_mask], dim=1)
    n_tokens, context = mask.shape[1], context_length(model)
    if context is not None and n_tokens > context:
        raise ModelError(
            f"a sequence must fit the {context} tokens that the model takes, got {n_tokens}; lower "
            "max_teacher_prompt_tokens or max_completion_length"
        )
    if isinstance(rows, GroupedRows) and (shared := shared_inputs(model, rows)) is not None:
        return shared
    inputs = {
        "input_ids": torch.cat([rows.prompt_ids, rows.completion_ids], dim=1),
        "attention_mask": mask,
        **accepted(model, {"use_cache": False}),
    }
    if (positions := position_ids(model, mask)) is not None:
        inputs["position_ids"] = positions
    return inputs
