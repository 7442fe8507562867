"""What one forward pass yields for each token, without ever holding the logits of all tokens.

The head, the student's top k, the teacher's gather and the divergence run over a few tokens at a time. With a
head, and unless the whole vocabulary is compared, `chunked_top_k.py` does it with two buffers of a chunk's logits.
The full support, and a model whose head is unusual so that logits come in, go through autograd chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from trainer.losses.chunked_top_k import Constants, EntryTerms, summed_rows
from trainer.losses.sdpo import Distillation, token_losses
from trainer.losses.top_k import entropy, sampled_logprobs

CHUNK_TOKENS = 128
"""Tokens whose logits exist at a time: 78 MB a float32 tensor at a vocabulary of 151,936."""


class TokenTerms(NamedTuple):
    """What one forward of the student yields for each token, at the sampling temperature."""

    distill: Float[Tensor, " token"]
    """Distillation loss, importance weight included, in nats; zeros without a teacher."""
    logprobs: Float[Tensor, " token"]
    """Log-probability of the sampled token."""
    entropy: Float[Tensor, " token"]
    """Entropy of the student's distribution, in nats; no gradient."""
    teacher_logprobs: Float[Tensor, " token"]
    """Log-probability of the sampled token under the teacher; the student's without one. No gradient."""


class Head(NamedTuple):
    """The output projection."""

    weight: Float[Tensor, "vocabulary hidden"]
    bias: Float[Tensor, " vocabulary"] | None


def token_terms(
    student: Float[Tensor, "token feature"],
    teacher: Float[Tensor, "token feature"] | None,
    ids: Int[Tensor, " token"],
    *,
    head: Head | None,
    teacher_head: Head | None = None,
    spec: Distillation,
    old_logprobs: Float[Tensor, " token"] | None = None,
    policy_gradient: bool = True,
    chunk_tokens: int = CHUNK_TOKENS,
) -> TokenTerms:
    """Per-token terms from the last hidden states and the head, or, with `head` None, from logits.

    `teacher` None leaves the distillation out; without `policy_gradient` the log-probabilities are
    constants. `teacher_head` is the teacher's own where the head is trained; None takes `head`. Gradients
    reach `student`, and the head where it is trainable; the teacher, the head's use for the teacher and
    the weights are constants.
    """
    if len(ids) == 0:
        empty = student.sum(dim=-1)  # no rows, and still attached to the graph
        return TokenTerms(empty, empty, empty.detach(), empty.detach())
    weight, bias = (None, None) if head is None else head
    teacher_weight, teacher_bias = (weight, bias) if teacher_head is None else teacher_head
    teacher = None if teacher is None else teacher.detach()
    if weight is not None and spec.support != "full":
        of_teacher = teacher, teacher_weight, teacher_bias
        constants = Constants(*of_teacher, ids, old_logprobs, spec, policy_gradient, chunk_tokens)
        with_grad = torch.is_grad_enabled()
        entry_terms = EntryTerms.apply(constants, with_grad, student, weight, bias)  # type: ignore[no-untyped-call]
        return TokenTerms(*entry_terms)
    terms = partial(_chunk_terms, spec, policy_gradient)
    trainable = any(part is not None and part.requires_grad for part in (weight, bias))
    parts = []
    for start in range(0, len(ids), chunk_tokens):
        rows = slice(start, start + chunk_tokens)
        chunk = (
            student[rows],
            None if teacher is None else teacher[rows],
            ids[rows],
            None if old_logprobs is None else old_logprobs[rows],
            weight,
            bias,
            teacher_weight,
            teacher_bias,
        )
        if trainable and torch.is_grad_enabled():
            parts.append(checkpoint(terms, *chunk, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(_EagerGradient.apply(terms, *chunk))  # type: ignore[no-untyped-call]
    return TokenTerms(*(torch.cat(part) for part in zip(*parts, strict=True)))


_Terms = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def _chunk_terms(
    spec: Distillation,
    policy_gradient: bool,
    student: Tensor,
    teacher: Tensor | None,
    ids: Tensor,
    old_logprobs: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    teacher_weight: Tensor | None,
    teacher_bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = student if weight is None else linear(student, weight, bias)
    logprobs = sampled_logprobs(
        logits if policy_gradient else logits.detach(), ids, temperature=spec.temperature
    )
    entropies = entropy(logits.detach(), temperature=spec.temperature)
    if teacher is None:
        return torch.zeros_like(logprobs), logprobs, entropies, logprobs.detach()
    with torch.no_grad():
        teacher_logits = (
            teacher if teacher_weight is None else linear(teacher, teacher_weight, teacher_bias)
        )
    teacher_logprobs = sampled_logprobs(teacher_logits, ids, temperature=spec.temperature)
    losses = token_losses(logits, teacher_logits, ids, spec=spec, old_logprobs=old_logprobs)
    return losses, logprobs, entropies, teacher_logprobs


class _EagerGradient(torch.autograd.Function):
    """Computes each token's gradient with respect to its own features in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        terms: _Terms,
        student: Tensor,
        *constants: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not ctx.needs_input_grad[1]:
            return terms(student, *constants)
        with torch.enable_grad():
            student = student.detach().requires_grad_()
            distill, logprobs, entropies, teacher = terms(student, *constants)
            ctx.save_for_backward(_row_gradient(distill, student), _row_gradient(logprobs, student))
        return distill.detach(), logprobs.detach(), entropies.detach(), teacher.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return (None, summed_rows(grads[:2], ctx.saved_tensors), *[None] * 7)


def _row_gradient(per_row: Tensor, student: Tensor) -> Tensor | None:
    """Each row's gradient of its own term: rows are independent, so that of the sum holds them all."""
    if not per_row.requires_grad:
        return None
    return torch.autograd.grad(per_row.sum(), student, retain_graph=True)[0]
