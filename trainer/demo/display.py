"""The demo's progress: bars in a terminal, a line a stage and every quarter of it elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Display:
    """Shows one stage after the other."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a stage of `total` units; call what it yields with the units done since the last call."""
        if self.console.is_terminal:
            columns = (
                TextColumn(f"{name:<34}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(elapsed_when_finished=False),
            )
            with Progress(*columns, console=self.console) as progress:
                task = progress.add_task("", total=total)
                yield lambda n: progress.advance(task, n)
            return
        started = time.monotonic()
        self.console.print(f"{name} ...", highlight=False)
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            before, done = done, done + n
            if done < total and 4 * done // total > 4 * before // total:
                self.console.print(
                    f"  {done}/{total}, {time.monotonic() - started:.0f} s", highlight=False
                )

        yield advance
        self.console.print(f"  done in {time.monotonic() - started:.0f} s", highlight=False)

    def skipped(self, name: str) -> None:
        """Say that a stage was finished before."""
        self.console.print(f"{name:<34} done before", highlight=False)

    def line(self, text: str) -> None:
        """One line of plain text."""
        self.console.print(text, highlight=False, markup=False)
