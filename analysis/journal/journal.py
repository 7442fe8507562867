"""The one writer of results: append-only JSON lines, durable at each commit.

    runs/<run_id>/run.json                       what the run is; written once, before any row
    runs/<run_id>/segment-<attempt>-<pid>.jsonl  one file a process; form: `analysis.journal.lines`

A run has one writer at a time: it holds a file lock on the run's folder, which the kernel drops
when the process dies, however it dies. A resumed run opens the next attempt's file and never
touches earlier ones. Where two rows of a run have the same natural key, the later one counts
(`analysis.records`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import socket
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from analysis.journal.durable import open_file, sync_folder, write_durably
from analysis.journal.lines import HEADER_TABLE, encode
from analysis.records import SCHEMA_VERSION, Record, Rewind, RunInfo, RunState, SegmentHeader
from analysis.storable import invalid

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,199}")
_SEQUENCE = re.compile(rb'"sequence": ?(\d{1,15})\b')
_TAIL_BYTES = 1000
_SEGMENT = re.compile(r"segment-(\d{4,})-\d+\.jsonl")


class StoreError(Exception):
    """The results could not be written or read; the message says what and where."""


class Journal:
    """Appends records of one run to a file of this process's own under `runs/<run_id>/`.

    Used as a context manager it also records how the run ended: `finished`, `stopped` (an
    interrupt) or `failed`. A run that is `running` while nobody holds its folder's lock was
    killed.
    """

    run_dir: Path
    info: RunInfo
    attempt: int
    """0 for the process that created the run, +1 for each resume."""

    @classmethod
    def create(cls, runs_dir: Path, info: RunInfo) -> Self:
        """Make `runs_dir/<run_id>/` with its run.json, all at once, and open the first segment.

        Raises:
            StoreError: the run exists, its id is no plain file name, or the folder cannot be written.
        """
        run_dir = runs_dir / checked_run_id(info.run_id)
        # Filled beside its place and renamed: a run's folder never stands without its run.json.
        staged = runs_dir / f".new-{info.run_id}-{secrets.token_hex(4)}"
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)
            info = info.model_copy(update={"sequence": next_sequence(runs_dir)})
            staged.mkdir()
            lock_fd = lock_run(staged)
            try:
                write_durably(staged / "run.json", info.model_dump_json(indent=2).encode())
                os.rename(staged, run_dir)
                sync_folder(runs_dir)
            except OSError:
                os.close(lock_fd)
                shutil.rmtree(staged, ignore_errors=True)
                raise
        except OSError as error:
            if run_dir.exists():
                raise StoreError(
                    f"a run must not exist yet, got {str(run_dir)!r}; "
                    "resume it or take another run id"
                ) from error
            raise StoreError(
                f"the runs folder must be writable, got {str(runs_dir)!r} ({error.strerror}); "
                "free space or name another folder"
            ) from error
        return cls(run_dir, info, attempt=0, lock_fd=lock_fd)

    @classmethod
    def resume(cls, run_dir: Path, *, step: int | None = None) -> Self:
        """Open a further segment of an existing run.

        `step` is the optimizer step of the checkpoint that is continued: what earlier attempts wrote about later
        steps no longer counts. None keeps every row.

        Raises:
            StoreError: no such run, another process writes it, or the folder cannot be written.
        """
        info = read_run_info(run_dir)
        try:
            lock_fd = lock_run(run_dir)
            attempt = 1 + max((number for number, _ in segments(run_dir)), default=-1)
        except OSError as error:
            raise StoreError(
                f"a run's folder must be readable, got {str(run_dir)!r} ({error.strerror}); "
                "check its permissions"
            ) from error
        journal = cls(run_dir, info, attempt=attempt, lock_fd=lock_fd)
        if step is not None:
            journal.append(Rewind(attempt=attempt, step=step))
            journal.commit()
        return journal

    def __init__(self, run_dir: Path, info: RunInfo, *, attempt: int, lock_fd: int) -> None:
        """Open the segment; callers use `create` or `resume`."""
        self.run_dir, self.info, self.attempt = run_dir, info, attempt
        self.path = run_dir / f"segment-{attempt:04d}-{os.getpid()}.jsonl"
        self._lock_fd: int | None = lock_fd
        self._fd: int | None = None
        self._buffer: list[bytes] = []
        self._acknowledged = 0
        """Bytes of the file that are known to be on disk."""
        self._state = "running"
        _HELD.add(self)
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            sync_folder(run_dir)
        except OSError as error:
            self._release()
            raise StoreError(
                f"a journal segment must be creatable, got {str(self.path)!r} ({error.strerror}); "
                "free space or check permissions"
            ) from error
        header = SegmentHeader(
            schema_version=SCHEMA_VERSION,
            run_id=info.run_id,
            attempt=attempt,
            pid=os.getpid(),
            host=socket.gethostname(),
            opened_at=_now(),
        )
        self._buffer.append(encode(HEADER_TABLE, header.model_dump_json().encode()))
        self.append(RunState(attempt=attempt, state="running", changed_at=_now()))
        try:
            self.commit()
        except StoreError:
            self._release()
            raise

    def append(self, record: Record) -> None:
        """Buffer one record; durable after the next commit."""
        if self._fd is None:
            raise StoreError(
                f"a journal must be open, got {str(self.path)!r} closed; resume the run"
            )
        if isinstance(record, RunState):
            self._state = record.state
        self._buffer.append(encode(record.table, record.model_dump_json().encode()))

    def commit(self) -> None:
        """Write what was appended as one batch, flush and fsync; returns when it is on disk.

        Raises:
            StoreError: the disk is full or cannot be written. The file is cut back to what earlier commits
                acknowledged; the batch stays buffered, so a commit after freeing space writes it.
        """
        if not self._buffer:
            return
        if self._fd is None:
            raise StoreError(
                f"a journal must be open, got {str(self.path)!r} closed; resume the run"
            )
        batch = memoryview(b"".join(self._buffer))
        n_bytes = len(batch)
        try:
            position = self._acknowledged
            while batch:
                n_written = os.pwrite(self._fd, batch, position)
                position, batch = position + n_written, batch[n_written:]
            os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # a torn last line is ignored by readers anyway
                os.ftruncate(self._fd, self._acknowledged)
            raise StoreError(
                f"the journal must be writable, got {error.strerror!r} at byte "
                f"{self._acknowledged} of {str(self.path)!r}; "
                "everything committed before is intact: free space, then resume"
            ) from error
        self._acknowledged += n_bytes
        self._buffer.clear()

    def finish(
        self, state: Literal["finished", "failed", "stopped"] = "finished", error: str | None = None
    ) -> None:
        """Append how this attempt ended; durable after the next commit."""
        self.append(RunState(attempt=self.attempt, state=state, changed_at=_now(), error=error))

    def close(self) -> None:
        """Commit and close; a second call does nothing. StoreError: the last batch is not written, the file closed."""
        if self._fd is None:
            return
        try:
            self.commit()
        finally:
            self._release()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Record how the run ended, unless its owner already did, and close."""
        if self._fd is None:
            return
        if self._state == "running":
            if error is None:
                self.finish()
            elif isinstance(error, KeyboardInterrupt):
                self.finish("stopped", "interrupted")
            else:
                self.finish("failed", f"{type(error).__name__}: {error}")
        try:
            self.close()
        except StoreError as store_error:
            if error is None:
                raise
            # The first failure is what its owner must see; a full disk usually is that failure.
            error.add_note(str(store_error))

    def _release(self) -> None:
        for fd in (self._fd, self._lock_fd):
            if fd is not None:
                os.close(fd)
        self._fd = self._lock_fd = None


