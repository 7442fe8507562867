"""The self-distillation loss of each token: support, divergence and importance weight put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from trainer.losses.divergence import forward_kl, jensen_shannon, reverse_kl
from trainer.losses.importance import importance_weight
from trainer.losses.top_k import (
    Support,
    full_support,
    renormalised,
    sampled_logprobs,
    topk_renormalised_support,
    topk_tail_support,
    with_tail,
)

SupportKind = Literal["full", "topk_tail", "topk_renormalised", "sampled"]
DivergenceKind = Literal["forward_kl", "reverse_kl", "jensen_shannon"]


@dataclass(frozen=True)
class Distillation:
    """Which loss, in full.

    Raises:
        ValueError: a field is out of range, or the sampled support is asked for another divergence.
    """

    support: SupportKind = "topk_tail"
    divergence: DivergenceKind = "jensen_shannon"
    alpha: float = 0.5
    """Weight of the teacher in the mixture, in (0, 1); read by jensen_shannon only."""
    top_k: int = 100
    """Entries of the student kept by the top-k supports, >= 1."""
    importance_clip: float | None = 2.0
    """Upper bound of the importance weight, > 0; None switches it off."""
    temperature: float = 1.0
    """The sampling temperature, > 0: divides both sides' logits."""

    def __post_init__(self) -> None:
        if self.support == "sampled" and self.divergence != "reverse_kl":
            raise ValueError(
                f"the sampled support must go with reverse_kl, got {self.divergence!r}; "
                "its value is a score-function estimate of that divergence only"
            )
        if self.divergence == "jensen_shannon" and not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"alpha must lie strictly between 0 and 1, got {self.alpha}; "
                "for a one-sided divergence choose forward_kl or reverse_kl"
            )
        if self.importance_clip is not None and not self.importance_clip > 0:
            raise ValueError(
                f"importance_clip must be positive or null, got {self.importance_clip}"
            )
        if not self.temperature > 0.0:
            raise ValueError(
                f"temperature must be positive, got {self.temperature}; use the sampling temperature"
            )
        if self.top_k < 1:
            raise ValueError(
                f"top_k must be at least 1, got {self.top_k}; choose the full support to use every entry"
            )


def token_losses(
    student_logits: Float[Tensor, "*token vocabulary"],
    teacher_logits: Float[Tensor, "*token vocabulary"],
    ids: Int[Tensor, "*token"],
    *,
    spec: Distillation,
    old_logprobs: Float[Tensor, "*token"] | None = None,
) -> Float[Tensor, "*token"]:
    """Distillation loss of each token, in nats, importance weight included.

    The teacher gets no gradient. `old_logprobs` are those of the policy that sampled `ids`; None means that
    it is the student itself (one update a rollout batch), where the weight is 1.
    """
    teacher_logits = teacher_logits.detach()
    if spec.support == "sampled":
        logprobs = sampled_logprobs(student_logits, ids, temperature=spec.temperature)
        teacher_logprobs = sampled_logprobs(teacher_logits, ids, temperature=spec.temperature)
        losses = (logprobs - teacher_logprobs).detach() * logprobs
    else:
        losses = divergence_of(support_of(student_logits, teacher_logits, spec=spec), spec=spec)
    if spec.importance_clip is None or old_logprobs is None:
        return losses
    logprobs = sampled_logprobs(student_logits.detach(), ids, temperature=spec.temperature)
    return losses * importance_weight(logprobs, old_logprobs, clip=spec.importance_clip)


def entry_losses(
    student_logp: Float[Tensor, "token entry"],
    teacher_logp: Float[Tensor, "token entry"],
    *,
    spec: Distillation,
) -> Float[Tensor, " token"]:
    """Loss of each token from the log-probabilities that `spec` reads, without the importance weight.

    The entries are the student's top k, or for the sampled support the sampled token alone.
    """
    match spec.support:
        case "sampled":
            return ((student_logp - teacher_logp).detach() * student_logp).squeeze(-1)
        case "topk_tail":
            return divergence_of(with_tail(student_logp, teacher_logp), spec=spec)
        case "topk_renormalised":
            return divergence_of(renormalised(student_logp, teacher_logp), spec=spec)
        case "full":
            raise ValueError("entries must be a selection, got the full support; use token_losses")


def support_of(
    student_logits: Float[Tensor, "*token vocabulary"],
    teacher_logits: Float[Tensor, "*token vocabulary"],
    *,
    spec: Distillation,
) -> Support:
    """The buckets that `spec` asks for."""
    if spec.support == "full":
        return full_support(student_logits, teacher_logits, temperature=spec.temperature)
    top_k = topk_tail_support if spec.support == "topk_tail" else topk_renormalised_support
    return top_k(student_logits, teacher_logits, temperature=spec.temperature, k=spec.top_k)


def divergence_of(support: Support, *, spec: Distillation) -> Float[Tensor, "*token"]:
    """The divergence that `spec` asks for."""
    match spec.divergence:
        case "forward_kl":
            return forward_kl(support.student_logp, support.teacher_logp)
        case "reverse_kl":
            return reverse_kl(support.student_logp, support.teacher_logp)
        case "jensen_shannon":
            return jensen_shannon(support.student_logp, support.teacher_logp, alpha=spec.alpha)
