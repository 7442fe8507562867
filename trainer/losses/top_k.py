"""The buckets on which student and teacher are compared: the vocabulary, or the student's top k.

Logits are divided by the sampling temperature here, before anything else, and promoted to at least
float32 once. Source: arXiv:2601.20802; reference dp_actor.py 523-536, 821-829, core_algos.py 1112-1122.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

MAX_LOG_MASS = -1e-7
"""Upper bound of the log of the captured mass: at mass 1 the tail's log-probability would be -inf."""


class Support(NamedTuple):
    """Log-probabilities of both sides over the same buckets; each side sums to 1."""

    student_logp: Float[Tensor, "*token bucket"]
    teacher_logp: Float[Tensor, "*token bucket"]


def full_support(
    student_logits: Float[Tensor, "*token vocabulary"],
    teacher_logits: Float[Tensor, "*token vocabulary"],
    *,
    temperature: float,
) -> Support:
    """Every vocabulary entry is a bucket."""
    return Support(
        _scaled(student_logits, temperature).log_softmax(dim=-1),
        _scaled(teacher_logits, temperature).log_softmax(dim=-1),
    )


def topk_tail_support(
    student_logits: Float[Tensor, "*token vocabulary"],
    teacher_logits: Float[Tensor, "*token vocabulary"],
    *,
    temperature: float,
    k: int,
) -> Support:
    """The student's top k entries, and one bucket for all the rest, on each side."""
    return with_tail(*_student_topk(student_logits, teacher_logits, temperature=temperature, k=k))


def topk_renormalised_support(
    student_logits: Float[Tensor, "*token vocabulary"],
    teacher_logits: Float[Tensor, "*token vocabulary"],
    *,
    temperature: float,
    k: int,
) -> Support:
    """The student's top k entries alone, each side scaled to sum to 1 over them."""
    return renormalised(
        *_student_topk(student_logits, teacher_logits, temperature=temperature, k=k)
    )


def with_tail(
    student_logp: Float[Tensor, "*token entry"], teacher_logp: Float[Tensor, "*token entry"]
) -> Support:
    """The entries with one bucket for all that they leave out, on each side."""
    return Support(_with_tail(student_logp), _with_tail(teacher_logp))


def renormalised(
    student_logp: Float[Tensor, "*token entry"], teacher_logp: Float[Tensor, "*token entry"]
) -> Support:
    """The entries alone, each side scaled to sum to 1 over them."""
    return Support(student_logp.log_softmax(dim=-1), teacher_logp.log_softmax(dim=-1))


def sampled_logprobs(
    logits: Float[Tensor, "*token vocabulary"], ids: Int[Tensor, "*token"], *, temperature: float
) -> Float[Tensor, "*token"]:
    """Log-probabilities of the sampled tokens at the sampling temperature."""
    scaled = _scaled(logits, temperature)
    chosen = scaled.gather(-1, ids.long().unsqueeze(-1)).squeeze(-1)
    return chosen - scaled.logsumexp(dim=-1)


def entropy(
    logits: Float[Tensor, "*token vocabulary"], *, temperature: float
) -> Float[Tensor, "*token"]:
    """Entropy of each token's distribution at the sampling temperature, in nats."""
    logp = _scaled(logits, temperature).log_softmax(dim=-1)
    # a token of probability 0 adds nothing: 0 log 0 = 0
    return -(logp.exp() * logp.clamp_min(torch.finfo(logp.dtype).min)).sum(dim=-1)


def _student_topk(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float, k: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities, under the whole vocabulary, of the student's top min(k, V) entries."""
    if k < 1:
        raise ValueError(
            f"top_k must be at least 1, got {k}; choose the full support to use every entry"
        )
    student = _scaled(student_logits, temperature)
    teacher = _scaled(teacher_logits, temperature)
    top, ids = student.topk(min(k, student.shape[-1]))
    return (
        top - student.logsumexp(dim=-1, keepdim=True),
        teacher.gather(-1, ids) - teacher.logsumexp(dim=-1, keepdim=True),
    )


def _with_tail(logp: Tensor) -> Tensor:
    """Append log(1 - sum p); the clamp stops its gradient where the captured mass rounds to 1."""
    log_mass = logp.logsumexp(dim=-1, keepdim=True).clamp_max(MAX_LOG_MASS)
    return torch.cat([logp, torch.log(-torch.expm1(log_mass))], dim=-1)


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    if not temperature > 0.0:
        raise ValueError(
            f"temperature must be positive, got {temperature}; use the sampling temperature"
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
