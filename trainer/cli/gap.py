"""The `gap` command."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evaluator.cli import command_options

if TYPE_CHECKING:
    from analysis.journal.journal import Journal
    from evaluator.problems.mbpp import ProblemSet
    from evaluator.sampling.model import Policy
    from trainer.experiments.gap import GapOptions, GapRow

WORDS = {
    "nothing": "nothing",
    "peer": "a peer's solution",
    "reference": "the reference",
    "feedback": "its feedback",
    "wrong": "a wrong solution",
    "other": "another problem's",
}
"""What is shown, as a person reads it."""


@click.command("gap")
@click.option("--model", help="Folder or hub name of the base model.")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a LoRA adapter on it.",
)
@click.option("--label", default="gap", show_default=True, help="What to call the run.")
@click.option(
    "--dataset",
    default="full/train",
    show_default=True,
    help="Problems to ask: those that training would show, as in `eval`.",
)
@command_options.MBPP_DIR
@click.option(
    "--limit",
    type=click.IntRange(min=3),
    default=100,
    show_default=True,
    help="Only that many problems, the lowest task ids first.",
)
@click.option(
    "--visible-tests",
    type=click.Choice(["all", "first", "none"]),
    default="all",
    show_default=True,
    help="Asserts that the prompt shows.",
)
@click.option(
    "-n",
    "--n-samples",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="Sampled answers of each problem.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0.0, min_open=True),
    default=0.7,
    show_default=True,
    help="Sampling temperature; also divides the logits where answers are read.",
)
@command_options.MAX_NEW_TOKENS
@command_options.batch_size(32, more="; with --n-samples it decides which problems go together")
@command_options.SEED
@command_options.TIMEOUT_S
@command_options.SANDBOX
@command_options.DEVICE
@command_options.DTYPE
@command_options.LOAD_IN_4BIT
@command_options.CHAT_TEMPLATE_KWARGS
@command_options.CHAT_TEMPLATE
@command_options.PROMPT_TEMPLATE
@command_options.RESUME
@command_options.RUNS_DIR
@command_options.json_path("Also write the figures to this file.")
def gap(
    *, resume: str | None, runs_dir: Path, json_path: Path | None, **chosen: Any
) -> None:  # fmt: skip
    """Measure before any training what a model gains when its prompt shows more than the problem.

    The model sees in turn: a correct answer of its own, the reference, feedback, a wrong solution, and
    another problem's solution. Pass rates are of greedy answers. log p is the mean over the tokens of its own
    sampled answers, in nats. Each figure is the difference from seeing nothing, paired by problem.

    \b
    Example:
      sdpo-bench gap --model Qwen/Qwen2.5-0.5B-Instruct --limit 100
      sdpo-bench gap --resume RUN
    """
    from analysis.provenance import check_label
    from evaluator.cli.terminal import check_json_path, one_line_errors, print_line, write_json
    from evaluator.models.named import check_adapter_folder, check_model_name

    with one_line_errors():
        check_json_path(json_path)
        if resume is not None:
            chosen = _stored(runs_dir / resume, chosen)
        check_label(chosen["label"])
        if chosen["model"] is None and chosen["adapter"] is None:
            raise click.UsageError(
                "--model or --adapter must be given, or --resume RUN; see --help"
            )
        if chosen["model"] is not None:
            check_model_name(chosen["model"])
        if chosen["adapter"] is not None:
            check_adapter_folder(chosen["adapter"])
        from trainer.experiments.gap import (
            gap_rows,  # imports torch: after all that can be refused without
        )

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

    names = {field.name for field in fields(GapOptions)}
    options = GapOptions(**{name: value for name, value in chosen.items() if name in names})
    problems = load_problems(
        chosen["dataset"],
        mbpp_dir=chosen["mbpp_dir"],
        limit=chosen["limit"],
        sandbox=chosen["backend"],
    )
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(open_sandbox(chosen["backend"]))
        check_harness(problems, sandbox, timeout_s=options.timeout_s)
        policy = load_policy(
            chosen["model"],
            adapter=chosen["adapter"],
            device=chosen["device"],
            dtype=chosen["dtype"],
            load_in_4bit=chosen["load_in_4bit"],
            chat_template_kwargs=chosen["chat_template_kwargs"],
            chat_template=chosen["chat_template"],
        )
        journal = stack.enter_context(
            _journal(chosen, options, problems, policy, sandbox.name, resume, runs_dir)
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


def _journal(
    chosen: dict[str, Any],
    options: GapOptions,
    problems: ProblemSet,
    policy: Policy,
    sandbox: str,
    resume: str | None,
    runs_dir: Path,
) -> Journal:
    """A journal of a run of its own, or of the one that goes on."""
    from analysis.journal.journal import Journal, StoreError, read_run_info
    from analysis.provenance import folder_sha256, run_info
    from trainer.teacher.shown import protocol_of

    if resume is not None:
        stored = read_run_info(runs_dir / resume).dataset_sha256
        if stored != problems.sha256:
            raise StoreError(
                f"a resumed run must ask the problems it began with, got others in {problems.name}; "
                "restore them"
            )
        return Journal.resume(runs_dir / resume)
    protocol = protocol_of(
        problems.problems, template=options.prompt_template, visible_tests=options.visible_tests
    )
    folder = Path(policy.name)
    info = run_info(
        kind="eval",
        label=chosen["label"],
        config={"gap": chosen},
        seed=options.seed,
        model=policy.name,
        model_sha256=folder_sha256(folder) if folder.is_dir() else None,
        adapter=policy.adapter,
        dataset=problems.name,
        dataset_sha256=problems.sha256,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        sandbox=sandbox,
        device=policy.placement,
    )
    return Journal.create(runs_dir, info)


def _stored(run_dir: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    """The options that a run was started with."""
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
    return {**chosen, **stored, **paths}


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
    """One row's cells."""
    form = "{:.1%}" if row.measure == "pass_rate" else "{:.3f}"
    signed = "{:+.1%}" if row.measure == "pass_rate" else "{:+.3f}"
    shown = row.shown != "nothing"
    return (
        WORDS[row.shown],
        str(row.n),
        form.format(row.nothing),
        form.format(row.value) if shown else "",
        signed.format(row.difference) if shown else "",
        " to ".join(map(signed.format, row.interval)) if row.interval else "",
    )


def _plain(row: GapRow) -> dict[str, Any]:
    """One row as JSON."""
    interval = None if row.interval is None else list(row.interval)
    return {**vars(row), "difference": row.difference, "interval": interval}
