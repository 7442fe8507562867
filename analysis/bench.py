"""Measures journal, ingest and queries as the results grow; `python -m analysis.bench --help`."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import duckdb

from analysis.journal import Journal
from analysis.plots import FIGURES, save_chart
from analysis.provenance import hardware, package_versions
from analysis.render import Result, print_table, to_json, write_text
from analysis.synthetic import step_records, synthetic_info
from analysis.warehouse import connect, ingest

_STEPS_A_RUN = 1250
"""20,000 rollouts a run: a fair share of runs and rows."""
_ROLLOUTS_A_STEP = 16
_VIEWS = ("leaderboard", "reward_curve", "failure_classes", "teacher_coverage", "solve_matrix")
_COLUMNS = (
    "n_rollouts",
    "journal_mb",
    "journal_ms_a_step",
    "fsync_ms_a_step",
    "ingest_s",
    "ingest_peak_mb",
    "file_mb",
    "step_ingest_s",
    "slowest_figure_ms",
    "slowest_view_ms",
    "search_ms",
)


@click.command()
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.IntRange(min=160),
    default=(10_000, 100_000, 1_000_000),
    show_default=True,
    help="Rollouts; may be repeated.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write the runs (1.7 GB for 1,000,000 rollouts); a temporary folder by default.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write JSON."
)
@click.option(
    "--chart-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also draw the growth, as PNG and SVG, in this folder.",
)
def bench(
    sizes: tuple[int, ...], folder: Path | None, json_file: Path | None, chart_dir: Path | None
) -> None:
    """Write synthetic runs of each size, ingest them, and time what people wait for."""
    rows = []
    for size in sorted(sizes):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            rows.append(measure(size, Path(work)))
        click.echo(f"{size:,} rollouts: ingested in {rows[-1][4]:.1f} s", err=True)
    result = Result(_COLUMNS, rows)
    print_table(result)
    if json_file:
        machine = {"hardware": hardware(), "packages": package_versions(["duckdb", "pydantic"])}
        write_text(
            json_file, json.dumps({**machine, "rows": json.loads(to_json(result))}, indent=1)
        )
    if chart_dir:
        from analysis.charts import bench_growth

        save_chart(bench_growth(result), "bench_growth", chart_dir, ["png", "svg"])


def measure(size: int, work: Path) -> tuple[Any, ...]:
    """Return one row of the bench: see `_COLUMNS`; times in the unit of the name."""
    runs, results = work / "runs", work / "results.duckdb"
    n_steps = -(-size // _ROLLOUTS_A_STEP)
    append_s, sync_s = _write_runs(runs, n_steps)
    journal_bytes = sum(path.stat().st_size for path in runs.glob("*/*.jsonl"))

    ingest_s, peak_bytes = _ingest_in_a_child(runs, results)
    step_s = _ingest_one_more_step(runs, results)

    with connect(results) as connection:
        figure_s = max(_seconds(partial(figure.query, connection)) for figure in FIGURES)
        view_s = max(_seconds(partial(_read_view, connection, view)) for view in _VIEWS)
        search_s = _seconds(
            lambda: connection.execute(
                "SELECT count(*) FROM rollouts WHERE completion ILIKE '%RETURN x + 7%'"
            ).fetchall()
        )
    return (
        n_steps * _ROLLOUTS_A_STEP,
        journal_bytes / 1e6,
        append_s / n_steps * 1e3,
        sync_s / n_steps * 1e3,
        ingest_s,
        peak_bytes / 1e6,
        results.stat().st_size / 1e6,
        step_s,
        figure_s * 1e3,
        view_s * 1e3,
        search_s * 1e3,
    )


def _write_runs(runs: Path, n_steps: int) -> tuple[float, float]:
    """Write the runs, a commit a step; returns seconds in append and seconds in commit."""
    append_s = sync_s = 0.0
    for first in range(0, n_steps, _STEPS_A_RUN):
        rng = random.Random(first)  # noqa: S311 - not a secret
        run_id = f"train-sdpo-{first}"
        with Journal.create(runs, synthetic_info(run_id, seed=first)) as journal:
            for step in range(1, min(_STEPS_A_RUN, n_steps - first) + 1):
                records = list(step_records(rng, step=step, skill=0.5))
                started = time.perf_counter()
                for record in records:
                    journal.append(record)
                appended = time.perf_counter()
                journal.commit()
                append_s += appended - started
                sync_s += time.perf_counter() - appended
    return append_s, sync_s


def _ingest_in_a_child(runs: Path, results: Path) -> tuple[float, int]:
    """Ingest in a process of its own, whose peak memory is the ingest's; seconds and bytes."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.SimpleQueue()
    child = context.Process(target=_timed_ingest, args=(str(runs), str(results), answers))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise click.ClickException(f"the ingest must succeed, got exit status {child.exitcode}")
    seconds, peak_bytes = answers.get()
    return seconds, peak_bytes


def _timed_ingest(runs: str, results: str, answers: Any) -> None:  # noqa: ANN401 - a queue
    seconds = _seconds(lambda: ingest(Path(runs), Path(results)))
    answers.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _ingest_one_more_step(runs: Path, results: Path, n_times: int = 5) -> float:
    """Add a step to the results; median seconds."""
    rng, times = random.Random(0), []  # noqa: S311 - not a secret
    with Journal.create(runs, synthetic_info(f"live-{os.getpid()}")) as journal:
        for step in range(1, n_times + 1):
            for record in step_records(rng, step=step, skill=0.5):
                journal.append(record)
            journal.commit()
            times.append(_seconds(lambda: ingest(runs, results)))
    return sorted(times)[n_times // 2]


def _read_view(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    """Fetch every row of a view."""
    connection.execute(f"FROM {view}").fetchall()


def _seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    bench()
