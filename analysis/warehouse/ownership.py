"""Whose a results file is and who may write it: an ingest replaces only files that it wrote itself.

A results file names its program in the table `warehouse`. A damaged one cannot be asked. Its first block,
which DuckDB writes when it makes the file and never again, is therefore remembered in the lock file beside it.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import duckdb

from analysis.journal.journal import StoreError
from analysis.render import first_line
from analysis.warehouse.tables import APPLICATION, FORM, JOURNAL_FILES, WAREHOUSE

_FIRST_BLOCK_BYTES = 4096
_MAGIC = slice(8, 12)
_MOST_REMEMBERED = 6
"""First blocks that a lock file holds: of both files, before and after they were replaced."""
_NEWER_DUCKDB = re.compile(r"database file with version number|newer version of DuckDB", re.I)


class Standing(enum.Enum):
    """What stands at the place of a results file that may be written."""

    ABSENT = "absent"
    OURS = "ours"
    NEWER = "newer"
    """Written by a later version of this program, or of DuckDB."""
    DAMAGED = "damaged"
    """Ours by its first block, and DuckDB cannot read it."""


def standing(path: Path, lock: Path) -> Standing:
    """Return what stands at the place of a results file, or of its recent rows; `lock` remembers what was written.

    Raises:
        StoreError: it is none of ours, or nobody can say: it must not be touched.
    """
    if not os.path.lexists(path):
        if path.with_name(path.name + ".wal").exists():
            raise _foreign(path, "a write-ahead log of another database stands beside it")
        return Standing.ABSENT
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _foreign(path, "not a file")
        with path.open("rb") as file:
            first_block = file.read(_FIRST_BLOCK_BYTES)
    except OSError as error:
        raise StoreError(
            f"a results file must be readable, got {str(path)!r} ({error.strerror}); "
            "mend its permissions or name another file by --results"
        ) from error
    if first_block[_MAGIC] != b"DUCK":
        raise _foreign(path, "no DuckDB file" if first_block else "an empty file")
    try:
        return _by_its_table(path)
    except duckdb.Error as error:
        if _digest(first_block) not in _remembered(lock):
            what = f"a DuckDB file that cannot be read: {first_line(error)}"
            raise _foreign(path, what) from error
        return Standing.NEWER if _NEWER_DUCKDB.search(str(error)) else Standing.DAMAGED


def remember(path: Path, lock: Path) -> None:
    """Note in the lock file that a file not yet in its place is ours, as earlier ones are. OSError: unwritable."""
    with path.open("rb") as file:
        digest = _digest(file.read(_FIRST_BLOCK_BYTES))
    digests = [digest, *(other for other in _remembered(lock) if other != digest)]
    content = {"application": APPLICATION, "first_blocks": digests[:_MOST_REMEMBERED]}
    # In place: a lock file that were replaced would be another file than the one that is locked.
    lock.write_text(json.dumps(content), encoding="utf-8")


def move_aside(path: Path, suffix: str = ".damaged") -> str:
    """Give a file another name that nothing has; returns a line that says so."""
    aside, number = path.with_name(path.name + suffix), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}{suffix}-{number}")
    os.rename(path, aside)
    return f"the {suffix.strip('.')} file was moved to {aside}"


def staging_prefix(results: Path) -> str:
    """How the folders begin in which this results file is written; another beside it has its own."""
    return f".ingest-{results.name}-"


def remove_stale(results: Path) -> None:
    """Remove the folders in which ingesters of this file wrote that were killed; to be called under its lock."""
    of_this = re.compile(re.escape(staging_prefix(results)) + "[a-z0-9_]{8}")  # as tempfile ends it
    for name in filter(of_this.fullmatch, os.listdir(results.parent)):
        shutil.rmtree(results.parent / name)


def _by_its_table(path: Path) -> Standing:
    """Ask a DuckDB file who wrote it. StoreError: another program; duckdb.Error: it cannot be read."""
    with duckdb.connect(str(path), read_only=True) as connection:
        of_warehouse = _columns(connection, WAREHOUSE.name)
        if not {"application", "form"} <= of_warehouse:
            # Files of the first forms name no program; theirs is the only one with these two tables.
            if "schema_sha256" in of_warehouse and _columns(connection, JOURNAL_FILES.name):
                return Standing.OURS
            raise _foreign(path, "a DuckDB file of another program")
        rows = connection.execute("SELECT application, form FROM main.warehouse").fetchall()
    if [name for name, _ in rows] != [APPLICATION]:
        raise _foreign(path, "a DuckDB file of another program")
    return Standing.NEWER if rows[0][1] > FORM else Standing.OURS


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    """Columns of a table of the file's own, if it has one; to ask `duckdb_columns()` would bind every view."""
    if not connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'main' AND table_name = ?", [table]
    ).fetchall():
        return set()
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", [f"main.{table}"]).fetchall()
    return {name for (name,) in rows}


def _foreign(path: Path, what: str) -> StoreError:
    """The refusal of a file that is none of ours."""
    return StoreError(
        f"a results file must be one that {APPLICATION} wrote, got {str(path)!r} ({what}); it was left as it "
        "is: name another by --results, move it away, or only read it with --no-ingest"
    )


def _remembered(lock: Path) -> list[str]:
    """First blocks that a lock file holds, the last written first."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(lock.read_text(encoding="utf-8"))
        if content["application"] == APPLICATION:
            return [str(digest) for digest in content["first_blocks"]]
    return []


def _digest(first_block: bytes) -> str:
    return hashlib.sha256(first_block).hexdigest()


def lock_path(results: Path) -> Path:
    """The lock file beside a results file."""
    return results.with_name("." + results.name + ".lock")


@contextlib.contextmanager
def ingest_lock(results: Path) -> Iterator[None]:
    """Hold the lock that only one ingester has; wait for it."""
    # "a": what the file remembers stays
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
