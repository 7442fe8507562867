"""verl's reward function.

reward.custom_reward_function.path=pkg://evaluator.integrations.verl reward.custom_reward_function.name=compute_score
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.grading.feedback import feedback
from evaluator.grading.reward import reward
from evaluator.integrations.rows import grade_rows


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | Mapping[str, Any],
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return verl's score of one answer.

    Args:
        data_source: name of the data set; not used.
        solution_str: the answer.
        ground_truth: a row as `rows.COLUMNS` describes, or its JSON; only `test_list` must be there.
        extra_info: not used.
        settings: `sandbox`, `timeout_s`, `format_weight`, from verl's `reward_kwargs`; others are not used.

    Raises:
        SandboxError: the sandbox failed: no score, and none of 0.
        ValueError: no asserts in the row.
    """
    return compute_scores([data_source], [solution_str], [ground_truth], **settings)[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str | Mapping[str, Any]],
    extra_infos: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    sandbox: str | None = None,
    timeout_s: float = 5.0,
    format_weight: float = 0.0,
    **others: Any,
) -> list[dict[str, Any]]:
    """Return the scores of many answers, graded in one batch of the sandbox; see `compute_score`."""
    rows = [json.loads(truth) if isinstance(truth, str) else truth for truth in ground_truths]
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"a row must be a mapping, got {type(row).__name__}; give test_list")
    return [
        {
            "score": reward(found, format_weight=format_weight).total,
            "acc": float(found.passed),
            "outcome": found.outcome,
            "feedback": feedback(found) or "",
        }
        for found in grade_rows(rows, solution_strs, sandbox=sandbox, timeout_s=timeout_s)
    ]
