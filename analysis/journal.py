"""The one writer of results: append-only JSON lines, durable at each commit."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from analysis.records import Record, RunInfo


class StoreError(Exception):
    """The results could not be written or read; the message says what and where."""


class Journal:
    """Appends records of one run to a file of this process's own under `runs/<run_id>/`."""

    run_dir: Path
    info: RunInfo

    @classmethod
    def create(cls, runs_dir: Path, info: RunInfo) -> Self:
        """Make `runs_dir/<run_id>/`, write run.json atomically and open the first segment."""
        raise NotImplementedError

    @classmethod
    def resume(cls, run_dir: Path) -> Self:
        """Open a further segment of an existing run."""
        raise NotImplementedError

    def append(self, record: Record) -> None:
        """Buffer one record; durable after the next commit."""
        raise NotImplementedError

    def commit(self) -> None:
        """Write what was appended as one batch, flush and fsync; returns when it is on disk."""
        raise NotImplementedError

    def close(self) -> None:
        """Commit and close."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()
