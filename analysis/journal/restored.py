"""Writes a run that exists elsewhere as the journal that it came from: the same rows, whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from analysis.journal.durable import remove_abandoned, sync_folder, write_durably
from analysis.journal.journal import StoreError, checked_run_id, lock_run, next_sequence
from analysis.journal.lines import HEADER_TABLE, encode
from analysis.records import SCHEMA_VERSION, Record, RunInfo, SegmentHeader

_LONG_AGO_S = 60


def write_restored(
    runs_dir: Path, info: RunInfo, rows: Iterable[tuple[int, Record]], *, host: str = "restored"
) -> int:
    """Write `runs_dir/<run_id>/` with run.json and one segment an attempt; returns the number of rows.

    The run counts as the newest of the folder.

    Args:
        runs_dir: made where it is missing.
        info: what run.json says.
        rows: (attempt, record), by ascending attempt.
        host: what stands for the machine that wrote the rows.

    Raises:
        StoreError: the run exists, its id is no plain file name, or the folder cannot be written.
    """
    run_dir = runs_dir / checked_run_id(info.run_id)
    if run_dir.exists():
        raise StoreError(
            f"a run must not exist yet, got {str(run_dir)!r}; name another runs folder or remove it"
        )
    staged = runs_dir / f".new-{info.run_id}-{secrets.token_hex(4)}"
    n_rows, lock_fd = 0, None
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        # what was left of this run, and long ago of others: at first a run's folder has no lock yet
        remove_abandoned(runs_dir, rf"\.new-{re.escape(info.run_id)}-[0-9a-f]{{8}}")
        remove_abandoned(runs_dir, r"\.new-.+-[0-9a-f]{8}", older_than_s=_LONG_AGO_S)
        info = info.model_copy(update={"sequence": next_sequence(runs_dir)})
        staged.mkdir()
        lock_fd = lock_run(staged)  # says that its writer lives
        write_durably(staged / "run.json", info.model_dump_json(indent=2).encode())
        for attempt, records in groupby(rows, key=lambda row: row[0]):
            written = (record for _, record in records)
            n_rows += _write_segment(staged, info, attempt, written, host=host)
        os.rename(staged, run_dir)
        sync_folder(runs_dir)
    except OSError as error:
        raise StoreError(
            f"the runs folder must be writable, got {str(runs_dir)!r} ({error.strerror}); "
            "free space or name another folder"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if lock_fd is not None:
            os.close(lock_fd)
    return n_rows


def _write_segment(
    run_dir: Path, info: RunInfo, attempt: int, records: Iterable[Record], *, host: str
) -> int:
    """Write the file of one attempt. Its process is not known any more: 0."""
    header = SegmentHeader(
        schema_version=SCHEMA_VERSION,
        run_id=info.run_id,
        attempt=attempt,
        pid=0,
        host=host,
        opened_at=info.created_at,
    )
    n_rows = 0
    with (run_dir / f"segment-{attempt:04d}-0.jsonl").open("xb") as file:
        file.write(encode(HEADER_TABLE, header.model_dump_json().encode()))
        for record in records:
            file.write(encode(record.table, record.model_dump_json().encode()))
            n_rows += 1
        file.flush()
        os.fsync(file.fileno())
    return n_rows
