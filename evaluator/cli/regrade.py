"""The `regrade` command: the answers of finished evaluations, graded once more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from analysis.journal.journal import Journal
from analysis.provenance import Named, Weights, check_label, run_info
from analysis.records import RunInfo
from analysis.shell_completion import run_names
from analysis.statistics.conditions import SAMPLING_PACKAGES
from evaluator.cli import command_options
from evaluator.cli.sources import stored_answers
from evaluator.cli.terminal import one_line_errors, print_line, print_note, progress_bar
from evaluator.engines.worker import Work, Worker
from evaluator.evaluation.evaluate import record
from evaluator.evaluation.label import tell_if_taken
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError, ProblemSet
from evaluator.results.stored import StoredError, StoredEval, find_evals
from evaluator.results.summary import EvalSummary
from sandbox.client import Sandbox, open_sandbox


@click.command("regrade")
@click.argument("names", nargs=-1, required=True, shell_complete=run_names)
@click.option(
    "--suffix",
    default="-regraded",
    show_default=True,
    help="Suffix that the new label adds to the old one.",
)
@command_options.timeout_s(
    default=None, help="Time limit of each program in seconds.  [default: that of the evaluation]"
)
@command_options.mbpp_dir()
@command_options.sandbox()
@command_options.runs_dir()
def regrade_command(
    names: tuple[str, ...],
    *,
    suffix: str,
    timeout_s: float | None,
    mbpp_dir: Path | None,
    backend: str,
    runs_dir: Path,
) -> None:
    """Grade the answers of finished evaluations again, and store the result as a new run.

    Evaluations that were graded by different sandboxes, or with different time limits, cannot be compared.
    After grading both in the same way, they can. Nothing is sampled and no model is loaded.

    \b
    Example:
      sdpo-bench regrade grpo sdpo --sandbox docker
      sdpo-bench compare grpo-regraded sdpo-regraded
    """
    with one_line_errors(), contextlib.ExitStack() as stack:
        named = [item for name in names for item in find_evals(runs_dir, name, say=print_note)]
        found = list({item.name: item for item in named}.values())
        for item in found:
            _check(item, suffix)
        sets = [_problems(item, mbpp_dir, backend) for item in found]
        sandbox = stack.enter_context(open_sandbox(backend))
        for item, problem_set in zip(found, sets, strict=True):
            _regrade(item, problem_set, sandbox, suffix=suffix, timeout_s=timeout_s)


def _check(item: StoredEval, suffix: str) -> None:
    """Refuse what cannot be graded again, before anything is."""
    if item.info.kind != "eval":
        raise StoredError(
            f"what is graded again must be a run of `sdpo-bench eval`, got {item.name!r} of a training run; "
            "evaluate its adapter first"
        )
    check_label(item.label + suffix)


def _problems(item: StoredEval, mbpp_dir: Path | None, backend: str) -> ProblemSet:
    """The problems that an evaluation asked.

    Raises:
        DatasetError: they are not to be had, or have changed since.
    """
    config = item.info.config
    stored = config.get("mbpp_dir")
    folder = mbpp_dir or (Path(stored) if stored else None)
    limit = None if config.get("completions") else config.get("limit")
    name = str(config.get("dataset", item.info.dataset))
    problem_set = load_problems(name, mbpp_dir=folder, limit=limit, sandbox=backend)
    if problem_set.sha256 != item.info.dataset_sha256:
        raise DatasetError(
            f"the problems must be those that {item.name} asked (sha256 {item.info.dataset_sha256[:12]}), got "
            f"{problem_set.name} of sha256 {problem_set.sha256[:12]}; bring back that version, or evaluate anew"
        )
    return problem_set


def _regrade(
    item: StoredEval,
    problem_set: ProblemSet,
    sandbox: Sandbox,
    *,
    suffix: str,
    timeout_s: float | None,
) -> None:
    limit_s = float(timeout_s or item.info.config.get("timeout_s") or 5.0)
    answers = tuple(stored_answers(problem_set, item))
    # References that fail are what an evaluation of them shows; others were checked unless told not to.
    unchecked = any(map(item.info.config.get, ("gold", "completions", "skip_harness_check")))
    work = Work(problem_set, answers, timeout_s=limit_s, check=not unchecked)
    worker = Worker(work, sandbox)
    info = _describe(item, problem_set, sandbox.name, limit_s, suffix)
    tell_if_taken(item.run_dir.parent, info.label, print_note, option="--suffix")
    assert item.row is not None  # noqa: S101 - find_evals returns finished ones
    with (
        Journal.create(item.run_dir.parent, info) as journal,
        progress_bar(f"regrade {info.label}", len(answers)) as advance,
    ):
        summary = record(
            problem_set,
            worker.batches(),
            journal=journal,
            eval_id=item.row.eval_id,
            label=info.label,
            protocol=item.row.protocol,
            decoding=item.row.decoding,
            progress=advance,
        )
    for line in _said(item, summary):
        print_line(line)
    print_line(f"Run: {journal.run_dir}")


def _describe(
    item: StoredEval, problem_set: ProblemSet, sandbox: str, timeout_s: float, suffix: str
) -> RunInfo:
    """The run: graded by the code and the machine of now, with answers that were sampled before."""
    old = item.info
    label = item.label + suffix
    config = {**old.config, "label": label, "timeout_s": timeout_s, "regraded": item.name}
    config.setdefault("sampled", _sampled(old))
    weights = None if old.model is None else Weights(old.model, old.model_sha256, old.adapter)
    told = old.hardware.items()
    placement = {name: value for name, value in told if name in ("device", "dtype")}
    info = run_info(
        kind="eval",
        label=label,
        config=config,
        dataset=problem_set,
        protocol=Named(old.protocol, old.protocol_sha256),
        sandbox=sandbox,
        seed=old.seed,
        weights=weights,
        device=placement,
        own={"chat_template_sha256": old.chat_template_sha256},
    )
    return info.model_copy(update={"parent_run_id": old.parent_run_id})


def _sampled(info: RunInfo) -> Mapping[str, Any]:
    """What the answers were drawn by, which later grading does not change."""
    packages = {name: info.packages[name] for name in SAMPLING_PACKAGES if name in info.packages}
    return {
        "run_id": info.run_id,
        "created_at": info.created_at,
        "code_version": info.code_version,
        "packages": packages,
    }


def _said(item: StoredEval, summary: EvalSummary) -> Iterator[str]:
    """How many answers pass, and whose verdict is another than before."""
    before = {key: row.passed for key, row in item.results.items()}
    now = {
        (each.answer.problem.task_id, each.answer.sample_index): each.grade.passed
        for each in summary.graded
    }
    changed = sorted(str(task) for (task, _), passed in now.items() if passed != before[task, _])
    yield f"{summary.label}: {sum(now.values())} of {len(now)} answers pass, before {sum(before.values())}"
    if changed:
        more = f" and {len(changed) - 10} more" if len(changed) > 10 else ""
        yield f"Another verdict than before: task {', '.join(changed[:10])}{more}"