_HELD: weakref.WeakSet[Journal] = weakref.WeakSet()


def _leave_locks_to_parent() -> None:
    """In a forked child, such as a data loader's worker: it may outlive the writer, whose lock it would hold."""
    for journal in _HELD:
        if journal._lock_fd is not None:
            os.close(journal._lock_fd)
            journal._lock_fd = None


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def checked_run_id(run_id: str) -> str:
    """Return a run's id, which names its folder. StoreError: it is no plain file name."""
    if not _RUN_ID.fullmatch(run_id):
        raise StoreError(
            "a run id must be at most 200 letters, digits and any of ._+=-, "
            f"got {run_id!r}; take one from analysis.provenance.new_run_id"
        )
    return run_id


def read_run_info(run_dir: Path) -> RunInfo:
    """Read `run.json` of a run. StoreError: there is none, it is damaged, or of a newer version."""
    path = run_dir / "run.json"
    try:
        with open_file(path) as file:
            info = RunInfo.model_validate_json(file.read())
    except OSError as error:
        raise StoreError(
            f"a run's folder must hold a readable run.json, got {str(path)!r} ({error.strerror}); "
            "name the folder of a run"
        ) from error
    except ValidationError as error:
        raise StoreError(
            f"run.json must describe a run in schema version {SCHEMA_VERSION} or earlier, "
            f"got {str(path)!r} ({invalid(error)}); restore it or upgrade sdpo-bench"
        ) from error
    if not _RUN_ID.fullmatch(info.run_id):
        raise StoreError(
            f"run.json must name its run by a plain file name, got {info.run_id!r:.100} in {str(path)!r}; restore it"
        )
    return info


