"""Finds the program in the text of a completion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extraction:
    """The program found in a completion, or why there is none."""

    code: str | None
    reason: str | None
    """Why there is no code, e.g. `empty completion`; None where there is."""
    n_blocks: int
    """Fenced blocks seen."""


def extract(completion: str, callables: tuple[str, ...]) -> Extraction:
    """Extract the program that defines the tested function."""
    raise NotImplementedError
