"""The losses of each token and their gradients, derived a second time, for the audit to compare with.

Plain probabilities in float64 from raw logits, and the gradient in closed form rather than by autograd.
Shares nothing with `divergence`, `top_k`, `sdpo`, `chunked` or any other loss; an audit that calls the code it
audits shows nothing. Slow and large on purpose.

With P the student's buckets, Q the teacher's, p the student's probabilities, tau the temperature, and
g_b = dD / dP_b, the chain rule through softmax gives, for vocabulary entry v in bucket b(v),

    dD / dz_v = p_v / tau * (g_b(v) - sum_b P_b g_b)

    KL(Q || P):          g = -Q / P
    KL(P || Q):          g = log(P / Q) + 1
    Jensen-Shannon, a:   g = (1 - a) log(P / M),  M = (1 - a) P + a Q
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST_LOG_MASS = -1e-7
"""Where the captured mass is closer to 1, the tail is a constant. Source: reference core_algos.py 1115."""


class Oracle(NamedTuple):
    """What the loss of each token must be."""

    loss: Float[Tensor, " token"]
    """In nats, importance weight included."""
    gradient: Float[Tensor, "token vocabulary"]
    """With respect to the raw student logits."""


def oracle(
    student_logits: Float[Tensor, "token vocabulary"],
    teacher_logits: Float[Tensor, "token vocabulary"],
    ids: Int[Tensor, " token"],
    *,
    support: str,
    divergence: str,
    alpha: float,
    top_k: int,
    temperature: float,
    importance_clip: float | None = None,
    old_logprobs: Float[Tensor, " token"] | None = None,
) -> Oracle:
    """Loss and gradient of each token, one token after the other, in float64."""
    losses, gradients = [], []
    for row in range(len(ids)):
        p = _softmax(student_logits[row], temperature)
        q = _softmax(teacher_logits[row], temperature)
        y = int(ids[row])
        if support == "sampled":
            surprise = (p[y] / q[y]).log()
            loss = surprise * p[y].log()
            gradient = surprise * (torch.nn.functional.one_hot(ids[row].long(), len(p)) - p)
        else:
            loss, gradient = _bucketed(
                p, q, support=support, divergence=divergence, alpha=alpha, top_k=top_k
            )
        weight = 1.0
        if importance_clip is not None and old_logprobs is not None:
            log_ratio = float(p[y].log()) - float(old_logprobs[row])
            weight = min(math.exp(max(-20.0, min(20.0, log_ratio))), importance_clip)
        losses.append(weight * loss)
        gradients.append(weight * gradient / temperature)
    if not losses:
        return Oracle(torch.zeros(0).double(), torch.zeros_like(student_logits).double())
    return Oracle(torch.stack(losses), torch.stack(gradients))


def pass_rate_oracle(n_passing: list[int], *, n_members: int) -> list[float]:
    """sqrt(p (1 - p)) of each problem, p = passing / members, over the mean; from counts."""
    raw = [math.sqrt(k * (n_members - k)) / n_members for k in n_passing]
    total = sum(raw)
    return [len(raw) * value / total if total else 0.0 for value in raw]


def _softmax(logits: Tensor, temperature: float) -> Tensor:
    scaled = logits.detach().to(torch.float64) / temperature
    powers = (scaled - scaled.max()).exp()
    return powers / powers.sum()


def _bucketed(
    p: Tensor, q: Tensor, *, support: str, divergence: str, alpha: float, top_k: int
) -> tuple[Tensor, Tensor]:
    """Divergence over buckets, and tau times its gradient with respect to the student's logits."""
    order = p.argsort(descending=True, stable=True)
    top = order if support == "full" else order[:top_k]
    rest = order[len(top) :]
    student, teacher = p[top], q[top]
    tail_moves = False
    if support == "topk_tail":
        # 1 - mass, summed from the small end: the difference itself would cancel
        student_rest, teacher_rest = p[rest].sum(), q[rest].sum()
        least = -math.expm1(LARGEST_LOG_MASS)
        tail_moves = bool(student_rest > least)
        student = torch.cat([student, student_rest.clamp_min(least).reshape(1)])
        teacher = torch.cat([teacher, teacher_rest.clamp_min(least).reshape(1)])
    elif support == "topk_renormalised":
        student, teacher = student / student.sum(), teacher / teacher.sum()

    loss, slope = _divergence(student, teacher, divergence=divergence, alpha=alpha)

    if support == "topk_tail" and not tail_moves:
        slope = torch.cat([slope[:-1], slope.new_zeros(1)])
    mean_slope = (student * slope).sum()
    gradient = torch.zeros_like(p)
    n_top = len(top)
    if support == "topk_renormalised":
        gradient[top] = student * (slope - mean_slope)
    else:
        gradient[top] = p[top] * (slope[:n_top] - mean_slope)
        rest_slope = slope[n_top] if support == "topk_tail" else 0.0
        gradient[rest] = p[rest] * (rest_slope - mean_slope)
    return loss, gradient


def _divergence(p: Tensor, q: Tensor, *, divergence: str, alpha: float) -> tuple[Tensor, Tensor]:
    """Divergence of two probability vectors, and its derivative with respect to each entry of the first."""
    if divergence == "forward_kl":
        return (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)).sum(), -q / p
    if divergence == "reverse_kl":
        return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(), (p / q).log() + 1
    m = (1 - alpha) * p + alpha * q
    student_term = (torch.special.xlogy(p, p) - torch.special.xlogy(p, m)).sum()
    teacher_term = (torch.special.xlogy(q, q) - torch.special.xlogy(q, m)).sum()
    return (1 - alpha) * student_term + alpha * teacher_term, (1 - alpha) * (p / m).log()
