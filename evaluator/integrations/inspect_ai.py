"""A scorer for Inspect: `Task(dataset=..., solver=generate(), scorer=sandbox_scorer())`.

Each sample's metadata is a row as `rows.COLUMNS` describes.
"""

from __future__ import annotations

import asyncio

from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState

from evaluator.grading.feedback import feedback
from evaluator.integrations.rows import grade_rows


@scorer(metrics=[accuracy(), stderr()])
def sandbox_scorer(sandbox: str | None = None, timeout_s: float = 5.0) -> Scorer:
    """Score an answer by all asserts of its sample: correct only where each passes and is trusted.

    A sandbox that fails is an error of the sample, as Inspect counts them, and no wrong answer.

    Args:
        sandbox: as `--sandbox`; else the variable SDPO_BENCH_SANDBOX, else auto.
        timeout_s: limit of each program, in seconds.
    """

    async def score(state: TaskState, target: Target) -> Score:
        (found,) = await asyncio.to_thread(
            grade_rows,
            [state.metadata],
            [state.output.completion],
            sandbox=sandbox,
            timeout_s=timeout_s,
        )
        return Score(
            value=CORRECT if found.passed else INCORRECT,
            answer=found.extraction.code,
            explanation=feedback(found) or "all asserts pass",
            metadata={
                "outcome": found.outcome,
                "n_passed": found.n_passed,
                "n_asserts": found.n_asserts,
            },
        )

    return score
