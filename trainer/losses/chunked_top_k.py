"""Terms of each token from hidden states and a head, where the loss reads a selection of the vocabulary.

A loss that reads the log-probabilities of k entries only, a_j = z_j - logsumexp(z), has the gradient
dD/dz_v = g_v [v among the k] - p_v sum_j g_j  with  g_j = dD/da_j,  and so with respect to the hidden state
h, where z = W h / tau:

    tau dD/dh = sum_j g_j W_j - (sum_j g_j) W^T p,      tau d log p(y)/dh = W_y - W^T p.

g comes from autograd on (token, k) numbers; the product with p is shared by both terms. So a chunk needs two
buffers of (token, vocabulary), used again by each chunk: logits and probabilities of the student, then the
teacher's logits in place of the student's. A frozen head's gradients are made in the forward pass, while the
probabilities are there, and backward only scales them. A trainable head needs the incoming gradient first:
its chunks' probabilities are recomputed in backward, and its own gradient is summed up in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, linear

from trainer.losses.divergence import FLOOR
from trainer.losses.importance import importance_weight
from trainer.losses.sdpo import Distillation, entry_losses


class Constants(NamedTuple):
    """All that gets no gradient."""

    teacher: Tensor | None
    teacher_weight: Tensor | None
    teacher_bias: Tensor | None
    ids: Tensor
    old_logprobs: Tensor | None
    spec: Distillation
    policy_gradient: bool
    chunk_tokens: int


class EntryTerms(torch.autograd.Function):
    """The four terms of `chunked.TokenTerms`, in their order; see `token_terms`."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        c: Constants,
        with_grad: bool,
        student: Float[Tensor, "token hidden"],
        weight: Float[Tensor, "vocabulary hidden"],
        bias: Float[Tensor, " vocabulary"] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute them a chunk at a time, with a frozen head's gradients."""
        recompute = with_grad and any(ctx.needs_input_grad[3:])
        eager = with_grad and not recompute and ctx.needs_input_grad[2]
        logits, probabilities = _buffer(student, weight, c), _buffer(student, weight, c)
        chunks, gradients = [], []
        for rows in _chunks(c):
            chunk, unnormalised = _chunk(c, rows, student, weight, bias, logits, probabilities)
            chunks.append(chunk)
            if eager:
                gradients.append(_row_gradients(c, rows, chunk, unnormalised, weight))
        terms = _Chunk(*(torch.cat(part) for part in zip(*chunks, strict=True)))
        ctx.c, ctx.recompute = c, recompute
        if recompute:
            ctx.save_for_backward(student, weight, bias, *terms)
        elif eager:
            ctx.save_for_backward(
                *(
                    None if part[0] is None else torch.cat(part)
                    for part in zip(*gradients, strict=True)
                )
            )
        constants = [terms.entropy, terms.teacher_logprobs]
        if not c.policy_gradient:
            constants.append(terms.logprobs)
        ctx.mark_non_differentiable(*constants)
        return terms.distill, terms.logprobs, terms.entropy, terms.teacher_logprobs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Scale what forward made, or compute the chunks again."""
        if ctx.recompute:
            student, weight, bias, *parts = ctx.saved_tensors
            return (None, None, *_recomputed(ctx.c, _Chunk(*parts), grads, student, weight, bias))
        return None, None, summed_rows(grads[:2], ctx.saved_tensors), None, None


def summed_rows(grads: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor | None:
    """The gradient of the features: each term's gradient of a row times what comes in for it, (token, feature)."""
    total = None
    for grad, of_rows in zip(grads, gradients, strict=True):
        if of_rows is not None:
            term = grad.unsqueeze(-1).to(of_rows.dtype) * of_rows
            total = term if total is None else total.add_(term)
    return total


class _Chunk(NamedTuple):
    """What is kept of a chunk's tokens: nothing of the vocabulary's size."""

    distill: Float[Tensor, " token"]
    logprobs: Float[Tensor, " token"]
    entropy: Float[Tensor, " token"]
    teacher_logprobs: Float[Tensor, " token"]
    peak: Float[Tensor, " token"]
    """The student's largest logit, before the temperature."""
    log_norm: Float[Tensor, " token"]
    """logsumexp of the student's logits less the peak, over the temperature."""
    norm: Float[Tensor, " token"]
    """Sum of the unnormalised probabilities, which are 1 at the largest logit."""
    entries: Int[Tensor, "token entry"]
    entry_grad: Float[Tensor, "token entry"]
    """Derivative of the token's distillation loss with respect to each entry's log-probability."""


