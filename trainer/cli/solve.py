"""The `solve` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.shell_completion import run_names
from analysis.words import percent
from evaluator.cli import command_options
from trainer.cli.one_line import one_line_errors
from trainer.cli.seeds import seeds_option
from trainer.options.shipped import config_names

if TYPE_CHECKING:
    from analysis.task_ids import TaskId
    from trainer.experiments.discovery import Trials
    from trainer.experiments.solve import SolveResult


_SET_HERE = {
    "max_steps": "--budget",
    "gradient_accumulation_steps": "--budget and num_generations",
    "seed": "--seeds",
    "runs_dir": "--runs-dir",
    "label": "the labels that it gives",
}
"""Options that the command sets for each of its runs, and what a person gives in their place."""


# Long because it lists every option of the help, in its order.
@click.command("solve", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    shell_complete=config_names,
    help="Training configuration: the model, its sampling, SDPO's options.",
)
@click.option("--tasks", metavar="ID,ID,...", help="Task ids of the problems to try.")
@click.option(
    "--unsolved-by",
    metavar="RUN",
    shell_complete=run_names,
    help="Instead of --tasks: the problems that this evaluation did not solve (run id or label).",
)
@command_options.limit(type=command_options.Count(min=1), help="Only the first N of these tasks.")
@command_options.dataset(
    help="Data set of the tasks, as in `eval`; with --unsolved-by it must be that of the evaluation."
)
@click.option(
    "--budget",
    type=command_options.Count(min=1),
    default=64,
    show_default=True,
    help="Completions of each problem for each method; a multiple of num_generations.",
)
@click.option(
    "--turns",
    type=command_options.Count(min=1),
    default=8,
    show_default=True,
    help="Answers in one conversation of the multi-turn method.",
)
@seeds_option(default="42", help="Each method is run once with each seed.")
@click.option(
    "--methods",
    default="best-of-n,multi-turn,sdpo",
    show_default=True,
    metavar="NAME,NAME,...",
    help="Which methods to run.",
)
@command_options.runs_dir()
@command_options.json_path()
@click.pass_context
def solve(
    ctx: click.Context,
    /,
    *,
    config: Path,
    tasks: str | None,
    unsolved_by: str | None,
    limit: int | None,
    methods: str,
    json_path: Path | None,
    **chosen: Any,
) -> None:
    """Try to solve hard problems: SDPO on each problem alone, against best-of-n and multi-turn feedback.

    Every method gets the same number of completions of each problem. discovery@k is the chance that
    one of the first k passes, averaged over the problems. Any option of the configuration can follow:
    `--learning_rate 1e-4`.

    \b
    Example:
      sdpo-bench solve --config configs/smoke-cpu.yaml --tasks 56,98 --budget 16
      sdpo-bench solve --config configs/sdpo.yaml --unsolved-by baseline --budget 64
    """
    from evaluator.cli.terminal import check_json_path, write_json
    from trainer.options.early import check_experiment

    if (tasks is None) == (unsolved_by is None):
        raise click.UsageError(
            "the problems must be named by --tasks or by --unsolved-by, got "
            f"{'neither' if tasks is None else 'both'}"
        )
    config = check_experiment(config, ctx.args, set_otherwise=_SET_HERE)
    with one_line_errors():
        check_json_path(json_path)
        if tasks:
            task_ids = _task_ids(tasks)
        else:
            task_ids = _unsolved(chosen["runs_dir"], str(unsolved_by), chosen["dataset"])
    result = _solve(
        config=config,
        task_ids=task_ids[:limit],
        overrides=tuple(ctx.args),
        methods=tuple(name.strip() for name in methods.split(",")),
        **chosen,
    )
    _print(result)
    if json_path is not None:
        write_json(json_path, _figures(result))


def _solve(**options: Any) -> SolveResult:
    """Import torch, after all that can be refused without, and run the methods."""
    from trainer.experiments.solve import solve as run
    from trainer.experiments.solve_options import METHODS, SolveOptions

    chosen = SolveOptions(**options)
    unknown = set(chosen.methods) - set(METHODS)
    if unknown or len(set(chosen.methods)) < len(chosen.methods):
        raise click.UsageError(
            f"--methods must name each of {', '.join(METHODS)} at most once, got {','.join(chosen.methods)!r}"
        )
    with one_line_errors():
        return run(chosen, say=click.echo)


def _task_ids(text: str) -> tuple[TaskId, ...]:
    from analysis.task_ids import checked_task_id

    try:
        return tuple(dict.fromkeys(checked_task_id(part) for part in text.split(",")))
    except ValueError as error:
        raise click.UsageError(
            f"--tasks must be task ids joined by commas, got {text!r}; correct it"
        ) from error


def _unsolved(runs_dir: Path, name: str, dataset: str) -> tuple[TaskId, ...]:
    """Tasks of a stored evaluation that none of its completions solved."""
    from analysis.task_ids import task_order
    from evaluator.cli.terminal import print_note
    from evaluator.results.stored import StoredError, find_evals

    (item,) = find_evals(runs_dir, name, say=print_note)[-1:]
    evaluated = item.row.dataset.removeprefix("mbpp/") if item.row is not None else ""
    if evaluated not in (dataset.removeprefix("mbpp/"), f"file/{Path(dataset).name}"):
        raise StoredError(
            f"--unsolved-by must be an evaluation of {dataset}, got one of {evaluated}; name the "
            "right --dataset"
        )
    task_ids = {task_id for task_id, _ in item.results}
    solved = {task_id for (task_id, _), row in item.results.items() if row.passed}
    if task_ids == solved:
        raise StoredError(
            f"--unsolved-by must leave some problem unsolved, got {name!r} with all {len(solved)} "
            "solved; name others by --tasks"
        )
    return tuple(sorted(task_ids - solved, key=task_order))


def _figures(result: SolveResult) -> dict[str, Any]:
    from trainer.experiments.discovery import compare_trials, useful_k

    methods = {}
    for trials in result.trials:
        found = {k: trials.discovery(k) for k in useful_k(trials.budget)}
        at = {str(k): {"mean": mean, "interval": list(ends)} for k, (mean, ends) in found.items()}
        methods[trials.method] = {"n_found": trials.n_found, "discovery_at_k": at}
    same_name = ("first", "second", "gained", "lost", "p", "difference", "winner", "sentence")
    last = result.trials[-1]
    return {
        "n": len(last.task_ids),
        "task_ids": list(last.task_ids),
        "budget": last.budget,
        "methods": methods,
        "comparisons": [
            {
                **{name: getattr(finding, name) for name in same_name},
                "p_holm": finding.p_adjusted,
                "interval": list(finding.interval),
            }
            for finding in compare_trials([(other, last) for other in result.trials[:-1]])
        ],
        "run": str(result.run_dir),
    }


def _print(result: SolveResult) -> None:
    """A row a method, a column a k, and a sentence for each comparison with the last method."""
    from evaluator.cli.terminal import print_line, print_table
    from trainer.experiments.discovery import compare_trials, useful_k

    last = result.trials[-1]
    ks = useful_k(last.budget)
    print_table(
        ("method", "solved", *(f"discovery@{k}" for k in ks)),
        [_row(trials, ks) for trials in result.trials],
    )
    for found in compare_trials([(other, last) for other in result.trials[:-1]]):
        print_line(found.sentence + ".")
    print_line(f"Run: {result.run_dir}")


def _row(trials: Trials, ks: list[int]) -> tuple[str, ...]:
    cells = []
    for k in ks:
        mean, ends = trials.discovery(k)
        figures = (percent(each, decimals=0) for each in (mean, *ends))
        cells.append("{} ({}-{})".format(*figures))
    return (trials.method, f"{trials.n_found}/{len(trials.task_ids)}", *cells)
