"""Completions of plain prompt forms end at a mark such as `[DONE]`, not at an end token."""

from __future__ import annotations

from collections.abc import Sequence

from evaluator.models.objects import Tokenizer

_LAST_TOKENS = 32
"""In which a mark must lie that ends a completion."""


def up_to_mark(tokenizer: Tokenizer, ids: Sequence[int], marks: Sequence[str]) -> list[int]:
    """The fewest first tokens whose text holds one of the marks; all where none does."""

    def holds(n: int) -> bool:
        return has_mark(tokenizer.decode(list(ids[:n])), marks)

    if not marks or not holds(len(ids)):
        return list(ids)
    low, high = 0, len(ids)  # invariant: `high` tokens hold a mark, `low` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return list(ids[:high])


def ends_in_mark(tokenizer: Tokenizer, ids: Sequence[int], marks: Sequence[str]) -> bool:
    """Whether a completion that `up_to_mark` cut has such an end."""
    return bool(marks) and has_mark(tokenizer.decode(list(ids[-_LAST_TOKENS:])), marks)


def has_mark(text: str, marks: Sequence[str]) -> bool:
    """Whether a text holds one of the marks."""
    return any(mark in text for mark in marks)
