"""Commands that train, and the one that checks the loss against recorded cases."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analysis.installation import own_command
from analysis.shell_completion import run_folders
from evaluator.cli import command_options
from trainer.endings import exit_codes
from trainer.endings.supervise import die_with_supervisor, needs_supervisor, supervise, tell
from trainer.options.early import check_experiment, check_run_folder
from trainer.options.shipped import config_names

if TYPE_CHECKING:
    from trainer.step.loss_trainer import BenchTrainer


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument(
    "algorithm",
    type=click.Choice(["grpo", "sdpo", "hybrid", "routed", "rlsd", "anchored", "sft", "audit"]),
    required=False,
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    shell_complete=config_names,
    help="YAML file of the experiment, or the name of a shipped one: sdpo, grpo, hybrid, smoke-cpu, ...",
)
@click.option(
    "--resume",
    "run_dir",
    type=click.Path(path_type=Path, file_okay=False),
    shell_complete=run_folders,
    help="Folder of an interrupted run: continue from its last whole checkpoint, with its own options.",
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
    """Train a policy with GRPO, SDPO, a mixture of both or a control; or audit an SDPO run.

    Training runs in a child process. SIGTERM or Ctrl-C saves the step in progress and exits with status 75;
    --resume continues from there. docs/training.md lists the exit statuses.

    An audit computes every stage of an SDPO run a second time and compares. It exits with status 1 if a
    deviation is above its threshold.

    Any option of the configuration, TRL's included, can follow: `--max_steps 3`.

    \b
    Example:  sdpo-bench train sdpo --config configs/smoke-cpu.yaml --max_steps 3
    """
    if run_dir is not None and (algorithm or config or ctx.args):
        raise click.UsageError("--resume must stand alone: a run goes on with its own options")
    if not options and run_dir is None and (algorithm is None or config is None):
        raise click.UsageError("an ALGORITHM and --config FILE must be given; see --help")
    if options:
        from trainer.options.listing import option_list

        click.echo(option_list(shutil.get_terminal_size((100, 24)).columns))
        return
    if run_dir is not None:
        check_run_folder(run_dir)
    elif config is not None:
        config = check_experiment(config, ctx.args)
    if needs_supervisor():
        words = ["--resume", str(run_dir)] if run_dir else [str(algorithm), "--config", str(config)]
        command = own_command("train", *words, *ctx.args)
        # over the line of the step's progress, which its process writes
        over = "\r\x1b[K" if sys.stderr.isatty() else ""
        raise SystemExit(supervise(command, say=lambda line: click.echo(over + line, err=True)))
    die_with_supervisor()
    try:
        exit_code, last_run_dir = _run(algorithm, config, run_dir, ctx.args)
    except KeyboardInterrupt:
        raise SystemExit(exit_codes.INTERRUPTED) from None  # the supervisor says it
    sys.stdout.flush()
    sys.stderr.flush()
    tell(exit_code=exit_code, run_dir=last_run_dir)
    raise SystemExit(exit_code)


def _run(
    algorithm: str | None, config: Path | None, run_dir: Path | None, overrides: list[str]
) -> tuple[int, str | None]:
    """Train or go on; the exit status and, where it came that far, the run's folder."""
    from analysis.journal.journal import StoreError
    from evaluator.cli.terminal import printable
    from evaluator.problems.mbpp import DatasetError
    from evaluator.problems.user_code import UserCodeError
    from evaluator.sampling.model import ModelError
    from sandbox.program import SandboxError
    from trainer.endings.faults import OutsideFault
    from trainer.endings.stop import Stopped, StopRequest
    from trainer.options.config import ConfigError, parse_options
    from trainer.step.callbacks import NonFinite
    from trainer.training.calibration import Uncalibrated
    from trainer.training.train import resume
    from trainer.training.train import train as start

    statuses: dict[type[Exception], int] = {
        NonFinite: exit_codes.NON_FINITE,
        OutsideFault: exit_codes.FAULT,
        Stopped: exit_codes.STOPPED,
        Uncalibrated: exit_codes.UNCALIBRATED,
        # what else a user can mend; everything else is a bug with its traceback
        **dict.fromkeys((ConfigError, StoreError, DatasetError, ModelError), exit_codes.FAILED),
        **dict.fromkeys((SandboxError, UserCodeError), exit_codes.FAILED),
    }
    stop = StopRequest()
    try:
        with stop.installed():
            tell(handles=True)
            if run_dir is not None:
                result = resume(run_dir, say=_say, prepare=_show_progress, stop=stop)
            else:
                options = parse_options(Path(str(config)), overrides)
                kind: Any = algorithm  # click checked it
                result = start(kind, options, say=_say, prepare=_show_progress, stop=stop)
    except tuple(statuses) as error:
        text = str(error) if isinstance(error, Uncalibrated) else " ".join(str(error).split())
        click.echo(printable(f"Error: {text}"), err=True)
        return next(code for kind, code in statuses.items() if isinstance(error, kind)), None
    for layer in result.layers:
        click.echo(
            f"{layer.name:12} {'PASS' if layer.passed else 'FAIL':5} {layer.n_checks} checks, the worst {layer.worst}: "
            f"{layer.largest:.1e} (threshold {layer.threshold:.0e})"
        )
    is_adapter = (result.adapter_dir / "adapter_config.json").is_file()  # else the whole model
    words = f"eval --{'adapter' if is_adapter else 'model'} {result.adapter_dir}"
    click.echo(printable(f"adapter: {result.adapter_dir}"))
    click.echo(printable(f"next:    sdpo-bench {words}   or   sdpo-bench report"))
    passed = all(layer.passed for layer in result.layers)
    return exit_codes.FINISHED if passed else exit_codes.FAILED, str(result.run_dir)


