"""The command that runs the demo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from evaluator.cli import command_options
from trainer.cli.one_line import one_line_errors
from trainer.cli.seeds import seeds_option

_SET_HERE = {
    "model_name_or_path": "`train`, for another policy than the demo's own",
    "dataset": "`train`, for other problems than the demo's own",
    "eval_dataset": "`train`, for other problems than the demo's own",
    "seed": "--seeds",
    "runs_dir": "--dir",
    "label": "the labels that it gives",
}
"""Options that the command sets for each of its runs, and what a person gives in their place."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument(
    "rest", metavar="[warm-start|control] [--any_option VALUE]...", nargs=-1, type=click.UNPROCESSED
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/demo"),
    show_default=True,
    help="Folder of the demo's policies, runs and reports.",
)
@command_options.sandbox()
@seeds_option(
    help="Training seeds; each method is trained once with each seed.  [default: 42,43,44; with --short 42]"
)
@click.option(
    "--short",
    is_flag=True,
    help="Run every stage in a minute or two, for CI; too little for any finding.",
)
def demo(
    rest: tuple[str, ...], folder: Path, backend: str, seeds: tuple[int, ...] | None, *, short: bool
) -> None:
    """Train a tiny policy of our own with GRPO, SDPO and both, and compare them on held-out problems.

    Needs no GPU and no download. `warm-start` only makes the policy. `control` starts from a policy that
    never learned to use a solution or feedback in its prompt. Run an interrupted demo again to continue it;
    remove the folder to start afresh. Any option of configs/demo.yaml can follow.

    \b
    Example:  sdpo-bench demo
              sdpo-bench demo control
              sdpo-bench demo --learning_rate 5e-4
    """
    from trainer.options import early, shipped

    part = rest[0] if rest and not rest[0].startswith("-") else None
    if part not in (None, "warm-start", "control"):
        raise click.UsageError(f"the part must be warm-start or control, got {part!r}")
    overrides = rest[part is not None :]
    file = shipped.folder() / "demo.yaml"
    early.check_experiment(file, overrides, needs_model=False, set_otherwise=_SET_HERE)
    try:
        with one_line_errors():
            _run(part, folder, backend, overrides, short=short, seeds=seeds)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("the same command goes on") from stop


def _run(
    part: str | None,
    folder: Path,
    backend: str,
    overrides: tuple[str, ...],
    *,
    short: bool,
    seeds: tuple[int, ...] | None,
) -> None:
    from evaluator.cli.terminal import console
    from sandbox.client import open_sandbox
    from trainer.demo.demo import FULL, SHORT, make_policy, make_room, run_demo
    from trainer.demo.display import Display
    from trainer.demo.narration import print_story

    out = console()
    show = Display(out)
    size = SHORT if short else FULL
    size = size if seeds is None else replace(size, seeds=seeds)
    if part == "warm-start":
        make_room(folder)
        with open_sandbox(backend) as sandbox:
            made = make_policy(folder, control=False, size=size, sandbox=sandbox, show=show)
        show.line(f"policy: {made}")
        return
    control = part == "control"
    finished = run_demo(
        folder, control=control, size=size, backend=backend, overrides=overrides, show=show
    )
    print_story(finished.story, out)
    show.line(f"report: {finished.report}")
    show.line(f"ask:    sdpo-bench runs --runs-dir {finished.runs_dir}")
