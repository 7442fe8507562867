"""One line of `doctor`'s report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was looked at and how it is."""

    state: str
    """`ok`, `note` (something works without it) or `FAIL`."""
    text: str
    mend: str = ""
    """The command that mends it, where there is one."""
