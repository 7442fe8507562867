"""The `eval` command."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from analysis.journal import Journal, read_run_info
from analysis.provenance import folder_sha256, run_info
from analysis.records import RunInfo
from evaluator.api import Api, sample_served
from evaluator.completions import Answer, gold_answers, read_completions
from evaluator.evaluate import grade_and_record, in_batches, sample_answers
from evaluator.harness import check_harness
from evaluator.mbpp import ProblemSet, load_problems
from evaluator.model import Decoding, load_policy
from evaluator.prompt import PROTOCOLS, Protocol, VisibleTests, load_shots, protocol_for
from evaluator.stored import StoredError, StoredEval, read_evals
from evaluator.terminal import (
    check_json_path,
    one_line_errors,
    print_line,
    print_summary,
    progress_bar,
    write_json,
)
from sandbox.client import Sandbox, open_sandbox

DEFAULT_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
EVAL_ID = "final"
"""Name of the one evaluation in a run of this command."""

_OF_THE_PLACE = {"resume", "runs_dir", "backend", "device", "batch_size", "json_path"}
"""Options that say where and how fast: a resumed run takes them from its own command line."""


@dataclass(frozen=True)
class EvalOptions:
    """The command's options; their help says what each means."""

    model: str | None
    adapter: Path | None
    base_only: bool
    api_base: str | None
    completions: Path | None
    gold: bool
    label: str | None
    dataset: str
    mbpp_dir: Path | None
    limit: int | None
    visible_tests: VisibleTests | None
    protocol_name: str | None
    max_new_tokens: int
    n_samples: int
    temperature: float
    top_p: float
    seed: int
    batch_size: int
    timeout_s: float
    backend: str
    device: str
    dtype: str
    load_in_4bit: bool
    allow_other_base: bool
    resume: str | None
    skip_harness_check: bool
    runs_dir: Path
    json_path: Path | None

    @property
    def protocol(self) -> Protocol:
        """The prompt form that is asked for."""
        if self.protocol_name is not None:
            return PROTOCOLS[self.protocol_name]
        return protocol_for(self.visible_tests or "all")

    @property
    def decoding(self) -> Decoding:
        """How completions are sampled."""
        return Decoding(
            self.max_new_tokens, self.temperature, self.top_p, self.n_samples, self.seed
        )


