"""Whole programs that are not judged: each is run on empty input, and what it printed is its answer."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.guest.protocol import Job, ProtocolError
from sandbox.judge import decode, verdict
from sandbox.pool.task import Execute, Outcome, Run

MAX_PRINTED = 500_000
"""Bytes of UTF-8 that come back from every kind of sandbox; more than that may be lost."""


def run_scripts(
    scripts: Sequence[str], execute: Execute, *, timeout_s: float
) -> list[str | None]:  # fmt: skip
    """Return what each program printed; None of one that did not come to its end, or printed too much.

    Raises:
        SandboxError: the sandbox failed.
        ValueError: a time limit out of range.
    """
    runs = [Run(Job((), script, "", (), stdin=""), timeout_s) for script in scripts]
    return [_printed(outcome) for outcome in execute(runs)]


def _printed(outcome: Outcome | None) -> str | None:
    if outcome is None:
        return None
    try:
        facts = verdict.parse_body(outcome.body, 1)
        if facts.load_failure is not None or not facts.ended or not facts.steps:
            return None
        step = facts.steps[0]
        return decode.text_of(step[0]) if isinstance(step, tuple) and len(step) == 1 else None
    except ProtocolError:
        return None
