"""The `eval` command."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from analysis.journal import Journal, StoreError
from analysis.provenance import folder_sha256, run_info
from analysis.records import RunInfo
from evaluator.completions import Answer, CompletionsError, gold_answers, read_completions
from evaluator.evaluate import EvalSummary, grade_and_record, in_batches, sample_answers
from evaluator.mbpp import DatasetError, Problem, ProblemSet, load_problems
from evaluator.model import Decoding, ModelError, Policy, load_policy
from evaluator.prompt import PROTOCOLS, Protocol, load_shots, protocol_for
from evaluator.suspicion import suspicion
from sandbox.client import Sandbox, open_sandbox
from sandbox.program import SandboxError

DEFAULT_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
EVAL_ID = "final"
"""Name of the one evaluation in a run of this command."""


@click.command("eval")
@click.option("--model", help=f"Folder or hub name of the base model.  [default: {DEFAULT_MODEL}]")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a LoRA adapter; its own base model is used unless --model names one.",
)
@click.option("--base-only", is_flag=True, help="Evaluate the base model, without any adapter.")
@click.option(
    "--completions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Grade recorded completions (JSON lines: task_id, completion) instead of sampling.",
)
@click.option("--gold", is_flag=True, help="Grade the reference solutions instead of sampling.")
@click.option("--label", help="What to call the result.  [default: from the model or file]")
@click.option(
    "--dataset",
    default="sanitized/test",
    show_default=True,
    help="full/SPLIT, sanitized/SPLIT, embedded/SPLIT or a .jsonl file of problems.",
)
@click.option(
    "--mbpp-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with mbpp.jsonl and sanitized-mbpp.json.  [default: MBPP_DIR, else the hub]",
)
@click.option("--limit", type=int, help="Only that many problems, the lowest task ids first.")
@click.option(
    "--visible-tests",
    type=click.Choice(["all", "first", "none"]),
    help="Asserts that the prompt shows; grading uses all of them.  [default: all]",
)
@click.option(
    "--protocol",
    "protocol_name",
    type=click.Choice(list(PROTOCOLS)),
    help="Prompt form by name, in place of --visible-tests.  [default: mbpp]",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Length limit of a completion, in tokens.",
)
@click.option(
    "-n",
    "--n-samples",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Completions of each problem; more than one needs --temperature.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="Sampling temperature; 0 is greedy.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0.0, max=1.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of probability that sampling keeps, 0..1.",
)
@click.option("--seed", type=int, default=42, show_default=True, help="Seed of the sampling.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Completions sampled together.",
)
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0.0, min_open=True),
    default=5.0,
    show_default=True,
    help="Wall-clock limit of each program, in seconds.",
)
@click.option(
    "--sandbox",
    "backend",
    type=click.Choice(["auto", "docker", "process"]),
    default="auto",
    show_default=True,
    help="Where programs run; auto takes docker where an engine answers.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Number format of the weights; auto is bfloat16 on CUDA and float32 on a CPU.",
)
@click.option("--load-in-4bit", is_flag=True, help="Quantise the base model (CUDA only).")
@click.option(
    "--allow-other-base",
    is_flag=True,
    help="Accept an adapter whose base model has another name, as long as its shapes fit.",
)
@click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder that gets the run's journal.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write n, k, pass_at_1, interval and results to this file.",
)
def eval_command(
    model: str | None,
    adapter: Path | None,
    base_only: bool,
    completions: Path | None,
    gold: bool,
    label: str | None,
    dataset: str,
    mbpp_dir: Path | None,
    limit: int | None,
    visible_tests: Any,  # noqa: ANN401 - one of prompt.VisibleTests or None, as click checks
    protocol_name: str | None,
    max_new_tokens: int,
    n_samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    batch_size: int,
    timeout_s: float,
    backend: str,
    device: str,
    dtype: str,
    load_in_4bit: bool,
    allow_other_base: bool,
    runs_dir: Path,
    json_path: Path | None,
) -> None:
    """Measure pass@1 of a base model or adapter on the 257 MBPP test problems.

    \b
    Example:
      sdpo-bench eval --adapter runs/sdpo-42/adapter --label sdpo
      sdpo-bench eval --completions answers.jsonl --label recorded
      sdpo-bench eval --gold --dataset embedded/test
    """  # noqa: D301 - \b is click's mark for text that must not be wrapped
    _check_options(
        sampling={"--model": model, "--adapter": adapter, "--base-only": base_only},
        recorded={"--gold": gold, "--completions": completions},
        adapter_and_base_only=adapter is not None and base_only,
        protocol_twice=visible_tests is not None and protocol_name is not None,
        greedy_samples=n_samples > 1 and temperature == 0.0,
    )
    with _one_line_errors():
        _check_writable(runs_dir, json_path)
        problem_set = load_problems(
            dataset, mbpp_dir=mbpp_dir, limit=limit if completions is None else None
        )
        if completions is not None:
            answers = _recorded(completions, problem_set, label=label, limit=limit)
        elif gold:
            answers = _gold(problem_set, label=label)
        else:
            protocol = protocol_for(visible_tests or "all")
            if protocol_name is not None:
                protocol = PROTOCOLS[protocol_name]
            policy = load_policy(
                DEFAULT_MODEL if model is None and adapter is None else model,
                adapter=adapter,
                device=device,
                dtype=dtype,
                load_in_4bit=load_in_4bit,
                allow_other_base=allow_other_base,
            )
            answers = _sampled(
                problem_set,
                policy,
                label=label,
                protocol=protocol,
                shots=load_shots(protocol, mbpp_dir=mbpp_dir),
                decoding=Decoding(max_new_tokens, temperature, top_p, n_samples, seed),
                batch_size=batch_size,
            )
        with (
            open_sandbox(backend) as sandbox,
            Journal.create(runs_dir, _describe(problem_set, answers, sandbox)) as journal,
            _progress_bar(f"eval {answers.label}", answers.n) as advance,
        ):
            summary = grade_and_record(
                problem_set,
                answers.batches,
                sandbox,
                journal=journal,
                eval_id=EVAL_ID,
                label=answers.label,
                protocol=answers.protocol,
                decoding=answers.decoding,
                timeout_s=timeout_s,
                progress=advance,
            )
        _print_summary(summary, n_in_dataset=len(problem_set.problems))
        click.echo(f"Run: {journal.run_dir}")
        if json_path is not None:
            _write_json(json_path, summary.to_json())


@dataclass(frozen=True)
class _Answers:
    """Where the answers come from, in the terms that are stored."""

    label: str
    protocol: str
    protocol_sha256: str
    decoding: str
    n: int
    """Answers to come."""
    batches: Iterable[Sequence[Answer]]
    policy: Policy | None = None
    seed: int | None = None


def _recorded(
    path: Path, problem_set: ProblemSet, *, label: str | None, limit: int | None
) -> _Answers:
    """Answers of a completions file, of its first `limit` problems."""
    answers = read_completions(path, problem_set)
    chosen = set(list(dict.fromkeys(answer.problem.task_id for answer in answers))[:limit])
    answers = [answer for answer in answers if answer.problem.task_id in chosen]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return _Answers(
        label or path.stem, "recorded", sha256, "recorded", len(answers), in_batches(answers)
    )


def _gold(problem_set: ProblemSet, *, label: str | None) -> _Answers:
    """The reference solutions as answers."""
    answers = gold_answers(problem_set.problems)
    return _Answers(
        label or "gold", "gold", problem_set.sha256, "none", len(answers), in_batches(answers)
    )


def _sampled(
    problem_set: ProblemSet,
    policy: Policy,
    *,
    label: str | None,
    protocol: Protocol,
    shots: Sequence[Problem],
    decoding: Decoding,
    batch_size: int,
) -> _Answers:
    """Answers that a policy will write."""
    return _Answers(
        label=label or Path(policy.adapter or policy.name).name,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        decoding=decoding.name,
        n=len(problem_set.problems) * decoding.n_samples,
        batches=sample_answers(
            problem_set.problems,
            policy,
            protocol=protocol,
            shots=shots,
            decoding=decoding,
            batch_size=batch_size,
        ),
        policy=policy,
        seed=decoding.seed,
    )


def _describe(problem_set: ProblemSet, answers: _Answers, sandbox: Sandbox) -> RunInfo:
    """The run as its run.json holds it."""
    policy = answers.policy
    folder = Path(policy.name) if policy is not None else None
    return run_info(
        kind="eval",
        label=answers.label,
        config=click.get_current_context().params,
        dataset=problem_set.name,
        dataset_sha256=problem_set.sha256,
        protocol=answers.protocol,
        protocol_sha256=answers.protocol_sha256,
        sandbox=sandbox.name,
        seed=answers.seed,
        model=policy.name if policy is not None else None,
        model_sha256=folder_sha256(folder) if folder is not None and folder.is_dir() else None,
        adapter=policy.adapter if policy is not None else None,
    )


def _check_options(
    *,
    sampling: Mapping[str, object],
    recorded: Mapping[str, object],
    adapter_and_base_only: bool,
    protocol_twice: bool,
    greedy_samples: bool,
) -> None:
    """Refuse options that contradict each other."""
    given_recorded = [name for name, value in recorded.items() if value]
    given_sampling = [name for name, value in sampling.items() if value]
    if len(given_recorded) > 1 or (given_recorded and given_sampling):
        names = " and ".join((*given_recorded, *given_sampling))
        raise click.UsageError(f"answers must have one source, got {names}; leave one out")
    if adapter_and_base_only:
        raise click.UsageError(
            "--base-only must stand without an adapter, got --adapter as well; leave one out"
        )
    if protocol_twice:
        raise click.UsageError(
            "the prompt form must be named once, got --protocol and --visible-tests; leave one out"
        )
    if greedy_samples:
        raise click.UsageError(
            "several samples must be drawn at a temperature above 0, got --temperature 0 with "
            "--n-samples; greedy ones would all be the same"
        )


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn each boundary's error into one line and exit status 1; a bug stays a traceback."""
    try:
        yield
    except (DatasetError, CompletionsError, ModelError, SandboxError, StoreError) as error:
        raise click.ClickException(str(error)) from error


