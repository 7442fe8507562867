"""The common beginning of the prompts of several rows, which is computed once, and the rows cut there.

The student's prompts of a group are equal. The teacher's begin with the same problem; what follows, a demonstration
or feedback, may differ from row to row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from evaluator.models.modes import dropout_shares
from evaluator.models.objects import CausalModel
from evaluator.models.shared_prompt import can_share, continued, prefix_cache

if TYPE_CHECKING:
    from trainer.step.forward import GroupedRows

_WORTH = 0.9
"""Share of the plain form's tokens above which a second pass over smaller batches saves no time."""


@dataclass(frozen=True)
class Cut:
    """Rows in two parts: prefixes, each of one row or more, and what follows them."""

    prefixes: list[list[int]]
    rests: list[list[int]]
    """Of each row, what its prompt has after its prefix; never empty, since the first token is predicted from it."""
    of_rows: list[int]
    """The prefix of each row."""

    def n_tokens(self, n_completion_tokens: int) -> int:
        """Tokens that are computed, padding included."""
        rest = max(map(len, self.rests)) + n_completion_tokens
        return len(self.prefixes) * max(map(len, self.prefixes)) + len(self.rests) * rest


def shared_inputs(model: CausalModel, rows: GroupedRows) -> dict[str, Any] | None:
    """The inputs of a pass over what follows the common prefixes, these computed; None where that saves nothing.

    The gradient reaches the prefixes through their keys and values.
    """
    if _draws_or_recomputes(model):
        return None
    prompts = zip(rows.prompt_ids, rows.prompt_mask.bool(), strict=True)
    cut = best_cut(
        [ids[mask].tolist() for ids, mask in prompts],
        rows.groups,
        n_completion_tokens=rows.completion_ids.shape[1],
    )
    if cut is None or not can_share(model):
        return None
    device = rows.prompt_ids.device
    ids, mask = padded(cut.prefixes, device)
    of_rows = torch.tensor(cut.of_rows, device=device)
    cache = prefix_cache(model, ids, mask, of_rows=of_rows)
    rest_ids, rest_mask = padded(cut.rests, device)
    return continued(
        model,
        cache,
        torch.cat([rest_ids, rows.completion_ids], dim=1),
        torch.cat([mask[of_rows], rest_mask, rows.completion_mask], dim=1),
    )


def best_cut(
    prompts: Sequence[Sequence[int]], groups: Sequence[int], *, n_completion_tokens: int
) -> Cut | None:
    """The cheaper of two: rows of a group share what all of it begins with, or rows with equal prompts share these.

    None where neither computes clearly fewer tokens than whole rows do.
    """
    equal = {prompt: number for number, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    cuts = [_cut(prompts, groups), _cut(prompts, [equal[tuple(prompt)] for prompt in prompts])]
    best = min(cuts, key=lambda cut: cut.n_tokens(n_completion_tokens))
    plain = len(prompts) * (max(map(len, prompts)) + n_completion_tokens)
    return best if best.n_tokens(n_completion_tokens) < _WORTH * plain else None


def _cut(prompts: Sequence[Sequence[int]], groups: Sequence[int]) -> Cut:
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    of_rows = [places[group] for group in groups]
    prefixes = []
    for place in places.values():
        own = [tuple(prompt) for prompt, at in zip(prompts, of_rows, strict=True) if at == place]
        prefixes.append(list(commonprefix(own)[: min(map(len, own)) - 1]))
    rests = [
        list(prompt[len(prefixes[place]) :]) for prompt, place in zip(prompts, of_rows, strict=True)
    ]
    return Cut(prefixes, rests, of_rows)


def padded(
    rows: Sequence[Sequence[int]], device: torch.device, *, side: str = "left", fill: int = 0
) -> tuple[Tensor, Tensor]:
    """Rows of different lengths in one tensor, (row, token), and a mask that is 0 where `fill` stands."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    mask = [torch.ones_like(row) for row in ids]
    return (
        pad_sequence(ids, True, fill, side).to(device),
        pad_sequence(mask, True, 0, side).to(device),
    )


def _draws_or_recomputes(model: CausalModel) -> bool:
    """Whether one pass for all would be another: under dropout, or where layers are recomputed without a cache."""
    return any(
        module.training
        and (getattr(module, "gradient_checkpointing", False) or dropout_shares(module))
        for module in model.modules()
    )
