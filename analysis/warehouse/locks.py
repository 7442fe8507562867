"""Locks around the results: one ingester at a time, and nobody who writes the files by hand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from analysis.journal.journal import StoreError


def lock_path(results: Path) -> Path:
    """The lock file beside a results file."""
    return results.with_name("." + results.name + ".lock")


@contextlib.contextmanager
def ingest_lock(results: Path) -> Iterator[None]:
    """Hold the lock that only one ingester has; wait for it."""
    # "a": what the file remembers (`analysis.warehouse.ownership`) stays.
    with lock_path(results).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def no_writer(results: Path) -> Iterator[None]:
    """Make sure that nobody has the file open for writing, now or before this ends.

    A writer's log would lie beside the replaced file and be applied to it. DuckDB locks its file
    with fcntl; a lock of the open-file-description kind sees that one, and unlike the classic kind
    does not vanish when some other descriptor of the file is closed in this process.

    Raises:
        StoreError: a process has it open for writing.
    """
    try:
        file = results.open("rb")
    except FileNotFoundError:
        yield
        return
    with file:
        request = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, request)
        except BlockingIOError as error:
            raise StoreError(
                f"a results file must not be open for writing, got {str(results)!r} held by "
                "another process; close that SQL shell or open it with -readonly"
            ) from error
        yield
