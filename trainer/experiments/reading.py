"""A policy reads given answers: the mean log p of their tokens after their prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evaluator.models.modes import evaluation_mode
from evaluator.sampling.model import Policy
from evaluator.sampling.policy import prompt_text
from trainer.losses.chunked import Head, token_terms
from trainer.losses.sdpo import Distillation
from trainer.step.common_prefix import padded
from trainer.step.forward import (
    Rows,
    UnusualHead,
    completion_hidden,
    completion_logits,
    output_head,
)
from trainer.teacher.prompt import Message


def answer_logprobs(
    policy: Policy,
    pairs: Sequence[tuple[Sequence[Message], str]],
    *,
    temperature: float,
    batch_size: int,
) -> list[tuple[int, float]]:
    """Return the number of tokens of each answer, and their mean log p after its messages, in nats.

    The text is read as the tokenizer splits it, without an end mark.
    """
    rows = [
        (prompt_ids(policy, talk), policy.tokenizer(text, add_special_tokens=False)["input_ids"])
        for talk, text in pairs
    ]
    order = sorted(range(len(rows)), key=lambda index: -sum(map(len, rows[index])))
    found: dict[int, tuple[int, float]] = {}
    with evaluation_mode(policy.model):
        head = _head(policy)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            means = _mean_logprobs(policy, head, [rows[index] for index in chosen], temperature)
            for index, mean in zip(chosen, means, strict=True):
                found[index] = len(rows[index][1]), mean
    return [found[index] for index in range(len(rows))]


def _head(policy: Policy) -> Head | None:
    """The model's head; None where it does more than project, so that logits must be read."""
    try:
        return output_head(policy.model)
    except UnusualHead:
        return None


@torch.no_grad()
def _mean_logprobs(
    policy: Policy,
    head: Head | None,
    rows: Sequence[tuple[list[int], list[int]]],
    temperature: float,
) -> list[float]:
    device = next(policy.model.parameters()).device
    prompts, answers = zip(*rows, strict=True)
    batch = Rows(*padded(prompts, device), *padded(answers, device, side="right"))
    forward = completion_logits if head is None else completion_hidden
    mask = batch.completion_mask.bool()
    terms = token_terms(
        forward(policy.model, batch)[mask],
        None,
        batch.completion_ids[mask],
        head=head,
        spec=Distillation("sampled", "reverse_kl", temperature=temperature),
        policy_gradient=False,
    )
    logprobs = torch.zeros(mask.shape, device=device).masked_scatter(mask, terms.logprobs.float())
    means: list[float] = (logprobs.sum(dim=1) / mask.sum(dim=1)).tolist()
    return means


def prompt_ids(policy: Policy, talk: Sequence[Message]) -> list[int]:
    """Return the token ids of a prompt as the policy reads it."""
    text = prompt_text(policy.tokenizer, list(talk), policy.chat_template_kwargs)
    ids: list[int] = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
