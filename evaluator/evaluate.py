"""The evaluation loop: problems to answers to grades to journal rows to a summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.journal import Journal
from analysis.records import Eval, EvalResult, Record
from evaluator.completions import Answer
from evaluator.extract import is_complete
from evaluator.feedback import feedback
from evaluator.grade import Grade, grade
from evaluator.mbpp import Problem, ProblemSet
from evaluator.model import Decoding, Policy, generate_batches
from evaluator.pass_at_k import pass_at_k_each
from evaluator.prompt import MBPP, Protocol, conversation
from evaluator.rows import execution_rows
from evaluator.stats import Interval, bootstrap_mean, wilson
from sandbox.client import Sandbox

GRADED_TOGETHER = 64
"""Answers in one sandbox batch and one journal commit, where no sampling sets the pace."""


@dataclass(frozen=True)
class GradedAnswer:
    """One answer with its grade."""

    answer: Answer
    grade: Grade


@dataclass(frozen=True)
class EvalSummary:
    """What one evaluation found."""

    eval_id: str
    label: str
    dataset: str
    protocol: str
    decoding: str
    graded: tuple[GradedAnswer, ...]
    """In order of task id and sample index."""
    wall_s: float

    @property
    def first_grades(self) -> dict[int, Grade]:
        """Task id -> grade of the problem's first completion."""
        grades: dict[int, Grade] = {}
        for item in self.graded:
            grades.setdefault(item.answer.problem.task_id, item.grade)
        return grades

    @property
    def n(self) -> int:
        """Problems evaluated."""
        return len(self.first_grades)

    @property
    def k(self) -> int:
        """Problems whose first completion passes every assert."""
        return sum(grade.passed for grade in self.first_grades.values())

    @property
    def pass_at_1(self) -> float:
        """k/n, 0..1: of the first completions."""
        return self.k / self.n

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval of k/n."""
        return wilson(self.k, self.n)

    @property
    def outcomes(self) -> dict[str, int]:
        """Failure class -> first completions, the most frequent first; `passed` left out."""
        counts = Counter(grade.outcome for grade in self.first_grades.values() if not grade.passed)
        return dict(counts.most_common())

    @property
    def n_samples(self) -> int:
        """Completions of each problem."""
        return 1 + max(item.answer.sample_index for item in self.graded)

    @property
    def useful_k(self) -> list[int]:
        """Values of k for which pass@k is worth a line: powers of two, and the samples drawn."""
        n = self.n_samples
        return sorted({k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= n} | {n})

    def pass_at_k(self, k: int) -> tuple[float, Interval]:
        """Return the unbiased pass@k over problems, 0..1, and its 95 % bootstrap interval."""
        n_drawn = Counter(item.answer.problem.task_id for item in self.graded)
        n_passed = Counter(item.answer.problem.task_id for item in self.graded if item.grade.passed)
        each = pass_at_k_each(list(n_drawn.values()), [n_passed[task_id] for task_id in n_drawn], k)
        return float(each.mean()), bootstrap_mean(each.tolist())

    @property
    def failures(self) -> list[tuple[int, str, bool]]:
        """Task id, failure class and whether it was cut off, of each failing first completion."""
        first = {item.answer.problem.task_id: item for item in reversed(self.graded)}
        return [
            (task_id, item.grade.outcome, bool(item.answer.truncated))
            for task_id, item in sorted(first.items())
            if not item.grade.passed
        ]

    @property
    def n_truncated(self) -> int:
        """Completions that the length limit ended."""
        return sum(bool(item.answer.truncated) for item in self.graded)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as the `--json` option writes it."""
        content: dict[str, Any] = {
            "n": self.n,
            "k": self.k,
            "pass_at_1": self.pass_at_1,
            "interval": list(self.interval),
            "results": [
                {"task_id": task_id, "passed": grade.passed, "outcome": grade.outcome}
                for task_id, grade in self.first_grades.items()
            ],
        }
        if self.n_samples > 1:
            content["pass_at_k"] = {
                str(k): {"mean": mean, "interval": list(interval)}
                for k in self.useful_k
                for mean, interval in [self.pass_at_k(k)]
            }
        return content


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
    """Sample a policy on a set of problems, grade the completions, store every row.

    Args:
        problem_set: what to ask.
        policy: a loaded policy, or a trainer's own model and tokenizer in one; its training mode
            and the random state are left as they were.
        sandbox: where programs run.
        journal: of the run that the rows belong to; None stores nothing.
        eval_id: unique within the run, e.g. `step-50`.
        label: what a person calls it.
        step: optimizer step of the policy; None outside training.
        protocol: prompt form.
        shots: its solved examples, see `prompt.load_shots`.
        decoding: None is greedy with 256 tokens.
        batch_size: completions sampled together.
        timeout_s: time limit of each program.
        progress: called with the number of completions after each batch.

    Raises:
        ModelError: the prompts do not fit the model or its tokenizer.
        SandboxError: the sandbox failed; rows of finished batches are kept.
        StoreError: the journal could not be written.
    """
    decoding = decoding or Decoding()
    return grade_and_record(
        problem_set,
        sample_answers(
            problem_set.problems,
            policy,
            protocol=protocol,
            shots=shots,
            decoding=decoding,
            batch_size=batch_size,
        ),
        sandbox,
        journal=journal,
        eval_id=eval_id,
        label=label,
        step=step,
        protocol=protocol.name,
        decoding=decoding.name,
        timeout_s=timeout_s,
        progress=progress,
    )


