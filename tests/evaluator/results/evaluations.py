"""Evaluations as a run stores them."""

from pathlib import Path

from analysis.journal.journal import Journal
from analysis.provenance import Named, run_info
from analysis.records import Eval, EvalResult
from analysis.statistics.intervals import wilson

INFO = run_info(
    kind="eval",
    label="x",
    config={},
    dataset=Named("d", "d"),
    protocol=Named("mbpp", "p"),
    sandbox="fake",
)


def write_run(runs_dir, label, solved, n, *, finished=True, **changes):
    """Store an evaluation of n problems of which those in `solved` pass."""
    info = run_info(
        kind="eval",
        label=label,
        config={},
        dataset=Named("mbpp/sanitized/test", changes.pop("dataset_sha256", "d")),
        protocol=Named("mbpp", "p"),
        sandbox="fake",
    )
    if "run_id" in changes:
        info = info.model_copy(update={"run_id": changes.pop("run_id")})
    with Journal.create(Path(runs_dir), info) as journal:
        for task_id in range(n):
            journal.append(result("final", task_id, task_id in solved))
        if finished:
            journal.append(summary("final", label, len(solved), n, **changes))
    return info.run_id


def result(eval_id, task_id, passed, completion="x"):
    return EvalResult(
        eval_id=eval_id,
        task_id=task_id,
        sample_index=0,
        execution_id=f"{eval_id}/{task_id}",
        prompt="ask",
        completion=completion,
        code=None,
        outcome="passed" if passed else "no_code",
        passed=passed,
        n_passed=3 * passed,
        n_asserts=3,
        n_completion_tokens=1,
        truncated=False,
        feedback=None if passed else "said why",
    )


def summary(eval_id, label, k, n, **changes):
    low, high = wilson(k, n)
    row = Eval(
        eval_id=eval_id,
        step=None,
        label=label,
        dataset="mbpp/sanitized/test",
        protocol="mbpp",
        decoding="greedy, 256 tokens",
        n=n,
        k=k,
        interval_low=low,
        interval_high=high,
        wall_s=1.0,
    )
    return row.model_copy(update=changes)
