"""The `reproduce` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.cli import command_options
from trainer.cli.seeds import seeds_option

if TYPE_CHECKING:
    from trainer.experiments.reproduce import Stage


_SET_HERE = {
    "model_name_or_path": "--model",
    "seed": "--seeds",
    "max_steps": "--steps",
    "runs_dir": "--runs-dir",
    "label": "the labels that it gives",
}
"""Options that the command sets for each of its runs, and what a person gives in their place."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@command_options.model(default="Qwen/Qwen2.5-0.5B-Instruct")
@seeds_option(default="42,43,44", help="Seeds of training.")
@click.option(
    "--steps",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="Optimizer steps of a run.",
)
@click.option(
    "--configs", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with grpo.yaml, sdpo.yaml and hybrid.yaml.  [default: configs, else the shipped ones]",
)  # fmt: skip
@command_options.runs_dir()
@click.option(
    "--eval-option",
    "eval_options",
    multiple=True,
    help="One more word for the baseline's `eval` command; may be repeated.",
)
@click.option(
    "--plan", is_flag=True, help="Print what would run and how long it takes; run nothing."
)
@click.option(
    "--gpu-check", type=click.Path(path_type=Path), default=Path("results/gpu_check.json"),
    show_default=True, help="Where `make gpu-check` wrote the time of a step.",
)  # fmt: skip
@click.pass_context
def reproduce(
    ctx: click.Context,
    *,
    model: str,
    seeds: tuple[int, ...],
    steps: int,
    configs: Path | None,
    runs_dir: Path,
    eval_options: tuple[str, ...],
    plan: bool,
    gpu_check: Path,
) -> None:
    """Run the whole benchmark: baseline, GRPO, SDPO and hybrid with each seed, an audit, comparison, report.

    After an interruption, give the same command again: it keeps finished stages and continues the others.
    Further options (`--num_generations 8`) go to every training run.

    \b
    Example:  sdpo-bench reproduce --plan
              sdpo-bench reproduce --model models/qwen --seeds 42,43
    """
    from trainer.experiments import reproduce as stages
    from trainer.options import early, shipped

    if configs is None:
        configs = Path("configs") if Path("configs/sdpo.yaml").is_file() else shipped.folder()
    for method in stages.METHODS:
        file = configs / f"{method}.yaml"
        early.check_experiment(file, ctx.args, model=model, set_otherwise=_SET_HERE)
    todo = stages.stages(
        model=model, seeds=seeds, steps=steps, configs=configs,
        overrides=ctx.args, eval_options=eval_options,
    )  # fmt: skip
    try:
        if plan:
            known = stages.known_runs(runs_dir)
            stages.check_same(todo, known)
            step_s = stages.measured_step_s(gpu_check)
            click.echo("\n".join(stages.plan_lines(todo, step_s=step_s, known=known)))
            return
        stages.run_all(todo, runs_dir=runs_dir, execute=stages.execute_here, say=click.echo)
        _finish(todo, runs_dir)
    except stages.StageFailed as error:
        raise click.ClickException(str(error)) from error


def _finish(todo: Sequence[Stage], runs_dir: Path) -> None:
    """Compare, put ours beside the published figures, write the report."""
    from trainer.experiments import reproduce as stages

    stages.execute_here([*stages.comparison(todo), "--runs-dir", str(runs_dir)])
    # the commands that read refuse a results file of an earlier version; this one builds it anew
    if stages.execute_here(["ingest", "--runs-dir", str(runs_dir)]):
        raise click.ClickException(
            "the results must be readable, got an error of `sdpo-bench ingest` above; every run is done: "
            "mend it and give this command again"
        )
    query = "FROM leaderboard WHERE label LIKE 'reproduce-%' ORDER BY algorithm, seed"
    for line in stages.published_table(stages.asked(query, runs_dir)):
        click.echo(line)
    stages.execute_here(["report", "--runs-dir", str(runs_dir)])