def run_folders(runs_dir: Path) -> list[Path]:
    """The folders of runs, by name. One that begins with a dot is being made, or its writer was killed."""
    return sorted(path.parent for path in runs_dir.glob("[!.]*/run.json"))


def labelled_runs(runs_dir: Path, label: str) -> list[RunInfo]:
    """Return the runs that bear a label, the newest last; a run that cannot be read is passed over."""
    found = []
    for folder in run_folders(runs_dir):
        try:
            info = read_run_info(folder)
        except StoreError:
            continue
        if info.label == label:
            found.append(info)
    return sorted(found, key=lambda info: info.order)


def same_label(label: str, earlier: Sequence[RunInfo], *, option: str = "--label") -> str:
    """Return a line about runs that bear a new run's label already."""
    return (
        f"{len(earlier)} run(s) have the label {label!r} already, the last is {earlier[-1].run_id}; "
        f"compare takes the newest, this one, unless --every-run takes all: give another by {option}, "
        "or name runs"
    )


def next_sequence(runs_dir: Path) -> int:
    """One more than the highest number of a run here; two that begin at once may get the same."""
    numbers = [0]
    for path in runs_dir.glob("*/run.json"):
        with contextlib.suppress(OSError), open_file(path) as file:
            # It is the last field; a whole run.json may hold a diff of 200 kB.
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            numbers += map(int, _SEQUENCE.findall(file.read())[-1:])
    return max(numbers) + 1


def segments(run_dir: Path) -> list[tuple[int, Path]]:
    """(attempt, file) of each segment of a run, in order of attempt. OSError: the folder could not be read."""
    matches = ((_SEGMENT.fullmatch(path.name), path) for path in run_dir.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def is_being_written(run_dir: Path) -> bool:
    """Whether a live process holds the run's lock."""
    try:
        os.close(lock_run(run_dir, fcntl.LOCK_SH))
    except StoreError:
        return True
    except OSError:
        return False
    return False


def lock_run(run_dir: Path, mode: int = fcntl.LOCK_EX) -> int:
    """Take the run's lock; returns its descriptor. StoreError: another process has it; OSError: unreadable."""
    fd = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StoreError(
            f"a run must have one writer, got {str(run_dir)!r} held by another process; "
            "wait for it to end or stop it"
        ) from error
    except OSError:
        os.close(fd)
        raise
    return fd


def _now() -> str:
    """UTC time, ISO 8601, to the millisecond; only shown, never compared: clocks go backwards."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
