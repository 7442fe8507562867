"""Log-probabilities of student and teacher for each token of a few completions: rows for the journal.

A run's tokens are too many to keep; two completions every few steps show where the teacher disagrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from analysis.records import TokenStat

N_COMPLETIONS = 2
"""Completions whose tokens are kept, of a step whose tokens are kept at all."""


def is_kept(step: int, *, every: int) -> bool:
    """Whether the tokens of an optimizer step are kept: of the first, and of each `every`-th."""
    return every > 0 and (step == 1 or step % every == 0)


def chosen_rows(distill_mask: Tensor, *, first: int = 0) -> Tensor:
    """Place of each chosen row (int, -1 elsewhere) from which rows (bool) have a teacher: the first ones.

    Places count from `first`, that of the batch's first row within its step. They travel with the batch,
    which TRL shuffles and cuts into micro-batches.
    """
    places = torch.arange(first, first + len(distill_mask), device=distill_mask.device)
    is_chosen = distill_mask & (distill_mask.cumsum(0) <= N_COMPLETIONS)
    return torch.where(is_chosen, places, torch.full_like(places, -1))


def token_records(
    places: Tensor,
    mask: Tensor,
    tokens: Sequence[Sequence[str]],
    *,
    student_logprobs: Tensor,
    teacher_logprobs: Tensor,
    divergence: Tensor,
    step: int,
    group_size: int,
) -> Iterator[TokenStat]:
    """Yield the rows of the chosen completions of a micro-batch.

    `places`, (row), are from `chosen_rows`. `mask`, the sampled tokens' log-probabilities and their distillation loss
    `divergence`, in nats, are (row, token). `step` is the optimizer step that sampled them, from 1.
    """
    values = torch.stack((student_logprobs, teacher_logprobs, divergence)).detach().float().cpu()
    for row, place in enumerate(places.tolist()):
        if place < 0:
            continue
        group_index, member_index = divmod(place, group_size)
        for index, is_token in enumerate(mask[row].tolist()):
            if is_token:
                student, teacher, of_token = values[:, row, index].tolist()
                yield TokenStat(
                    step=step,
                    group_index=group_index,
                    member_index=member_index,
                    token_index=index,
                    token=tokens[row][index],
                    student_logprob=student,
                    teacher_logprob=teacher,
                    divergence=of_token,
                )
