"""The `gap` command."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.words import percent
from evaluator.cli import command_options
from trainer.cli.one_line import one_line_errors

if TYPE_CHECKING:
    from analysis.journal.journal import Journal
    from evaluator.problems.mbpp import ProblemSet
    from evaluator.problems.prompt import Protocol
    from evaluator.sampling.model import Policy
    from trainer.experiments.gap import GapRow
    from trainer.options.own import Own

WORDS = {
    "nothing": "nothing",
    "peer": "a peer's solution",
    "reference": "the reference",
    "feedback": "its feedback",
    "wrong": "a wrong solution",
    "other": "another problem's",
}
"""What is shown, as a person reads it."""

_OF_THE_PLACE = {"resume", "runs_dir", "json_path", "backend", "device"}
"""Options that say where: a resumed run takes them from its own command line where they stand on it."""


@click.command("gap")
@command_options.model()
@command_options.adapter()
@click.option("--label", default="gap", show_default=True, help="Name of the run.")
@command_options.dataset(
    default="full/train", help="Problems to use, named as in `eval`; take those of the training."
)
@command_options.mbpp_dir()
@command_options.limit(type=command_options.Count(min=3), default=100)
@command_options.visible_tests(default="all")
@command_options.max_new_tokens()
@command_options.n_samples(
    type=command_options.Count(min=2), default=4, help="Sampled answers of each problem."
)
@command_options.temperature(
    type=command_options.FiniteRange(min=0.0, min_open=True),
    default=0.7,
    help="Sampling temperature; also divides the logits when answers are scored.",
)
@command_options.seed()
@command_options.batch_size(
    default=32,
    help="Completions sampled together; with --n-samples it decides which problems go together.",
)
@command_options.timeout_s()
@command_options.sandbox()
@command_options.loading
@command_options.templates
@click.option(
    "--feedback",
    metavar="MODULE:FUNCTION",
    help="Your own function instead of our feedback, as in `train`: module:function or file.py:function.",
)
@command_options.resume()
@command_options.runs_dir()
@command_options.json_path()
def gap(
    *, resume: str | None, runs_dir: Path, json_path: Path | None, **chosen: Any
) -> None:  # fmt: skip
    """Measure before any training what a model gains when its prompt shows more than the problem.

    The prompt shows in turn: one of the model's own correct answers, the reference, feedback, a wrong solution, and
    another problem's solution. Pass rates are of greedy answers. log p is the mean over the tokens of its own
    sampled answers, in nats. Each figure is the difference from showing nothing, paired by problem.

    \b
    Example:
      sdpo-bench gap --model Qwen/Qwen2.5-0.5B-Instruct --limit 100
      sdpo-bench gap --resume RUN
    """
    from analysis.provenance import check_label
    from evaluator.cli import terminal
    from evaluator.cli.options import refuse_options_beside_resume
    from evaluator.cli.terminal import check_json_path, print_line, write_json
    from evaluator.models.named import check_adapter_folder, check_model_name
    from evaluator.problems.user_code import load_function

    with terminal.one_line_errors():
        check_json_path(json_path)
        if resume is not None:
            of_the_place = refuse_options_beside_resume(_OF_THE_PLACE)
            chosen = _stored(runs_dir / resume, chosen, of_the_place)
        check_label(chosen["label"])
        if chosen["feedback"] is not None:
            load_function(chosen["feedback"], option="--feedback")
        if chosen["model"] is None and chosen["adapter"] is None:
            raise click.UsageError(
                "--model or --adapter must be given, or --resume RUN; see --help"
            )
        if chosen["model"] is not None:
            check_model_name(chosen["model"])
        if chosen["adapter"] is not None:
            check_adapter_folder(chosen["adapter"])
    with one_line_errors():  # imports torch: after all that can be refused without
        from trainer.experiments.gap import gap_rows

        run_dir = _measure(chosen, resume, runs_dir)
        rows = gap_rows(run_dir)
        _print(rows)
        print_line(f"Run: {run_dir}")
        if json_path is not None:
            write_json(json_path, {"run": run_dir.name, "rows": [_plain(row) for row in rows]})


def _measure(chosen: dict[str, Any], resume: str | None, runs_dir: Path) -> Path:
    """Load, ask, store; the run's folder."""
    from evaluator.cli.terminal import progress_bar
    from evaluator.evaluation.self_check import check_harness
    from evaluator.problems.mbpp import load_problems
    from evaluator.sampling.model import load_policy
    from sandbox.client import open_sandbox
    from trainer.experiments.gap import GapOptions, measure_gap
    from trainer.options.own import check_unchanged, load_parts
    from trainer.options.prompting import ask_plainly, form_of

    problems = load_problems(
        chosen["dataset"], sandbox=chosen["backend"], **_of(chosen, "mbpp_dir", "limit")
    )
    own = load_parts(
        problems.problems[0], feedback_name=chosen["feedback"], **_of(chosen, "chat_template")
    )
    if resume is not None:
        check_unchanged(runs_dir / resume, own)
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(open_sandbox(chosen["backend"]))
        check_harness(problems, sandbox, timeout_s=chosen["timeout_s"])
        loading = (
            "adapter",
            "device",
            "dtype",
            "load_in_4bit",
            "chat_template_kwargs",
            "chat_template",
        )
        policy = load_policy(chosen["model"], **_of(chosen, *loading))
        # a policy without a chat template in the few-shot form, as `eval` and `train` do
        plain = not policy.tokenizer.chat_template
        asked = _of(chosen, "visible_tests", "prompt_template", "mbpp_dir")
        form = form_of(problems, plain=plain, **asked)
        ask_plainly(policy.tokenizer, form)
        names = {field.name for field in fields(GapOptions)} & set(chosen)
        options = GapOptions(**_of(chosen, *names), form=form, said=own.feedback)
        journal = stack.enter_context(
            _journal(chosen, form.protocol, problems, policy, sandbox.name, own, resume, runs_dir)
        )
        advance = stack.enter_context(
            progress_bar(f"gap {chosen['label']}", len(problems.problems))
        )
        try:
            measure_gap(policy, problems.problems, sandbox, journal, options, progress=advance)
        except KeyboardInterrupt as stop:
            where = "" if runs_dir == Path("runs") else f" --runs-dir {runs_dir}"
            raise KeyboardInterrupt(
                f"`sdpo-bench gap --resume {journal.run_dir.name}{where}` goes on"
            ) from stop
        return journal.run_dir