def grade_and_record(
    problem_set: ProblemSet,
    batches: Iterable[Sequence[Answer]],
    sandbox: Sandbox,
    *,
    journal: Journal | None,
    eval_id: str,
    label: str,
    protocol: str,
    decoding: str,
    step: int | None = None,
    timeout_s: float = 5.0,
    progress: Callable[[int], None] | None = None,
) -> EvalSummary:
    """Grade batches of answers as they come, store each batch when it is graded, and sum up.

    Raises:
        SandboxError: the sandbox failed; rows of finished batches are kept.
        StoreError: the journal could not be written.
    """
    started = time.monotonic()
    graded: list[GradedAnswer] = []

    for answers in batches:
        pairs = [(answer.problem, answer.completion) for answer in answers]
        grades = grade(pairs, sandbox, timeout_s=timeout_s)

        batch = [GradedAnswer(*item) for item in zip(answers, grades, strict=True)]
        _store(journal, (row for item in batch for row in _rows(eval_id, item)))

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
    _store(journal, [_eval_row(summary, step)])
    return summary


def sample_answers(
    problems: Sequence[Problem],
    policy: Policy,
    *,
    protocol: Protocol,
    shots: Sequence[Problem],
    decoding: Decoding,
    batch_size: int,
    done: Collection[tuple[int, int]] = (),
) -> Iterator[list[Answer]]:
    """Yield sampled answers batch by batch, prompts of like length together.

    Sampling of a completion ends as soon as a closed code block defines the tested function: what
    would follow cannot change the extracted program. What is `done`, as (task id, sample index),
    is left out.
    """
    wanted = [
        (problem, sample_index)
        for problem in problems
        for sample_index in range(decoding.n_samples)
        if (problem.task_id, sample_index) not in done
    ]
    for batch in generate_batches(
        policy,
        [conversation(problem, protocol, tuple(shots)) for problem, _ in wanted],
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        batch_size=batch_size,
        seed=decoding.seed,
        stop=[_answered(problem, protocol) for problem, _ in wanted],
    ):
        yield [
            Answer(
                problem=wanted[index][0],
                completion=_before_stop(sample.text, protocol.stop),
                sample_index=wanted[index][1],
                prompt=sample.prompt,
                n_tokens=sample.n_tokens,
                truncated=sample.truncated,
            )
            for index, sample in sorted(batch.items())
        ]


def in_batches(answers: Sequence[Answer], size: int = GRADED_TOGETHER) -> Iterator[list[Answer]]:
    """Yield answers that are already there in batches for `grade_and_record`."""
    for start in range(0, len(answers), size):
        yield list(answers[start : start + size])


def _answered(problem: Problem, protocol: Protocol) -> Callable[[str], bool]:
    """Rule that says when a completion needs no more text."""
    if protocol.stop:
        return lambda text: any(mark in text for mark in protocol.stop)
    return lambda text: is_complete(text, problem.callables)


def _before_stop(text: str, marks: Sequence[str]) -> str:
    """A plain-text completion up to the first mark that ends it."""
    ends = [at for mark in marks if (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _store(journal: Journal | None, rows: Iterable[Record]) -> None:
    """Append rows and make them durable."""
    if journal is None:
        return
    for row in rows:
        journal.append(row)
    journal.commit()


def _rows(eval_id: str, item: GradedAnswer) -> Iterator[Record]:
    """Journal rows of one graded answer."""
    answer, graded = item.answer, item.grade
    task_id = answer.problem.task_id
    execution_id = f"{eval_id}/{task_id}/{answer.sample_index}"
    yield EvalResult(
        eval_id=eval_id,
        task_id=task_id,
        sample_index=answer.sample_index,
        execution_id=execution_id,
        prompt=answer.prompt,
        completion=answer.completion,
        code=graded.extraction.code,
        outcome=graded.outcome,
        passed=graded.passed,
        n_passed=graded.n_passed,
        n_asserts=graded.n_asserts,
        n_completion_tokens=answer.n_tokens,
        truncated=answer.truncated,
        feedback=feedback(graded),
    )
    yield from execution_rows(graded, execution_id=execution_id)


def _eval_row(summary: EvalSummary, step: int | None) -> Eval:
    """The row of the whole evaluation."""
    return Eval(
        eval_id=summary.eval_id,
        step=step,
        label=summary.label,
        dataset=summary.dataset,
        protocol=summary.protocol,
        decoding=summary.decoding,
        n=summary.n,
        k=summary.k,
        interval_low=summary.interval.low,
        interval_high=summary.interval.high,
        wall_s=summary.wall_s,
    )


def _position(item: GradedAnswer) -> tuple[int, int]:
    """Sorting key: task id, then sample index."""
    return item.answer.problem.task_id, item.answer.sample_index
