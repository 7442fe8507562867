"""The micro-batches of an optimizer step as they are trained on: groups together, and no more padding than needed.

What is added up over a step does not depend on either; what TRL divides by a micro-batch's own counts does, and
such a loss keeps its rows where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

MicroBatch = dict[str, Any]

_LEFT = ("prompt", "teacher_prompt")
"""Padded on the left; everything else that has a column for each token is padded on the right."""


def trimmed(batch: MicroBatch) -> MicroBatch:
    """The micro-batch without the columns that are padding in all of its rows; one of each side is kept."""
    batch = dict(batch)
    for name in _LEFT:
        if f"{name}_mask" in batch:
            width = _width(batch[f"{name}_mask"].flip(1))
            for part in (f"{name}_ids", f"{name}_mask"):
                batch[part] = batch[part][:, batch[part].shape[1] - width :]
    padded = batch["completion_mask"].shape
    width = _width(batch["completion_mask"])
    for name, value in batch.items():
        is_left = name.removesuffix("_ids").removesuffix("_mask") in _LEFT
        if not is_left and isinstance(value, Tensor) and value.shape == padded:
            batch[name] = value[:, :width]
    return batch


def step_counts(
    batches: Sequence[MicroBatch], algorithm: str, gather: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """What losses and their metrics divide by: counts over the step and, through `gather`, all processes."""
    masks = [m["completion_mask"] for m in batches]
    counts = {"n_tokens": sum(mask.sum() for mask in masks)}
    if algorithm == "sft":
        passing = [m["completion_mask"] * m["passing"].unsqueeze(1) for m in batches]
        counts["n_passing_tokens"] = sum(mask.sum() for mask in passing)
    elif algorithm != "grpo":
        taught = [m["completion_mask"] * m["distill_mask"].unsqueeze(1) for m in batches]
        counts["n_distill_tokens"] = sum(mask.sum() for mask in taught)
        counts["n_distill_rows"] = sum(mask.any(dim=1).sum() for mask in taught)
    totals = gather(torch.stack([*counts.values()])).view(-1, len(counts)).sum(dim=0)
    return dict(zip(counts, totals, strict=True))


def _width(mask: Tensor) -> int:
    """Columns up to the last that counts in a row."""
    columns = mask.any(dim=0).nonzero()
    return int(columns.max()) + 1 if columns.numel() else 1


def with_groups(batch: MicroBatch) -> MicroBatch:
    """Add the group of each row: rows with one prompt are of one group."""
    return {**batch, "group": torch.tensor(_groups(batch))}


def by_group(batches: Sequence[MicroBatch], parts: Sequence[int]) -> list[MicroBatch]:
    """Put rows of a group into as few micro-batches as they fill, in the order in which groups first appear.

    Rows stay within the part that their micro-batch belongs to (a pass over a rollout batch), and each
    micro-batch has as many as before.
    """
    sorted_batches: list[MicroBatch] = []
    for _, members in groupby(zip(parts, batches, strict=True), key=lambda pair: pair[0]):
        sorted_batches += _sorted([batch for _, batch in members])
    return sorted_batches


def _sorted(batches: list[MicroBatch]) -> list[MicroBatch]:
    sizes = [len(batch["prompt_ids"]) for batch in batches]
    per_row = {
        name
        for name, value in batches[0].items()
        if isinstance(value, Tensor) and value.dim() > 0 and len(value) == sizes[0]
    }
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in per_row}
    groups = _groups(whole)
    order = torch.tensor(sorted(range(len(groups)), key=lambda row: groups[row]))
    parts = torch.split(order, sizes)
    return [
        {**batch, **{name: whole[name][part.to(whole[name].device)] for name in per_row}}
        for batch, part in zip(batches, parts, strict=True)
    ]


def _groups(batch: MicroBatch) -> list[int]:
    """Of each row, the place of its prompt among the different ones, in the order in which they appear."""
    rows = torch.cat([batch["prompt_ids"], batch["prompt_mask"]], dim=1).tolist()
    places = {row: place for place, row in enumerate(dict.fromkeys(map(tuple, rows)))}
    return [places[tuple(row)] for row in rows]
