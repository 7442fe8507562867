"""What a person sees: tables, progress, one-line errors, and text from a model made safe to print."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from analysis.journal.durable import check_output, output_place
from analysis.journal.journal import StoreError
from analysis.words import percent
from evaluator.engines.api import ApiError
from evaluator.engines.ray_engine import EngineError
from evaluator.evaluation.self_check import HarnessError
from evaluator.models.lora import ModelError
from evaluator.problems.problem import DatasetError
from evaluator.problems.user_code import UserCodeError
from evaluator.results.compare import ComparisonError
from evaluator.results.plausibility import suspicion
from evaluator.results.stored import StoredError
from evaluator.results.summary import EvalSummary
from evaluator.sampling.completions import CompletionsError
from sandbox.program import SandboxError

_PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn each boundary's error into one line and exit status 1; a bug stays a traceback."""
    try:
        yield
    except (
        *(ApiError, ComparisonError, CompletionsError, DatasetError, EngineError, HarnessError),
        *(ModelError, SandboxError, StoredError, StoreError, UserCodeError),
    ) as error:
        raise click.ClickException(printable(str(error), line_breaks=False)) from error


class Bar:
    """A progress bar: called with what is done, and told of what is sampled on the way there."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        """Show nothing done of `total`."""
        self._progress, self._title, self._n_sampled = progress, title, 0
        self._task = progress.add_task(title, total=total)

    def __call__(self, n: int) -> None:
        """Count `n` as done."""
        self._n_sampled = 0
        self._progress.update(self._task, advance=n, description=self._title)

    def sampled(self, n: int) -> None:
        """Count `n` as sampled and not yet done."""
        self._n_sampled += n
        self._progress.update(
            self._task, description=f"{self._title}, {self._n_sampled} more sampled"
        )


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """Show progress on standard error, where a person is watching."""
    stderr = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        yield Bar(progress, printable(title), total)


def print_summary(summary: EvalSummary, *, n_in_dataset: int) -> None:
    """Print the result, its failures, and what makes it doubtful."""
    low, high = summary.interval
    several = summary.most_samples > 1
    heading, solved = "solved", f"{summary.k}/{summary.n}"
    if several:
        heading += ", of all completions"
        solved = f"{summary.n_passed}/{len(summary.graded)}"
    who = (summary.label, summary.dataset, summary.protocol)
    figures = (solved, percent(summary.pass_at_1), f"{percent(low)} to {percent(high)}")
    headings = ("label", "dataset", "protocol", heading, "pass@1", "95 % interval")
    print_table(headings, [(*who, *figures)])
    if several:
        rows = []
        for k in summary.useful_k:
            mean, interval = summary.pass_at_k(k)
            ends = f"{percent(interval.low)} to {percent(interval.high)}"
            rows.append((f"pass@{k}", percent(mean), ends))
        print_table(("estimate", "mean", "95 % interval over problems"), rows)
    if summary.n_samples < summary.most_samples:
        print_line(
            f"The problems have {summary.n_samples} to {summary.most_samples} completions: pass@k can be "
            f"had for k up to {summary.n_samples}."
        )
    if summary.outcomes:
        classes = ", ".join(f"{name} {count}" for name, count in summary.outcomes.items())
        print_line(f"Failures: {classes}")
    if summary.near_misses:
        shown = ", ".join(map(str, summary.near_misses[:8]))
        more = ", ..." if len(summary.near_misses) > 8 else ""
        print_line(f"All asserts but one pass: {len(summary.near_misses)} (tasks {shown}{more})")
    if summary.n_truncated:
        print_line(f"Ended by the length limit: {summary.n_truncated} of {len(summary.graded)}")
    if summary.n < n_in_dataset:
        print_line(f"{summary.n} of {n_in_dataset} problems have a completion.")
    doubt = suspicion(summary.failures)
    if doubt is not None:
        print_line(f"Warning: {doubt.text}")


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    wrapping: str | None = None,
    out: Console | None = None,
) -> None:
    """Print a table, or one block a row where the terminal is too narrow for it: no cell is cut, or read as markup.

    The column `wrapping` may take several lines before the table is given up. Without `out` it goes to standard output.
    """
    table = Table(box=box.SIMPLE)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != wrapping, overflow="fold")
    cells = [[printable(cell) for cell in row] for row in rows]
    for row in cells:
        table.add_row(*map(Text, row))
    out = out or console()
    measured = Measurement.get(out, out.options.update(max_width=10_000), table)
    if (measured.maximum if wrapping is None else measured.minimum) <= out.width:
        out.print(table)
        return
    longest = max(map(len, headings))
    for row in cells:
        out.print()
        for heading, cell in zip(headings, row, strict=True):
            out.print(Text(f"  {heading:<{longest}}  {cell}"), overflow="fold")


def print_line(text: str) -> None:
    """Print one line as it is, without wrapping."""
    console().print(Text(printable(text)), soft_wrap=True)


def print_note(text: str) -> None:
    """Print one line beside the results, on standard error."""
    click.echo(printable(text, line_breaks=False), err=True)


def console() -> Console:
    """Standard output as it is at the time of the call."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def printable(text: str, *, line_breaks: bool = True) -> str:
    """Return text with each control character as its escape: a terminal must not obey a model."""
    kept = "\n\t" if line_breaks else ""
    return "".join(
        char
        if char in kept or unicodedata.category(char)[0] != "C"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write the file whole or not at all."""
    temporary = None
    try:
        place = output_place(path)
        temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(place)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise click.ClickException(
            f"--json must name a file that can be written, got {str(path)!r} ({error.strerror}); "
            "the result is in the run's journal"
        ) from error


def check_json_path(path: Path | None) -> None:
    """Find out before any work is done that its result could not be written."""
    if path is None:
        return
    try:
        check_output(path)
    except OSError as error:
        raise click.ClickException(
            f"--json must name a file in a folder that can be written, got {str(path)!r} ({error.strerror}); "
            "name another place"
        ) from error
