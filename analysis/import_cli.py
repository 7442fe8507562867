"""The command that takes in what other programs logged."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import click

from analysis.foreign import Imported, read_log
from analysis.journal import Journal
from analysis.options import RUNS_DIR, one_line_errors
from analysis.provenance import config_sha256, new_run_id
from analysis.records import RunInfo


@click.command(name="import")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@click.option("--label", required=True, help="What you call the run.")
@click.option(
    "--algorithm",
    type=click.Choice(["grpo", "sdpo", "hybrid", "audit"]),
    help="What trained it; leave it out for an evaluation of a base model.",
)
@click.option("--seed", type=int, help="Seed of the run, if known.")
@click.option("--model", help="Model name or folder, if known.")
@click.option("--dataset", default="unknown", show_default=True, help="Name of the problem set.")
@RUNS_DIR
@one_line_errors
def import_command(
    *,
    files: tuple[Path, ...],
    label: str,
    algorithm: str | None,
    seed: int | None,
    model: str | None,
    dataset: str,
    runs_dir: Path,
) -> None:
    """Take CSV, Parquet or JSON logs of another program in, as one run.

    Three forms are known by their columns: metrics (step and a column a metric, or step, name, value; also
    TRL's trainer_state.json), completions (step, completion, prompt, a column a reward; what TRL's
    log_completions writes), and an evaluation (task_id, passed). What a log does not say stays NULL.

    \b
    Example:  sdpo-bench import metrics.csv --label old-run --algorithm grpo --seed 42
              sdpo-bench import out/trainer_state.json out/completions/*.parquet --label trl
              sdpo-bench import base.csv --label base --dataset mbpp/sanitized/test
    """  # noqa: D301 - click reads the backspace
    found = {path: read_log(path, label=label, dataset=dataset) for path in files}
    kind = "eval" if all(each.form == "evaluation" for each in found.values()) else "train"
    now = datetime.now(UTC)
    config = {"imported": [_source(path, each) for path, each in found.items()]}
    info = RunInfo(
        run_id=new_run_id("import", algorithm, label, started=now),
        kind=kind,  # type: ignore[arg-type]  # one of the two
        algorithm=algorithm,
        label=label,
        created_at=now.isoformat(timespec="milliseconds"),
        config=config,
        config_sha256=config_sha256(config),
        seed=seed,
        model=model,
        dataset=dataset,
        dataset_sha256="unknown",
        protocol="imported",
        protocol_sha256="unknown",
        sandbox="unknown",
    )
    with Journal.create(runs_dir, info) as journal:
        for each in found.values():
            for record in each.records:
                journal.append(record)
    for path, each in found.items():
        click.echo(f"{path}: {len(each.records):,} rows of {each.form}")
        if each.left_out:
            names = ", ".join(map(repr, each.left_out[:5]))
            more = ", ..." if len(each.left_out) > 5 else ""
            click.echo(f"warning: {path}: no numbers in {names}{more}: left out", err=True)
    click.echo(f"run {info.run_id}")


def _source(path: Path, found: Imported) -> dict[str, object]:
    """Where rows came from."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": digest, "form": found.form}