def _show_progress(trainer: BenchTrainer) -> None:
    """Say within each step what it is at, where a person is watching."""
    from trainer.step.progress import StepProgress

    if not sys.stderr.isatty() or not trainer.accelerator.is_main_process:
        return
    progress = StepProgress()
    trainer.clock.watch, trainer.show_ended = progress.phase, progress.count
    trainer.add_callback(progress)


def _say(line: str) -> None:
    """One line of progress, coloured on a terminal."""
    from rich.console import Console

    from evaluator.cli.terminal import printable

    Console(markup=False, soft_wrap=True).print(printable(line))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@command_options.json_path(help="Also write the table to this file.")
def verify(folder: Path, json_path: Path | None) -> None:
    """Check losses and teacher prompts against recorded cases of the reference.

    FOLDER holds manifest.json with npz files, and reprompt.json. Exit status 1 if any case is
    over its tolerance.

    \b
    Example:  sdpo-bench verify tests/golden/sdpo
    """
    from evaluator.cli.terminal import check_json_path, printable, write_json
    from trainer.audit.golden import check_losses, check_prompts

    check_json_path(json_path)
    try:
        losses, prompts = check_losses(folder), check_prompts(folder)
    except ValueError as error:
        raise click.ClickException(printable(str(error), line_breaks=False)) from error
    click.echo("largest absolute deviation (tolerance)")

    shown = partial(printable, line_breaks=False)  # a manifest may come from anywhere
    word = {True: "ok", False: "FAIL"}
    for check in losses:
        click.echo(
            f"{shown(check.case):32}loss {check.loss:.1e} ({check.loss_tolerance:.0e})  "
            f"token {check.per_token:.1e} ({check.per_token_tolerance:.0e})  "
            f"gradient {check.gradient:.1e} ({check.gradient_tolerance:.0e})  {word[check.passed]}"
        )
    for scenario in prompts:
        click.echo(f"{shown(scenario.case):32}{word[scenario.passed]}")
    for scenario in prompts:
        if scenario.difference:
            click.echo(shown(f"{scenario.case}: {scenario.difference}"))
    checks: list[Any] = [*losses, *prompts]
    passed = [check.passed for check in checks]
    click.echo(f"{sum(passed)} of {len(passed)} cases agree")
    if json_path is not None:
        write_json(json_path, [{**vars(check), "passed": check.passed} for check in checks])
    if not all(passed):
        raise SystemExit(1)