def _of(chosen: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: chosen[name] for name in names}


def _journal(
    chosen: dict[str, Any],
    protocol: Protocol,
    problems: ProblemSet,
    policy: Policy,
    sandbox: str,
    own: Own,
    resume: str | None,
    runs_dir: Path,
) -> Journal:
    """A journal of a run of its own, or of the one that goes on."""
    from analysis.journal.journal import Journal, read_run_info
    from analysis.provenance import run_info, weights_of
    from trainer.options.own import check_same_problems, check_same_words

    if resume is not None:
        info = read_run_info(runs_dir / resume)
        check_same_problems(info, problems)
        check_same_words(info, protocol)
        return Journal.resume(runs_dir / resume)
    info = run_info(
        kind="eval",
        label=chosen["label"],
        config={"gap": chosen},
        seed=chosen["seed"],
        weights=weights_of(policy.name, policy.adapter),
        dataset=problems,
        protocol=protocol,
        sandbox=sandbox,
        device=policy.placement,
        own=own.recorded,
    )
    return Journal.create(runs_dir, info)


def _stored(run_dir: Path, chosen: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The options that a run was started with, but those that are given anew."""
    from analysis.journal.journal import StoreError, read_run_info

    stored = read_run_info(run_dir).config.get("gap")
    if stored is None:
        raise StoreError(
            f"--resume must name a run of `gap`, got {str(run_dir)!r}; see `sdpo-bench runs`"
        )
    paths = {
        name: Path(stored[name]) if stored.get(name) else None
        for name in ("adapter", "mbpp_dir", "chat_template", "prompt_template")
    }
    return {**chosen, **stored, **paths, **{name: chosen[name] for name in given if name in chosen}}


def _print(rows: list[GapRow]) -> None:
    """A table a measure, a row a thing that is shown."""
    from evaluator.cli.terminal import print_table
    from trainer.experiments.gap import MEASURES

    headings = {
        "pass_rate": "pass rate, greedy",
        "passing_logprob": "log p of its passing answers, nats a token",
        "failing_logprob": "log p of its failing answers, nats a token",
    }
    for measure in MEASURES:
        print_table(
            (headings[measure], "n", "nothing", "shown", "difference", "95 % interval"),
            [_cells(row) for row in rows if row.measure == measure],
        )


def _cells(row: GapRow) -> tuple[str, ...]:
    form = percent if row.measure == "pass_rate" else "{:.3f}".format
    signed = "{:+.1%}" if row.measure == "pass_rate" else "{:+.3f}"
    shown = row.shown != "nothing"
    return (
        WORDS[row.shown],
        str(row.n),
        form(row.nothing),
        form(row.value) if shown else "",
        signed.format(row.difference) if shown else "",
        " to ".join(map(signed.format, row.interval)) if row.interval else "",
    )


def _plain(row: GapRow) -> dict[str, Any]:
    interval = None if row.interval is None else list(row.interval)
    return {**vars(row), "difference": row.difference, "interval": interval}