@click.command("eval")
@click.option("--model", help=f"Folder or hub name of the base model.  [default: {DEFAULT_MODEL}]")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a LoRA adapter; its own base model is used unless --model names one.",
)
@click.option("--base-only", is_flag=True, help="Evaluate the base model, without any adapter.")
@click.option(
    "--api-base",
    metavar="URL",
    help="Sample from an OpenAI-compatible server that knows --model; key from OPENAI_API_KEY.",
)
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
    help="Time limit of each program, in seconds; waiting for a processor does not count.",
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
    "--resume",
    metavar="RUN",
    help="Go on with an interrupted run, with its own options, where it stopped.",
)
@click.option(
    "--skip-harness-check",
    is_flag=True,
    help="Score a model without first checking that references pass and empty answers fail.",
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
def eval_command(**options: Any) -> None:  # noqa: ANN401 - click's values, see EvalOptions
    """Measure pass@1 of a base model or adapter on the 257 MBPP test problems.

    \b
    Example:
      sdpo-bench eval --adapter runs/sdpo-42/adapter --label sdpo
      sdpo-bench eval --completions answers.jsonl --label recorded
      sdpo-bench eval --gold --dataset embedded/test
    """  # noqa: D301 - \b is click's mark for text that must not be wrapped
    chosen = EvalOptions(**options)
    with one_line_errors():
        check_json_path(chosen.json_path)
        _check_runs_dir(chosen.runs_dir)
        earlier = None
        if chosen.resume is not None:
            _refuse_options_beside_resume()
            earlier = _unfinished(chosen.runs_dir, chosen.resume)
            chosen = _stored_options(chosen, earlier.info.config)
        _check_options(chosen)
        _evaluate(chosen, earlier)


def _evaluate(options: EvalOptions, earlier: StoredEval | None) -> None:
    """Get the problems and the answers, grade, store and print."""
    problem_set = load_problems(
        options.dataset,
        mbpp_dir=options.mbpp_dir,
        # The limit of a completions file counts the problems that it holds.
        limit=options.limit if options.completions is None else None,
    )
    with open_sandbox(options.backend) as sandbox:
        if options.completions is not None:
            answers = _recorded(options.completions, problem_set, options)
        elif options.gold:
            answers = _gold(problem_set, options)
        else:
            if not options.skip_harness_check:
                check_harness(problem_set, sandbox, timeout_s=options.timeout_s)
            answers = _sampled(problem_set, options, earlier)
        info = _describe(problem_set, answers, sandbox, options)
        with (
            _open_journal(options.runs_dir, info, earlier) as journal,
            progress_bar(f"eval {answers.label}", answers.n) as advance,
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
                timeout_s=options.timeout_s,
                progress=advance,
            )
    print_summary(summary, n_in_dataset=len(problem_set.problems))
    print_line(f"Run: {journal.run_dir}")
    if options.json_path is not None:
        write_json(options.json_path, summary.to_json())


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
    content: Mapping[str, object]
    """What else identifies the source: goes into the stored configuration."""
    model: str | None = None
    model_sha256: str | None = None
    adapter: str | None = None
    placement: Mapping[str, str] | None = None
    """Device and number format of the weights, where they are here."""


def _recorded(path: Path, problem_set: ProblemSet, options: EvalOptions) -> _Answers:
    """Answers of a completions file, of its first `limit` problems."""
    answers = read_completions(path, problem_set)
    task_ids = list(dict.fromkeys(answer.problem.task_id for answer in answers))
    chosen = set(task_ids[: options.limit])
    answers = [answer for answer in answers if answer.problem.task_id in chosen]
    return _Answers(
        label=options.label or path.stem,
        protocol="recorded",
        protocol_sha256=hashlib.sha256(b"recorded").hexdigest(),
        decoding="recorded",
        n=len(answers),
        batches=in_batches(answers),
        content={"completions_sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
    )


def _gold(problem_set: ProblemSet, options: EvalOptions) -> _Answers:
    """The reference solutions as answers."""
    answers = gold_answers(problem_set.problems)
    return _Answers(
        label=options.label or "gold",
        protocol="gold",
        protocol_sha256=hashlib.sha256(b"gold").hexdigest(),
        decoding="none",
        n=len(answers),
        batches=in_batches(answers),
        content={},
    )


def _sampled(problem_set: ProblemSet, options: EvalOptions, earlier: StoredEval | None) -> _Answers:
    """Answers that a policy will write, after those that an interrupted run already has."""
    done = _earlier_answers(problem_set, earlier) if earlier is not None else []
    if options.api_base is not None:
        return _served(problem_set, options, done)
    protocol, decoding = options.protocol, options.decoding
    shots = load_shots(protocol, mbpp_dir=options.mbpp_dir)
    nothing_named = options.model is None and options.adapter is None
    policy = load_policy(
        DEFAULT_MODEL if nothing_named else options.model,
        adapter=options.adapter,
        device=options.device,
        dtype=options.dtype,
        load_in_4bit=options.load_in_4bit,
        allow_other_base=options.allow_other_base,
    )
    still_to_sample = sample_answers(
        problem_set.problems,
        policy,
        protocol=protocol,
        shots=shots,
        decoding=decoding,
        batch_size=options.batch_size,
        done=_keys(done),
    )
    folder = Path(policy.name)
    return _Answers(
        label=options.label or Path(policy.adapter or policy.name).name,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        decoding=decoding.name,
        n=len(problem_set.problems) * decoding.n_samples,
        batches=chain(in_batches(done), still_to_sample),
        content={"templates": dict(protocol.templates)},
        model=policy.name,
        model_sha256=folder_sha256(folder) if folder.is_dir() else None,
        adapter=policy.adapter,
        placement=policy.placement,
    )


def _served(problem_set: ProblemSet, options: EvalOptions, done: list[Answer]) -> _Answers:
    """Answers that a served model will write, after those that are already there."""
    protocol, decoding = options.protocol, options.decoding
    if options.model is None or options.api_base is None:
        raise click.UsageError(
            "--api-base must stand with --model, got no model; name it as the server does"
        )
    still_to_sample = sample_served(
        problem_set.problems,
        Api(options.api_base, options.model, key=os.environ.get("OPENAI_API_KEY")),
        protocol=protocol,
        shots=load_shots(protocol, mbpp_dir=options.mbpp_dir),
        decoding=decoding,
        n_at_once=options.batch_size,
        done=_keys(done),
    )
    return _Answers(
        label=options.label or options.model.rsplit("/", 1)[-1],
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        decoding=decoding.name,
        n=len(problem_set.problems) * decoding.n_samples,
        batches=chain(in_batches(done), still_to_sample),
        content={"templates": dict(protocol.templates)},
        model=options.model,
    )


def _keys(answers: Sequence[Answer]) -> set[tuple[int, int]]:
    """Task id and sample index of each answer."""
    return {(answer.problem.task_id, answer.sample_index) for answer in answers}


def _earlier_answers(problem_set: ProblemSet, earlier: StoredEval) -> list[Answer]:
    """Answers of an interrupted run; they are graded again, which is cheaper than to trust them."""
    by_id = {problem.task_id: problem for problem in problem_set.problems}
    return [
        Answer(
            problem=by_id[row.task_id],
            completion=row.completion,
            sample_index=row.sample_index,
            prompt=row.prompt,
            n_tokens=row.n_completion_tokens,
            truncated=row.truncated,
        )
        for row in earlier.results.values()
    ]


def _describe(
    problem_set: ProblemSet, answers: _Answers, sandbox: Sandbox, options: EvalOptions
) -> RunInfo:
    """The run as its run.json holds it."""
    parameters = {field.name: getattr(options, field.name) for field in fields(options)}
    return run_info(
        kind="eval",
        label=answers.label,
        config={**parameters, **answers.content},
        dataset=problem_set.name,
        dataset_sha256=problem_set.sha256,
        protocol=answers.protocol,
        protocol_sha256=answers.protocol_sha256,
        sandbox=sandbox.name,
        seed=options.seed if answers.model is not None else None,
        model=answers.model,
        model_sha256=answers.model_sha256,
        adapter=answers.adapter,
        device=answers.placement,
    )


def _open_journal(runs_dir: Path, info: RunInfo, earlier: StoredEval | None) -> Journal:
    """Create the run, or go on with the interrupted one if it is still the same evaluation."""
    if earlier is None:
        return Journal.create(runs_dir, info)
    for name in ("dataset_sha256", "protocol_sha256", "model_sha256"):
        before, now = getattr(earlier.info, name), getattr(info, name)
        if before != now:
            raise StoredError(
                f"a resumed run must have the {name} it began with, got {now!r} for {before!r}; "
                "start a run of its own"
            )
    return Journal.resume(earlier.run_dir)


def _unfinished(runs_dir: Path, name: str) -> StoredEval:
    """The interrupted evaluation of a run."""
    run_dir = runs_dir / name
    info = read_run_info(run_dir)
    evals = read_evals(run_dir)
    if info.kind != "eval" or any(item.row is not None for item in evals):
        raise StoredError(
            f"a resumed run must be an unfinished evaluation, got {name!r}; start another"
        )
    return evals[0] if evals else StoredEval(info, run_dir, None, {})


def _stored_options(given: EvalOptions, config: Mapping[str, Any]) -> EvalOptions:
    """The options that a run began with, in the place that this command line names."""
    stored = {
        field.name: config[field.name]
        for field in fields(EvalOptions)
        if field.name in config and field.name not in _OF_THE_PLACE
    }
    for name in ("adapter", "completions", "mbpp_dir"):
        if stored.get(name) is not None:
            stored[name] = Path(stored[name])
    return replace(given, **stored)


def _refuse_options_beside_resume() -> None:
    """A resumed run has its own options."""
    context = click.get_current_context()
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _OF_THE_PLACE and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--resume must stand with options of place and speed only, got {name!r} as well; "
                "leave it out, the run has its own"
            )


def _check_options(options: EvalOptions) -> None:
    """Refuse options that contradict each other."""
    recorded = {"--gold": options.gold, "--completions": options.completions}
    sampling = {
        "--model": options.model,
        "--adapter": options.adapter,
        "--base-only": options.base_only,
        "--api-base": options.api_base,
    }
    given = [name for name, value in recorded.items() if value]
    if len(given) > 1 or (given and any(sampling.values())):
        given += [name for name, value in sampling.items() if value]
        names = " and ".join(given)
        raise click.UsageError(f"answers must have one source, got {names}; leave one out")
    if options.api_base is not None and options.adapter is not None:
        raise click.UsageError(
            "--api-base must stand without --adapter, got both; serve the adapter under a name of "
            "its own and give that as --model"
        )
    if options.adapter is not None and options.base_only:
        raise click.UsageError(
            "--base-only must stand without an adapter, got --adapter as well; leave one out"
        )
    if options.visible_tests is not None and options.protocol_name is not None:
        raise click.UsageError(
            "the prompt form must be named once, got --protocol and --visible-tests; leave one out"
        )
    if options.n_samples > 1 and options.temperature == 0.0:
        raise click.UsageError(
            "several samples must be drawn at a temperature above 0, got --temperature 0 with "
            f"--n-samples {options.n_samples}; greedy ones would all be the same"
        )


def _check_runs_dir(runs_dir: Path) -> None:
    """Find out before any work is done that its rows could not be written."""
    existing = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise click.ClickException(
            f"the runs folder must be writable, got {str(runs_dir)!r}; name another by --runs-dir"
        )
