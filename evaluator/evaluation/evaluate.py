"""The evaluation loop: problems to answers to grades to journal rows to a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from analysis.journal.journal import Journal
from analysis.records import Record
from analysis.task_ids import task_order
from evaluator.grading.grade import grade
from evaluator.problems.problem import Problem, ProblemSet
from evaluator.problems.prompt import MBPP, Protocol
from evaluator.results.rows import answer_rows, eval_row
from evaluator.results.summary import EvalSummary, GradedAnswer
from evaluator.sampling.batches import SamplingPlan
from evaluator.sampling.completions import Answer
from evaluator.sampling.policy import Decoding, Policy
from sandbox.client import Sandbox

__all__ = ["EvalSummary", "GradedAnswer", "evaluate", "graded_batches", "in_batches", "record"]

GRADED_TOGETHER = 256
"""Answers in one sandbox batch and one journal commit, where no sampling sets the pace."""


def evaluate(
    problem_set: ProblemSet,
    policy: Policy,
    sandbox: Sandbox,
    *,
    journal: Journal | None,
    eval_id: str,
    label: str,
    step: int | None = None,
    protocol: Protocol = MBPP,
    shots: Sequence[Problem] = (),
    decoding: Decoding | None = None,
    batch_size: int = 16,
    timeout_s: float = 5.0,
    progress: Callable[[int], None] | None = None,
) -> EvalSummary:
    """Sample a policy on a set of problems, grade the completions, store every row in the journal, if there is one.

    The policy may be a trainer's own model and tokenizer: its training mode and the random state are left as they
    were. `eval_id` is unique within the run, e.g. `step-50`; `step` is the policy's in training. `shots` are the solved
    examples of the protocol (`prompt.load_shots`). Without `decoding` it is greedy, with 256 tokens. `timeout_s` is the
    limit of each program, and `progress` is called with the number of completions after each batch.

    Raises:
        ModelError: the prompts do not fit the model or its tokenizer.
        SandboxError: the sandbox failed; rows of finished batches are kept.
        StoreError: the journal could not be written.
    """
    decoding = decoding or Decoding()
    plan = SamplingPlan(
        problem_set.problems,
        policy,
        protocol=protocol,
        shots=shots,
        decoding=decoding,
        batch_size=batch_size,
    )
    batches = map(plan.answers, range(len(plan.batches)))
    return record(
        problem_set,
        graded_batches(batches, sandbox, timeout_s=timeout_s),
        journal=journal,
        eval_id=eval_id,
        label=label,
        step=step,
        protocol=protocol.name,
        decoding=decoding.name,
        progress=progress,
    )


def graded_batches(
    batches: Iterable[Sequence[Answer]], sandbox: Sandbox, *, timeout_s: float
) -> Iterator[list[GradedAnswer]]:
    """Yield batches of answers with their grades.

    Raises:
        SandboxError: the sandbox failed.
    """
    for answers in batches:
        pairs = [(answer.problem, answer.graded_text) for answer in answers]
        grades = grade(pairs, sandbox, timeout_s=timeout_s)
        yield [GradedAnswer(*item) for item in zip(answers, grades, strict=True)]


def record(
    problem_set: ProblemSet,
    batches: Iterable[Sequence[GradedAnswer]],
    *,
    journal: Journal | None,
    eval_id: str,
    label: str,
    protocol: str,
    decoding: str,
    step: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvalSummary:
    """Store each batch of graded answers as it comes, and sum up.

    Raises:
        StoreError: the journal could not be written.
    """
    started = time.monotonic()
    graded: list[GradedAnswer] = []

    for batch in batches:
        _store(journal, (row for item in batch for row in answer_rows(eval_id, item)))

        graded += batch
        if progress is not None:
            progress(len(batch))

    summary = EvalSummary(
        eval_id=eval_id,
        label=label,
        dataset=problem_set.name,
        protocol=protocol,
        decoding=decoding,
        graded=tuple(sorted(graded, key=_position)),
        wall_s=time.monotonic() - started,
    )
    _store(journal, [eval_row(summary, step, dataset_sha256=problem_set.sha256)])
    return summary


def in_batches(answers: Sequence[Answer], size: int = GRADED_TOGETHER) -> Iterator[list[Answer]]:
    """Yield answers that are already there in batches for `graded_batches`."""
    for start in range(0, len(answers), size):
        yield list(answers[start : start + size])


def _store(journal: Journal | None, rows: Iterable[Record]) -> None:
    if journal is None:
        return
    for row in rows:
        journal.append(row)
    journal.commit()


def _position(item: GradedAnswer) -> tuple[str, int]:
    return task_order(item.answer.problem.task_id), item.answer.sample_index
