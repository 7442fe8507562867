"""Graded completions and evaluations as journal rows."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.records import Eval, EvalResult, ExecutionRow, Record, TestResult
from analysis.statistics.intervals import wilson
from evaluator.grading.feedback import feedback
from evaluator.grading.grade import Grade
from evaluator.results.summary import EvalSummary, GradedAnswer


def execution_rows(grade: Grade, *, execution_id: str) -> list[Record]:
    """The rows of one execution: what it cost, and the verdict on each assert."""
    cost = {name: value for name, value in vars(grade.execution).items() if name != "results"}
    rows: list[Record] = [ExecutionRow(execution_id=execution_id, **cost)]
    for index, result in enumerate(grade.execution.results):
        told = {**vars(result), "verdict": result.verdict.value}
        del told["call"]  # the assert holds it
        rows.append(TestResult(execution_id=execution_id, assert_index=index, **told))
    return rows


def answer_rows(eval_id: str, item: GradedAnswer) -> Iterator[Record]:
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


def eval_row(summary: EvalSummary, step: int | None, *, dataset_sha256: str) -> Eval:
    """The row of the whole evaluation: of the first completions, the others are in `pass_at_k`."""
    interval = wilson(summary.k, summary.n)
    return Eval(
        eval_id=summary.eval_id,
        step=step,
        label=summary.label,
        dataset=summary.dataset,
        dataset_sha256=dataset_sha256,
        protocol=summary.protocol,
        decoding=summary.decoding,
        n=summary.n,
        k=summary.k,
        interval_low=interval.low,
        interval_high=interval.high,
        wall_s=summary.wall_s,
    )
