"""Supervised learning for the demo's warm start: batches, loss and optimizer of a model small enough for a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evaluator.models.objects import CausalModel

PROMPT_WEIGHT = 0.1
"""Weight of the loss on prompt tokens: words and names are learned from them, answers matter more."""
WARM_UP_STEPS = 20
MATRIX_LR, OTHER_LR = 0.02, 3e-3
MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Source: K. Jordan, Muon (github.com/KellerJordan/Muon): coefficients of the quintic iteration."""


class Encoded(NamedTuple):
    """Token ids of one lesson."""

    prompt: list[int]
    answer: list[int]


def teach(
    model: CausalModel,
    encoded: Sequence[Encoded],
    *,
    n_steps: int,
    batch_size: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> None:
    """Train all parameters: Muon on the matrices of the layers, AdamW on the rest, linear decay."""
    layers = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in n)]
    muon = Muon(layers)
    adam = torch.optim.AdamW(rest, lr=OTHER_LR, betas=(0.9, 0.95), weight_decay=0.0)
    batches = _batches(encoded, n_steps, batch_size, torch.Generator().manual_seed(seed))
    model.train()
    for step, rows in enumerate(batches):
        scale = min(1.0, (step + 1) / WARM_UP_STEPS) * (1.0 - step / n_steps)
        adam.param_groups[0]["lr"] = OTHER_LR * scale
        _loss(model, rows).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step(MATRIX_LR * scale)
        adam.step()
        model.zero_grad()
        if progress is not None:
            progress(1)
    model.eval()


class Muon:
    """Momentum whose direction is made orthogonal, for matrices; in float32.

    torch.optim.Muon computes in bfloat16, which takes twice as long on a CPU without it.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Hold one momentum for each matrix."""
        self._parameters = parameters
        self._momenta = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move each matrix by `lr` along its orthogonalised Nesterov momentum."""
        for parameter, momentum in zip(self._parameters, self._momenta, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            momentum.lerp_(gradient, 1.0 - MOMENTUM)
            direction = orthogonal(gradient.lerp(momentum, MOMENTUM))
            ratio = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.add_(direction, alpha=-lr * ratio)


def orthogonal(matrix: Tensor, n_iterations: int = 5) -> Tensor:
    """The matrix with its singular values brought near 1 (0.7 to 1.2), by Newton-Schulz iterations."""
    a, b, c = _NEWTON_SCHULZ
    x: Tensor = matrix / (matrix.norm() + 1e-7)  # a zero gradient stays zero
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(n_iterations):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def _batches(
    encoded: Sequence[Encoded], n_steps: int, batch_size: int, generator: torch.Generator
) -> list[list[Encoded]]:
    """Lessons of like length together, so that little is padding; batches in random order."""
    batches: list[list[Encoded]] = []
    while len(batches) < n_steps:
        order = torch.randperm(len(encoded), generator=generator).tolist()
        pass_ = []
        for start in range(0, len(order), 8 * batch_size):
            pool = sorted(
                (encoded[i] for i in order[start : start + 8 * batch_size]),
                key=lambda x: len(x.prompt) + len(x.answer),
            )
            pass_ += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        batches += [pass_[i] for i in torch.randperm(len(pass_), generator=generator).tolist()]
    return batches[:n_steps]


def _loss(model: CausalModel, rows: Sequence[Encoded]) -> Tensor:
    """Mean cross-entropy, a prompt token counting `PROMPT_WEIGHT` of an answer's token."""
    width = max(len(row.prompt) + len(row.answer) for row in rows)
    ids = torch.full((len(rows), width), model.config.pad_token_id)
    weights = torch.zeros(ids.shape)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        weights[i, : len(prompt)] = PROMPT_WEIGHT
        weights[i, len(prompt) : end] = 1.0
    # right-padded and causal: no token attends to what comes after it, so no mask is needed
    logits = model(input_ids=ids[:, :-1]).logits
    losses: Tensor = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    flat = weights[:, 1:].flatten()
    return torch.dot(losses, flat) / flat.sum()