def _chunk(
    c: Constants,
    rows: slice,
    student: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    logits_buffer: Tensor | None,
    probabilities_buffer: Tensor | None,
) -> tuple[_Chunk, Tensor]:
    """A chunk's terms, and its unnormalised probabilities in the second buffer.

    The peak is taken off before the division by the temperature: float32 knows a logit of 30 to 2e-6,
    and the difference of two such logits to 1e-7 where they are close. What is one number a token or an
    entry is float64: the tail, 1 - the captured mass, else keeps no digit where that mass is near 1.
    """
    spec, ids = c.spec, c.ids[rows].long().unsqueeze(-1)
    logits = _logits(student[rows], weight, bias, logits_buffer)
    entries = _selected(logits, ids, spec)
    peak = logits.amax(dim=-1, keepdim=True)
    _tempered(logits.sub_(peak), spec.temperature)
    top, chosen = logits.gather(-1, entries), logits.gather(-1, ids)

    logits.clamp_min_(FLOOR)  # 0 times it is 0, where 0 times -inf is NaN
    if probabilities_buffer is None:
        unnormalised = logits.exp()
    else:
        unnormalised = torch.exp(logits, out=probabilities_buffer[: len(ids)])
    norm = _exact_sum(unnormalised)
    expected = torch.bmm(unnormalised.unsqueeze(1), logits.unsqueeze(2)).squeeze(-1) / norm
    log_norm = norm.log()
    logprobs = chosen - log_norm

    distill, entry_grad = torch.zeros_like(logprobs), torch.zeros_like(top)
    teacher_logprobs = logprobs
    if c.teacher is not None and c.teacher_weight is not None:
        teacher = _logits(c.teacher[rows], c.teacher_weight, c.teacher_bias, logits_buffer)
        teacher_logp, teacher_logprobs = _log_probabilities_at(
            teacher, entries, ids, temperature=spec.temperature
        )
        distill, entry_grad = _losses(c, rows, top - log_norm, teacher_logp, logprobs)
    dtype = logits.dtype
    chunk = _Chunk(
        distill=distill.squeeze(-1).to(dtype),
        logprobs=logprobs.squeeze(-1).to(dtype),
        entropy=(log_norm - expected).squeeze(-1).to(dtype),
        teacher_logprobs=teacher_logprobs.squeeze(-1).to(dtype),
        peak=peak.squeeze(-1),
        log_norm=log_norm.squeeze(-1).to(dtype),
        norm=norm.squeeze(-1).to(dtype),
        entries=entries,
        entry_grad=entry_grad.to(dtype),
    )
    return chunk, unnormalised


def _selected(logits: Tensor, ids: Tensor, spec: Distillation) -> Tensor:
    """Places of the entries that the loss reads, by the student's logits: (token, entry)."""
    if spec.support == "sampled":
        return ids
    return logits.topk(min(spec.top_k, logits.shape[-1]), dim=-1).indices


def _losses(
    c: Constants, rows: slice, student_logp: Tensor, teacher_logp: Tensor, logprobs: Tensor
) -> tuple[Tensor, Tensor]:
    """The tokens' losses, (token, 1), and their derivatives by entry, (token, entry)."""
    with torch.enable_grad():
        leaf = student_logp.detach().requires_grad_()
        losses = entry_losses(leaf, teacher_logp, spec=c.spec)
        (entry_grad,) = torch.autograd.grad(losses.sum(), leaf)
    losses = losses.detach().unsqueeze(-1)
    if c.spec.importance_clip is not None and c.old_logprobs is not None:
        old = c.old_logprobs[rows].unsqueeze(-1)
        weights = importance_weight(logprobs, old, clip=c.spec.importance_clip)
        return losses * weights, entry_grad * weights
    return losses, entry_grad


