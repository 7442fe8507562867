"""A graded completion as journal rows: what its execution cost, and the verdict on each assert."""

from __future__ import annotations

from analysis.records import ExecutionRow, Record, TestResult
from evaluator.grade import Grade


def execution_rows(grade: Grade, *, execution_id: str) -> list[Record]:
    """The rows of one execution: what it cost, and the verdict on each assert."""
    execution = grade.execution
    cost = ExecutionRow(
        execution_id=execution_id,
        cpu_ms=execution.cpu_ms,
        wall_ms=execution.wall_ms,
        peak_memory_bytes=execution.peak_memory_bytes,
        output_tail=execution.output_tail,
        output_truncated=execution.output_truncated,
    )
    results = [
        TestResult(
            execution_id=execution_id,
            assert_index=index,
            assertion=result.assertion,
            verdict=result.verdict.value,
            trusted=result.trusted,
            exception=result.exception,
            message=result.message,
            line=result.line,
            expected=result.expected,
            got=result.got,
        )
        for index, result in enumerate(execution.results)
    ]
    return [cost, *results]
