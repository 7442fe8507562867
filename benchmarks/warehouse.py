"""Measures journal, ingest and queries as the results grow; `make bench-analysis`."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click
import duckdb

from analysis.journal.journal import Journal
from analysis.provenance import hardware, package_versions
from analysis.records import Record, Rollout
from analysis.render import Result, print_table, to_json, write_text
from analysis.report.figures import FIGURES, save_chart
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, step_records, synthetic_info

_STEPS_A_RUN = 1250
"""20,000 rollouts a run: a fair share of runs and rows."""
_ROLLOUTS_A_STEP = 16
_EVALUATE_EVERY = 312
"""Steps between evaluations of 257 problems: four a run."""
_HEADLINES = ("leaderboard", "run_overview", "audit_summary")
_COLUMNS = (
    "n_rollouts",
    "journal_mb",
    "journal_ms_a_step",
    "fsync_ms_a_step",
    "ingest_s",
    "ingest_cpu_s",
    "ingest_peak_mb",
    "file_mb",
    "step_ingest_s",
    "slowest_figure",
    "slowest_figure_ms",
    "slowest_headline_ms",
    "search_ms",
)
_WORDS = tuple(
    f"{stem}_{ending}"
    for stem in ("count", "total", "index", "value", "left", "right", "items", "result", "key", "n")
    for ending in (*"abcdefghijklmnopqrstuvwxyz", *map(str, range(30)))
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
    help="Where to write the runs (3 GB for 1,000,000 rollouts); a temporary folder by default.",
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
    with tempfile.TemporaryDirectory(dir=folder) as work:
        report_s, report_mb = measure_report(Path(work))
    click.echo(f"report of 200 steps, 3,200 rollouts: {report_s:.1f} s, {report_mb:.2f} MB")
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        machine = {"hardware": hardware(), "packages": package_versions(["duckdb", "pydantic"])}
        write_text(
            json_file,
            json.dumps(
                {
                    **machine,
                    "report_s": report_s,
                    "report_mb": report_mb,
                    "rows": json.loads(to_json(result)),
                },
                indent=1,
            ),
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

    ingest_s, cpu_s, peak_bytes = _ingest_in_a_child(runs, results)
    step_s = _ingest_one_more_step(runs, results)

    with connect(results) as connection:
        figures = {f.name: _median(partial(f.query, connection)) for f in FIGURES}
        headline_s = max(_median(partial(_read_view, connection, view)) for view in _HEADLINES)
        search_s = _median(partial(_search, connection, "%RETURN count_q%key_7%"))
    slowest = max(figures, key=lambda name: figures[name])
    return (
        n_steps * _ROLLOUTS_A_STEP,
        journal_bytes / 1e6,
        append_s / n_steps * 1e3,
        sync_s / n_steps * 1e3,
        ingest_s,
        cpu_s,
        peak_bytes / 1e6,
        results.stat().st_size / 1e6,
        step_s,
        slowest,
        figures[slowest] * 1e3,
        headline_s * 1e3,
        search_s * 1e3,
    )


def measure_report(work: Path) -> tuple[float, float]:
    """Return seconds and megabytes of the report of one run of 200 steps, journals to page."""
    from analysis.report.report import build_report

    rng = random.Random(1)
    with Journal.create(work / "runs", synthetic_info("train-sdpo")) as journal:
        for step in range(1, 201):
            _append(journal, _varied(rng, step_records(rng, step=step, skill=0.5)))
            if step % 50 == 0:
                _append(journal, eval_records(rng, step=step, skill=0.5, n_problems=257))
    started = time.perf_counter()
    ingest(work / "runs", work / "results.duckdb")
    with connect(work / "results.duckdb") as connection:
        page = build_report(connection)
    return time.perf_counter() - started, len(page) / 1e6


def _write_runs(runs: Path, n_steps: int) -> tuple[float, float]:
    """Write the runs, a commit a step; returns seconds in append and seconds in commit."""
    append_s = sync_s = 0.0
    for first in range(0, n_steps, _STEPS_A_RUN):
        rng = random.Random(first)
        algorithm = ("sdpo", "grpo", "hybrid")[first // _STEPS_A_RUN % 3]
        info = synthetic_info(f"train-{algorithm}-{first}", algorithm=algorithm, seed=first)
        with Journal.create(runs, info) as journal:
            for step in range(1, min(_STEPS_A_RUN, n_steps - first) + 1):
                plain = step_records(rng, step=step, skill=0.5, algorithm=algorithm)
                records = _varied(rng, plain)
                started = time.perf_counter()
                for record in records:
                    journal.append(record)
                appended = time.perf_counter()
                journal.commit()
                append_s += appended - started
                sync_s += time.perf_counter() - appended
                if step % _EVALUATE_EVERY == 0:
                    _append(journal, eval_records(rng, step=step, skill=0.5, n_problems=257))
                    journal.commit()
    return append_s, sync_s


def _varied(rng: random.Random, records: Iterable[Record]) -> list[Record]:
    """Give each completion a text of its own, about 400 characters, that compresses as code does."""
    varied = []
    for record in records:
        if isinstance(record, Rollout):
            words = rng.choices(_WORDS, k=45)
            body = "\n    ".join(
                f"{a} = {b} + {c}"
                for a, b, c in zip(words[::3], words[1::3], words[2::3], strict=True)
            )
            code = f"def task_{record.task_id}(x):\n    {body}\n    return {words[0]}\n"
            text = f"```python\n{code}```"
            record = record.model_copy(update={"completion": text, "code": record.code and code})
        varied.append(record)
    return varied


def _append(journal: Journal, records: Iterable[Record]) -> None:
    """Append all of them."""
    for record in records:
        journal.append(record)


def _ingest_in_a_child(runs: Path, results: Path) -> tuple[float, float, int]:
    """Ingest in a process of its own, whose peak memory is the ingest's.

    Returns seconds by the clock, seconds of CPU and bytes.
    """
    context = multiprocessing.get_context("spawn")
    answers: Any = context.SimpleQueue()
    child = context.Process(target=_timed_ingest, args=(str(runs), str(results), answers))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise click.ClickException(f"the ingest must succeed, got exit status {child.exitcode}")
    seconds, cpu_s, peak_bytes = answers.get()
    return seconds, cpu_s, peak_bytes


def _timed_ingest(runs: str, results: str, answers: Any) -> None:  # noqa: ANN401 - a queue
    before = time.process_time()
    seconds = _seconds(lambda: ingest(Path(runs), Path(results)))
    cpu_s = time.process_time() - before
    answers.put((seconds, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _ingest_one_more_step(runs: Path, results: Path, n_times: int = 5) -> float:
    """Add a step to the results; median seconds."""
    rng, times = random.Random(0), []
    with Journal.create(runs, synthetic_info(f"live-{os.getpid()}")) as journal:
        for step in range(1, n_times + 1):
            _append(journal, _varied(rng, step_records(rng, step=step, skill=0.5)))
            journal.commit()
            times.append(_seconds(lambda: ingest(runs, results)))
    return sorted(times)[n_times // 2]


def _read_view(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    """Fetch every row of a view."""
    connection.execute(f"FROM {view}").fetchall()


def _search(connection: duckdb.DuckDBPyConnection, pattern: str) -> None:
    """Look for a text in every completion, whatever its case."""
    connection.execute(
        "SELECT run_id, step, task_id FROM rollouts WHERE completion ILIKE ?", [pattern]
    ).fetchall()


def _median(work: Callable[[], object], n_times: int = 3) -> float:
    """Median seconds of a call."""
    return sorted(_seconds(work) for _ in range(n_times))[n_times // 2]


def _seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    bench()