def _row_gradients(
    c: Constants, rows: slice, chunk: _Chunk, unnormalised: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Gradients of each token's two terms with respect to its hidden state, (token, hidden) each.

    What cancels is subtracted entry by entry before any product with the head: where p(y) is near 1,
    the difference of two products would keep few digits.
    """
    dtype, norm = weight.dtype, chunk.norm.unsqueeze(-1)
    chosen = c.ids[rows].long().unsqueeze(-1)
    entries = torch.cat([chunk.entries, chosen], dim=-1)
    repeated = (chunk.entries == chosen).any(dim=-1, keepdim=True)
    probabilities = unnormalised.gather(-1, entries) / norm
    probabilities[:, -1:].masked_fill_(repeated, 0.0)
    rest = (unnormalised.scatter_(-1, entries, 0.0).to(dtype) @ weight) / norm

    def gradient(by_entry: Tensor, total: Tensor | float) -> Tensor:
        coefficients = (by_entry - total * probabilities).to(dtype)
        named = embedding_bag(entries, weight, per_sample_weights=coefficients, mode="sum")
        return ((named - total * rest) / c.spec.temperature).to(dtype)

    by_entry = torch.cat([chunk.entry_grad, torch.zeros_like(chunk.norm).unsqueeze(-1)], dim=-1)
    distill = gradient(by_entry, chunk.entry_grad.sum(dim=-1, keepdim=True))
    if not c.policy_gradient:
        return distill, None
    one = (entries == chosen).to(norm.dtype)
    one[:, -1:].masked_fill_(repeated, 0.0)
    return distill, gradient(one, 1.0)


def _recomputed(
    c: Constants,
    terms: _Chunk,
    grads: tuple[Tensor, ...],
    student: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of hidden states, weight and bias, a chunk at a time."""
    buffer = _buffer(student, weight, c)
    accumulator = torch.promote_types(weight.dtype, torch.float32)
    student_grad = torch.empty_like(student)
    weight_grad = torch.zeros_like(weight, dtype=accumulator) if weight.requires_grad else None
    bias_grad = None
    if bias is not None and bias.requires_grad:
        bias_grad = torch.zeros_like(bias, dtype=accumulator)
    for rows in _chunks(c):
        chunk = _Chunk(*(part[rows] for part in terms))
        by_distill = grads[0][rows].unsqueeze(-1)
        by_entry = by_distill * chunk.entry_grad
        total = by_entry.sum(dim=-1, keepdim=True)
        gradient = _logits(student[rows], weight, bias, buffer).sub_(chunk.peak.unsqueeze(-1))
        _tempered(gradient, c.spec.temperature).sub_(chunk.log_norm.unsqueeze(-1)).exp_()
        if c.policy_gradient:
            by_logprob = grads[1][rows].unsqueeze(-1)
            gradient.mul_(-total - by_logprob)
            gradient.scatter_add_(-1, c.ids[rows].long().unsqueeze(-1), by_logprob)
        else:
            gradient.mul_(-total)
        gradient.scatter_add_(-1, chunk.entries, by_entry).div_(c.spec.temperature)
        student_grad[rows] = gradient.to(weight.dtype) @ weight
        if weight_grad is not None:
            weight_grad.addmm_(gradient.t(), student[rows].to(accumulator))
        if bias_grad is not None:
            bias_grad += gradient.sum(dim=0)
    return (
        student_grad,
        None if weight_grad is None else weight_grad.to(weight.dtype),
        None if bias_grad is None or bias is None else bias_grad.to(bias.dtype),
    )


def _logits(features: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor | None) -> Tensor:
    """Raw logits in at least float32; in the buffer where there is one."""
    if buffer is None:
        logits = linear(features, weight, bias)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
    if bias is None:
        return torch.mm(features, weight.t(), out=buffer[: len(features)])
    return torch.addmm(bias, features, weight.t(), out=buffer[: len(features)])


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1.0 else logits.div_(temperature)


def _log_probabilities_at(logits: Tensor, *places: Tensor, temperature: float) -> list[Tensor]:
    """Log-probabilities at some places of the vocabulary; uses the logits up."""
    _tempered(logits.sub_(logits.amax(-1, keepdim=True)), temperature)
    chosen = [logits.gather(-1, place) for place in places]
    log_norm = _exact_sum(logits.exp_()).log()
    return [values - log_norm for values in chosen]


def _exact_sum(values: Tensor) -> Tensor:
    """Sum over the vocabulary in float64, (token, 1), a slice at a time: a sum converts what it adds up."""
    parts = [part.sum(dim=-1, dtype=torch.float64) for part in torch.split(values, 8192, dim=-1)]
    return torch.stack(parts).sum(dim=0).unsqueeze(-1)


def _buffer(student: Tensor, weight: Tensor, c: Constants) -> Tensor | None:
    """Room for a chunk's logits; None where the product comes in another type and must be converted."""
    lower = torch.promote_types(weight.dtype, torch.float32) != weight.dtype
    if lower or student.dtype != weight.dtype or torch.is_autocast_enabled(student.device.type):
        return None
    return weight.new_empty(min(c.chunk_tokens, len(c.ids)), weight.shape[0])


def _chunks(c: Constants) -> list[slice]:
    return [slice(i, i + c.chunk_tokens) for i in range(0, len(c.ids), c.chunk_tokens)]
