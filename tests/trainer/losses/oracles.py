"""The losses beside the distillation a second time, plainly; that of the distillation is the audit's own."""

import math

import torch
from torch import Tensor

from trainer.audit.second_loss import Oracle, _softmax


def policy_oracle(
    student_logits: Tensor,
    ids: Tensor,
    advantages: Tensor,
    *,
    temperature: float,
) -> Oracle:
    """The policy loss -A r of each token, r = s(y) / s_old(y), where the weights have not moved and r is 1.

    dL / dz_v = -A / tau ([v = y] - p_v). Imitation of a token is the gradient of A = 1, and -log p(y) its value.
    """
    losses, gradients = [], []
    for logits, y, advantage in zip(student_logits, ids, advantages, strict=True):
        p = _softmax(logits, temperature)
        hit = torch.zeros_like(p)
        hit[int(y)] = 1.0
        losses.append(-advantage.double())
        gradients.append(-advantage.double() * (hit - p) / temperature)
    if not losses:
        return Oracle(torch.zeros(0).double(), torch.zeros_like(student_logits).double())
    return Oracle(torch.stack(losses), torch.stack(gradients))


def imitation_oracle(
    student_logits: Tensor,
    ids: Tensor,
    *,
    temperature: float,
) -> Oracle:
    """-log p(y) of each token; dL / dz_v = (p_v - [v = y]) / tau."""
    losses, gradients = [], []
    for logits, y in zip(student_logits, ids, strict=True):
        p = _softmax(logits, temperature)
        gradient = p / temperature
        gradient[int(y)] -= 1.0 / temperature
        losses.append(-math.log(float(p[int(y)])))
        gradients.append(gradient)
    if not losses:
        return Oracle(torch.zeros(0).double(), torch.zeros_like(student_logits).double())
    return Oracle(torch.tensor(losses, dtype=torch.float64), torch.stack(gradients))


def scaled_advantage_oracle(
    student_logits: Tensor,
    teacher_logits: Tensor,
    ids: Tensor,
    advantages: Tensor,
    *,
    clip: float,
    mix: float,
    temperature: float,
) -> Tensor:
    """Each token's advantage, scaled by how the teacher's probability of it stands to the student's."""
    found = []
    for z_s, z_t, y, advantage in zip(student_logits, teacher_logits, ids, advantages, strict=True):
        s = float(_softmax(z_s, temperature)[int(y)])
        q = float(_softmax(z_t, temperature)[int(y)])
        a = float(advantage)
        weight = q / s if a > 0 else s / q if a < 0 else 1.0
        weight = max(1.0 - clip, min(1.0 + clip, weight))
        found.append((1.0 - mix) * a + mix * weight * a)
    return torch.tensor(found, dtype=torch.float64)
