"""The `eval` command."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from analysis.journal.journal import Journal, read_run_info
from analysis.provenance import Named, check_label, run_info
from analysis.records import RunInfo
from evaluator.cli import command_options
from evaluator.cli.options import (
    EvalOptions,
    check_options,
    refuse_options_beside_resume,
    stored_options,
)
from evaluator.cli.sources import DEFAULT_MODEL, Source, open_source
from evaluator.cli.terminal import (
    check_json_path,
    one_line_errors,
    print_line,
    print_note,
    print_summary,
    progress_bar,
    write_json,
)
from evaluator.engines.api import ApiError
from evaluator.engines.ray_engine import EngineError
from evaluator.evaluation.evaluate import record
from evaluator.evaluation.label import tell_if_taken
from evaluator.models.named import check_adapter_folder, check_model_name
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError, ProblemSet
from evaluator.problems.prompt import (
    PROTOCOLS,
    asks_for_programs,
    asks_to_complete,
    check_protocol,
)
from evaluator.problems.user_code import read_template
from evaluator.results.stored import StoredError, StoredEval, read_evals
from evaluator.sampling.completions import CompletionsError
from sandbox.program import SandboxError

EVAL_ID = "final"
"""Name of the one evaluation in a run of this command."""


# Long because it lists every option of the help, in its order; the work is in `_evaluate`.
@click.command("eval")
@command_options.model(help=f"Folder or hub name of the base model.  [default: {DEFAULT_MODEL}]")
@command_options.adapter()
@click.option("--base-only", is_flag=True, help="Evaluate the base model, without any adapter.")
@click.option(
    "--api-base",
    metavar="URL",
    multiple=True,
    help="Sample from an OpenAI-compatible server that knows --model; key from OPENAI_API_KEY. Repeat it for "
    "several servers of the model.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray", "vllm"]),
    default="local",
    show_default=True,
    help="Where to sample: in this process, on the nodes of a Ray cluster, or with vLLM in this process.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="Head of the Ray cluster.  [default: RAY_ADDRESS, else only this machine]",
)
@click.option(
    "--completions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Grade recorded completions (JSON lines: task_id, completion) instead of sampling.",
)
@click.option("--gold", is_flag=True, help="Grade the reference solutions instead of sampling.")
@click.option("--label", help="Name of the result.  [default: from the run, model or file]")
@command_options.dataset()
@command_options.mbpp_dir()
@command_options.limit()
@command_options.visible_tests(
    help="Asserts that the prompt shows; grading uses all of them.  [default: all]"
)
@click.option(
    "--protocol",
    "protocol_name",
    type=click.Choice(list(PROTOCOLS)),
    help="Prompt form by name, instead of --visible-tests.  [default: mbpp, or human-eval for that data set]",
)
@command_options.max_new_tokens()
@command_options.n_samples(help="Completions of each problem; more than one needs --temperature.")
@command_options.temperature()
@click.option(
    "--top-p",
    type=command_options.FiniteRange(min=0.0, max=1.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Sample only from the most likely tokens that together have this probability, 0..1.",
)
@command_options.seed()
@command_options.batch_size()
@command_options.timeout_s()
@command_options.sandbox()
@command_options.loading
@click.option(
    "--allow-other-base",
    is_flag=True,
    help="Accept an adapter whose base model has another name or precision, as long as its shapes fit.",
)
@command_options.templates
@command_options.resume()
@click.option(
    "--skip-harness-check",
    is_flag=True,
    help="Score a model without first checking that references pass and empty answers fail.",
)
@command_options.runs_dir()
@command_options.json_path(help="Also write n, k, pass_at_1, interval and results to this file.")
def eval_command(**options: Any) -> None:
    """Measure pass@1 of a base model or adapter on the 257 MBPP test problems.

    \b
    Example:
      sdpo-bench eval --adapter runs/sdpo-42/adapter --label sdpo
      sdpo-bench eval --completions answers.jsonl --label recorded
      sdpo-bench eval --gold --dataset embedded/test
    """
    chosen = EvalOptions(**options)
    with one_line_errors():
        check_json_path(chosen.json_path)
        _check_runs_dir(chosen.runs_dir)
        earlier = None
        if chosen.resume is not None:
            refuse_options_beside_resume()
            earlier = _unfinished(chosen.runs_dir, chosen.resume)
            chosen = stored_options(chosen, earlier.info.config)
        elif chosen.label is not None:
            check_label(chosen.label)
        check_options(chosen)
        _check_names(chosen)
        _evaluate(chosen, earlier)


def _evaluate(options: EvalOptions, earlier: StoredEval | None) -> None:
    """Get the problems and the answers, grade, store and print."""
    problem_set = load_problems(
        options.dataset,
        mbpp_dir=options.mbpp_dir,
        # The limit of a completions file counts the problems that it holds.
        limit=options.limit if options.completions is None else None,
        sandbox=options.backend,
    )
    options = replace(
        options,
        whole_programs=asks_for_programs(problem_set.problems),
        completes=asks_to_complete(problem_set.problems),
    )
    if options.scores_a_model and options.protocol_name is not None:
        check_protocol(options.protocol, problem_set.problems)
    with contextlib.ExitStack() as stack:
        source = open_source(options, problem_set, earlier, stack)
        info = _describe(problem_set, source, options)
        if earlier is None:
            tell_if_taken(options.runs_dir, source.label, print_note)
        journal = stack.enter_context(_open_journal(options.runs_dir, info, earlier))
        advance = stack.enter_context(progress_bar(f"eval {source.label}", source.n))
        if source.policy is not None:
            source.policy.told = advance.sampled
        try:
            summary = record(
                problem_set,
                source.batches,
                journal=journal,
                eval_id=EVAL_ID,
                label=source.label,
                protocol=source.protocol,
                decoding=source.decoding,
                progress=advance,
            )
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(_goes_on(journal, options)) from stop
        except (ApiError, EngineError, SandboxError):
            print_note(f"what was graded before is kept: {_goes_on(journal, options)}")
            raise
    print_summary(summary, n_in_dataset=len(problem_set.problems))
    print_line(f"Run: {journal.run_dir}")
    if options.json_path is not None:
        write_json(options.json_path, summary.to_json())


def _goes_on(journal: Journal, options: EvalOptions) -> str:
    """What to enter after an interruption."""
    folder = options.runs_dir
    where = "" if folder == Path("runs") else f" --runs-dir {shlex.quote(str(folder))}"
    return f"`sdpo-bench eval --resume {journal.run_dir.name}{where}` goes on"


def _describe(problem_set: ProblemSet, source: Source, options: EvalOptions) -> RunInfo:
    """The run as its run.json holds it."""
    parameters = {field.name: getattr(options, field.name) for field in fields(options)}
    facts = source.facts
    template = None
    if options.chat_template is not None:
        text = read_template(options.chat_template, option="chat_template")
        template = hashlib.sha256(text.encode()).hexdigest()
    return run_info(
        kind="eval",
        label=source.label,
        config={**parameters, **source.content},
        dataset=problem_set,
        protocol=Named(source.protocol, source.protocol_sha256),
        sandbox=facts.sandbox,
        seed=options.seed if options.scores_a_model else None,
        weights=facts.weights,
        device=dict(facts.placement) or None,
        own={"chat_template_sha256": template},
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
    if "regraded" in info.config:
        raise StoredError(
            f"a resumed run must have sampled its answers, got {name!r}, which grades those of another; "
            f"`sdpo-bench regrade {info.config['regraded']}` begins anew"
        )
    evals = read_evals(run_dir)
    if info.kind != "eval" or any(item.row is not None for item in evals):
        raise StoredError(
            f"a resumed run must be an unfinished evaluation, got {name!r}; start another"
        )
    return evals[0] if evals else StoredEval(info, run_dir, None, {})


def _check_names(options: EvalOptions) -> None:
    """Find out before the data set is fetched and torch imported that a file or folder is not there."""
    if options.completions is not None and not options.completions.is_file():
        raise CompletionsError(
            f"the completions file must be there, got {str(options.completions)!r}; correct its name"
        )
    if options.mbpp_dir is not None and not options.mbpp_dir.is_dir():
        raise DatasetError(
            f"--mbpp-dir must be a folder that is there, got {str(options.mbpp_dir)!r}; correct its name"
        )
    if options.adapter is not None:
        check_adapter_folder(options.adapter)
    if options.model is not None and not options.api_base:
        check_model_name(options.model)


def _check_runs_dir(runs_dir: Path) -> None:
    """Find out before any work is done that its rows could not be written."""
    existing = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise click.ClickException(
            f"the runs folder must be writable, got {str(runs_dir)!r}; name another by --runs-dir"
        )
