"""Commands that train, and the one that checks the loss against recorded cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("algorithm", type=click.Choice(["grpo", "sdpo", "hybrid", "audit"]), required=False)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file of the experiment; configs/ holds those of the benchmark.",
)
@click.option(
    "--resume",
    "run_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of an interrupted run: go on from its last whole checkpoint, with its own options.",
)
@click.option("--options", is_flag=True, help="List every option of the file and the command line.")
@click.pass_context
def train(
    ctx: click.Context,
    algorithm: str | None,
    config: Path | None,
    run_dir: Path | None,
    *,
    options: bool,
) -> None:
    """Train a policy with GRPO, SDPO or their mixture, or audit an SDPO run.

    An audit derives every stage of an SDPO run a second time and compares; exit status 1 where a
    layer finds a deviation over its threshold.

    Further options (`--max_steps 3`) set any option of the configuration, TRL's included.

    \b
    Example:  sdpo-bench train sdpo --config configs/smoke-cpu.yaml --max_steps 3
    """  # noqa: D301 - \b is click's mark for a paragraph that is not re-wrapped
    from trainer.config import ConfigError, parse_options, print_options

    if options:
        print_options()
        return
    if run_dir is not None and (algorithm or config or ctx.args):
        raise click.UsageError("--resume must stand alone: a run goes on with its own options")
    if run_dir is None and (algorithm is None or config is None):
        raise click.UsageError("an ALGORITHM and --config FILE must be given; see --help")
    user_errors: tuple[type[Exception], ...] = (ConfigError, *_user_errors())
    try:
        if run_dir is not None:
            result = _resume(run_dir)
        else:
            result = _train(str(algorithm), parse_options(Path(str(config)), ctx.args))
    except user_errors as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    for layer in result.layers:
        click.echo(
            f"{layer.name:12} {_word(layer.passed):5} largest deviation {layer.largest:.1e} "
            f"(threshold {layer.threshold:.0e}, {layer.n_checks} checks)"
        )
    click.echo(f"adapter: {result.adapter_dir}")
    click.echo('next:    sdpo-bench sql "from leaderboard"   or   sdpo-bench plots')
    if not all(layer.passed for layer in result.layers):
        raise SystemExit(1)


def _train(algorithm: str, options: Any) -> Any:  # noqa: ANN401
    from trainer.run import train as run

    return run(algorithm, options, say=click.echo)  # type: ignore[arg-type]  # click has checked it


def _resume(run_dir: Path) -> Any:  # noqa: ANN401
    from trainer.run import resume

    return resume(run_dir, say=click.echo)


def _user_errors() -> tuple[type[Exception], ...]:
    """What a user can mend: these are one line, everything else is a bug with its traceback."""
    from analysis.journal import StoreError
    from evaluator.mbpp import DatasetError
    from evaluator.model import ModelError
    from sandbox.program import SandboxError
    from trainer.callbacks import NonFiniteGradient

    return (StoreError, DatasetError, ModelError, SandboxError, NonFiniteGradient)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the table there too."
)
def verify(folder: Path, json_file: Path | None) -> None:
    """Check losses and teacher prompts against recorded cases of the reference.

    FOLDER holds manifest.json with npz files, and reprompt.json. Exit status 1 where any case is
    over its tolerance.

    \b
    Example:  sdpo-bench verify tests/golden/sdpo
    """  # noqa: D301
    from trainer.verify import check_losses, check_prompts

    try:
        losses, prompts = check_losses(folder), check_prompts(folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo("largest absolute deviation (tolerance)")
    for check in losses:
        click.echo(
            f"{check.case:32}loss {check.loss:.1e} ({check.loss_tolerance:.0e})  "
            f"token {check.per_token:.1e} ({check.per_token_tolerance:.0e})  "
            f"gradient {check.gradient:.1e} ({check.gradient_tolerance:.0e})  {_word(check.passed)}"
        )
    for scenario in prompts:
        click.echo(f"{scenario.case:32}{_word(scenario.passed)}")
    for scenario in prompts:
        if scenario.difference:
            click.echo(f"{scenario.case}: {scenario.difference}")
    passed = [check.passed for check in losses] + [scenario.passed for scenario in prompts]
    click.echo(f"{sum(passed)} of {len(passed)} cases agree")
    if json_file is not None:
        rows = [{**vars(c), "passed": c.passed} for c in losses]
        rows += [{**vars(s), "passed": s.passed} for s in prompts]
        json_file.write_text(json.dumps(rows, indent=1))
    if not all(passed):
        raise SystemExit(1)


def _word(passed: bool) -> str:
    return "ok" if passed else "FAIL"


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/demo"),
    show_default=True,
    help="Folder of the demo's policy and charts.",
)
@click.option(
    "--runs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that gets the runs' journals.  [default: DIR/runs]",
)
@click.option(
    "--sandbox",
    type=click.Choice(["auto", "docker", "process"]),
    default="auto",
    show_default=True,
    help="Where programs run; auto takes docker where an engine answers.",
)
@click.pass_context
def demo(ctx: click.Context, folder: Path, runs_dir: Path | None, sandbox: str) -> None:
    """Train a tiny policy with GRPO and SDPO on this machine, evaluate it and draw the charts.

    Needs no GPU and no download; further options set any option of configs/demo.yaml.

    \b
    Example:  sdpo-bench demo --max_steps 6
    """  # noqa: D301
    from rich.console import Console

    from trainer.config import ConfigError
    from trainer.demo import print_result, run_demo

    user_errors: tuple[type[Exception], ...] = (ConfigError, *_user_errors())
    try:
        result = run_demo(
            folder,
            sandbox=sandbox,
            runs_dir=runs_dir or folder / "runs",
            overrides=tuple(ctx.args),
            say=click.echo,
        )
    except user_errors as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    click.echo()
    print_result(result, Console())
