"""The commands that make runs of files: logs of other programs, and exports of our own."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import click

from analysis.cli.options import RUNS_DIR, one_line_errors
from analysis.imports.exported import restore
from analysis.imports.foreign import read_log
from analysis.imports.foreign_evals import Imported
from analysis.imports.log_files import escaped_bytes
from analysis.journal.journal import StoreError, labelled_runs, same_label
from analysis.journal.restored import write_restored
from analysis.provenance import check_label, config_sha256, file_sha256, new_run_id
from analysis.records import Eval, EvalResult, Metric, Record, Rollout, RunInfo, RunState
from analysis.render import echo, visible

_MOST_RESTARTS = 10


@click.command(name="import")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@click.option("--label", required=True, help="Name of the run.")
@click.option(
    "--algorithm",
    type=click.Choice(["grpo", "sdpo", "hybrid", "audit"]),
    help="The algorithm of the training; leave it out for an evaluation of a base model.",
)
@click.option("--seed", type=click.IntRange(-(2**63), 2**63 - 1), help="Seed of the run, if known.")
@click.option("--model", help="Model name or folder, if known.")
@click.option("--dataset", help="Name of the problem set.  [default: from the file, else unknown]")
@click.option("--run", help="The run to import, if a chart's export shows several.")
@RUNS_DIR
@one_line_errors
def import_command(
    *,
    files: tuple[Path, ...],
    label: str,
    algorithm: str | None,
    seed: int | None,
    model: str | None,
    dataset: str | None,
    run: str | None,
    runs_dir: Path,
) -> None:
    """Import CSV, Parquet or JSON logs of another program as one run.

    Recognised by their columns: metrics (step and one column for each metric, or step, name, value; also
    TRL's trainer_state.json and CSV exports of Weights & Biases), completions (step, completion, prompt and one
    column for each reward, as TRL's log_completions writes them), and an evaluation (task_id, passed).
    Recognised by their content: lm-eval's results_*.json and samples_*.jsonl, and evalplus' *eval_results.json.
    A fact that a log does not have stays NULL.

    \b
    Example:  sdpo-bench import metrics.csv --label old-run --algorithm grpo --seed 42
              sdpo-bench import out/trainer_state.json out/completions/*.parquet --label trl
              sdpo-bench import base.csv --label base --dataset mbpp/sanitized/test
              sdpo-bench import results_2026*.json samples_mbpp_2026*.jsonl --label base
              sdpo-bench import wandb_export.csv --run sunny-sky-7 --label grpo --algorithm grpo
    """
    check_label(label)
    found = {path: read_log(path, label=label, dataset=dataset, run=run) for path in files}
    n_replaced = _replaced(found)
    if earlier := labelled_runs(runs_dir, label):
        echo(f"warning: {same_label(label, earlier)}", err=True)
    now = datetime.now(UTC)
    sources = [
        {"file": path.name, "sha256": file_sha256(path), "form": each.form}
        for path, each in found.items()
    ]
    config = {"imported": sources}
    info = RunInfo(
        run_id=new_run_id("import", algorithm, label, started=now),
        kind="eval" if all(each.form == "evaluation" for each in found.values()) else "train",
        algorithm=algorithm,
        label=label,
        created_at=now.isoformat(timespec="milliseconds"),
        config=config,
        config_sha256=config_sha256(config),
        seed=seed,
        model=model or _model(found),
        dataset=dataset or _dataset(found),
        dataset_sha256="unknown",
        protocol="imported",
        protocol_sha256="unknown",
        sandbox="unknown",
    )
    begun = RunState(attempt=0, state="running", changed_at=info.created_at)
    ended = begun.model_copy(update={"state": "finished"})
    records = [begun, *(record for each in found.values() for record in each.records), ended]
    write_restored(runs_dir, info, ((0, record) for record in records), host="imported")
    _tell(found, n_replaced)
    echo(f"run {info.run_id}")


@click.command(name="restore")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@RUNS_DIR
@one_line_errors
def restore_command(*, folder: Path, runs_dir: Path) -> None:
    """Turn an export into runs again, so that every command can read them.

    Their rows are those of the export, which has no checkpoints and adapters. A run that exists already stays
    as it is. Exit status 1 means that a run could not be stored; the others are there.

    \b
    Example:  sdpo-bench restore results/parquet --runs-dir restored
              sdpo-bench sql "FROM leaderboard" --runs-dir restored --results restored.duckdb
    """
    found = restore(folder, runs_dir)
    for run_id, n_rows in found.written:
        echo(f"{runs_dir / run_id}: {n_rows:,} rows")
    for run_id in found.present:
        echo(f"{runs_dir / run_id}: was there, left as it is")
    for note in found.notes:
        echo(f"note: {note}", err=True)
    for reason in found.left_out:
        echo(f"warning: left out: {reason}", err=True)
    if found.left_out:
        sys.exit(1)


def _replaced(found: dict[Path, Imported]) -> int:
    """Count the rows that give way to others of their key. StoreError: two files answer one evaluation."""
    held: dict[tuple[object, ...], tuple[Record, Path]] = {}
    n_replaced = 0
    for path, each in found.items():
        for record in each.records:
            key = (record.table, *(getattr(record, name) for name in record.key))
            earlier, elsewhere = held.get(key, (record, path))
            n_replaced += repr(earlier) != repr(record) and not isinstance(record, Eval)
            if isinstance(record, EvalResult) and elsewhere != path:
                raise StoreError(
                    f"the files of one import must hold answers to different evaluations, got {record.eval_id!r} in "
                    f"{str(elsewhere)!r} and in {str(path)!r}; import them as runs of their own, or rename one"
                )
            held[key] = (record, path)
    return n_replaced


def _tell(found: dict[Path, Imported], n_replaced: int) -> None:
    for path, each in found.items():
        # the summary of an evaluation is ours; of a results file it is all there is
        rows = [row for row in each.records if not isinstance(row, Eval)] or each.records
        echo(f"{path}: {len(rows):,} rows of {each.form}")
        if each.left_out:
            what = "; ".join(visible(what, 100) for what in each.left_out[:5])
            more = f"; and {len(each.left_out) - 5} more" if len(each.left_out) > 5 else ""
            echo(f"warning: {path}: left out: {what}{more}", err=True)
        for note in each.notes:
            echo(f"note: {path}: {note}", err=True)
        if (older := _older_than_restart(each)) is not None:
            echo(
                f"warning: {path}: the steps go back as after a restart; rows of steps {older[0]:,} to {older[1]:,} "
                "were logged before it and stay: take them out of the log if that run did not come so far again",
                err=True,
            )
        if (at := escaped_bytes(path)) is not None:
            echo(
                f"warning: {path}: byte {at} and perhaps others are no UTF-8 and stored as escapes, such as \\xe9; "
                "save the log as UTF-8 and import it again",
                err=True,
            )
    if n_replaced:
        echo(
            f"warning: {n_replaced:,} row(s) have the step and name of a later one, which counts",
            err=True,
        )


def _older_than_restart(found: Imported) -> tuple[int, int] | None:
    """First and last step beyond the last one of a log whose steps go back on the way; None where none are left.

    A log in another order than that of time goes back more often than runs are restarted.
    """
    steps: dict[str, list[int]] = {}
    for record in found.records:
        if isinstance(record, Metric | Rollout):
            name = record.name if isinstance(record, Metric) else record.table
            steps.setdefault(name, []).append(record.step)
    each = max(steps.values(), key=len, default=[])
    n_back = sum(later < step for step, later in pairwise(each))
    older = [step for step in each if step > each[-1]]
    return (min(older), max(older)) if older and n_back <= _MOST_RESTARTS else None


def _dataset(found: dict[Path, Imported]) -> str:
    """The problem set of the run: that of its evaluations where they agree."""
    named = {r.dataset for each in found.values() for r in each.records if isinstance(r, Eval)}
    return named.pop() if len(named) == 1 else "unknown"


def _model(found: dict[Path, Imported]) -> str | None:
    """The model that a file names; None where none does or two differ."""
    named = {each.model for each in found.values() if each.model}
    return named.pop() if len(named) == 1 else None