def _check_writable(runs_dir: Path, json_path: Path | None) -> None:
    """Find out before any work is done that its result could not be written."""
    if json_path is not None and not os.access(json_path.absolute().parent, os.W_OK):
        raise click.ClickException(
            f"--json must name a file in a folder that can be written, got {str(json_path)!r}; "
            "name another place"
        )
    existing = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise click.ClickException(
            f"the runs folder must be writable, got {str(runs_dir)!r}; name another by --runs-dir"
        )


@contextmanager
def _progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error, where a person is watching."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n: progress.advance(task, n)


def _print_summary(summary: EvalSummary, *, n_in_dataset: int) -> None:
    """Print the result, its failures, and what makes it doubtful."""
    table = Table(box=box.SIMPLE)
    for heading in ("label", "dataset", "protocol", "solved", "pass@1", "95 % interval"):
        table.add_column(heading)
    low, high = summary.interval
    cells = (
        summary.label,
        summary.dataset,
        summary.protocol,
        f"{summary.k}/{summary.n}",
        f"{summary.pass_at_1:.1%}",
        f"{low:.1%} to {high:.1%}",
    )
    table.add_row(*(Text(cell) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if summary.outcomes:
        classes = ", ".join(f"{name} {count}" for name, count in summary.outcomes.items())
        console.print(Text(f"Failures: {classes}"), soft_wrap=True)
    if summary.n_truncated:
        console.print(Text(f"Ended by the length limit: {summary.n_truncated}"))
    if summary.n < n_in_dataset:
        console.print(Text(f"{summary.n} of {n_in_dataset} problems have a completion."))
    doubt = suspicion(summary.failures)
    if doubt is not None:
        console.print(Text(f"Warning: {doubt.text}"), soft_wrap=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise click.ClickException(
            f"--json must name a file that can be written, got {str(path)!r} ({error.strerror}); "
            "the result is in the run's journal"
        ) from error
