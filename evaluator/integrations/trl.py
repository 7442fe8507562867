"""A reward function for anyone's TRL trainer: `GRPOTrainer(..., reward_funcs=[trl_reward])`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evaluator.grading.reward import reward
from evaluator.integrations.rows import COLUMNS, grade_rows

Message = dict[str, Any]
RewardFunction = Callable[..., list[float]]


def make_trl_reward(
    *, sandbox: str | None = None, timeout_s: float = 5.0, format_weight: float = 0.3
) -> RewardFunction:
    """Return a reward function with settings of its own.

    Args:
        sandbox: as `--sandbox`; else the variable SDPO_BENCH_SANDBOX, else auto.
        timeout_s: limit of each program, in seconds.
        format_weight: weight of the answer's form beside the fraction of asserts that pass.
    """

    def trl_reward(
        *,
        completions: Sequence[str | list[Message]],
        test_list: Sequence[list[str]],
        **columns: Any,
    ) -> list[float]:
        """Return one reward a completion; a sandbox that fails stops the training and is no reward of 0.

        Args:
            completions: texts, or conversations whose last message is the answer.
            test_list: asserts of each row.
            columns: the other columns of the data set; of these `rows.COLUMNS` count.
        """
        given = {"test_list": test_list, **{n: columns[n] for n in COLUMNS if n in columns}}
        rows = [
            dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)
        ]
        texts = [_text(completion) for completion in completions]
        grades = grade_rows(rows, texts, sandbox=sandbox, timeout_s=timeout_s)
        return [reward(found, format_weight=format_weight).total for found in grades]

    return trl_reward


def _text(completion: str | list[Message]) -> str:
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else ""
    return content if isinstance(content, str) else ""


trl_reward = make_trl_reward()
"""The reward of this project's own training, with its default settings."""
