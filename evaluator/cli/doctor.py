"""The `doctor` command."""

from __future__ import annotations

from pathlib import Path

import click

from evaluator.cli import command_options

_COLOURS = {"ok": "green", "note": "yellow", "FAIL": "red"}


@click.command()
@command_options.mbpp_dir(envvar="MBPP_DIR", help="Folder with mbpp.jsonl and sanitized-mbpp.json.")
@command_options.runs_dir(type=click.Path(path_type=Path, file_okay=False))
def doctor(*, mbpp_dir: Path | None, runs_dir: Path) -> None:
    """Check what this machine has for training and evaluation; exit with 1 if something must be fixed.

    \b
    Example:  sdpo-bench doctor
    """
    from evaluator.doctor.checks import examine

    failed = 0
    for finding in examine(mbpp_dir=mbpp_dir, runs_dir=runs_dir):
        failed += finding.state == "FAIL"
        mend = f"  ->  {finding.mend}" if finding.mend and finding.state != "ok" else ""
        state = click.style(f"{finding.state:4}", fg=_COLOURS[finding.state])
        click.echo(f"{state}  {finding.text}{mend}")
    if failed:
        raise click.exceptions.Exit(1)
