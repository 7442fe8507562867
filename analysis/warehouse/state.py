"""Reads the state of a results file: how far each journal was read, and whether the file is whole."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import duckdb

from analysis.journal.journal import StoreError
from analysis.render import first_line
from analysis.warehouse.ownership import move_aside
from analysis.warehouse.recent import read_bytes, read_recent, recent_path


@dataclass(frozen=True)
class State:
    """What a results file has."""

    schema_sha256: str
    generation: str
    in_base: set[str]
    """Runs that the large file has rows of."""
    read_bytes: dict[str, dict[str, int]]
    """Run id -> file name -> bytes read, recent rows included."""
    continued: bool
    """Whether a file of recent rows continues it."""
    damages: list[str]


def read_state(results: Path, notices: list[str], *, runs_dir: Path, may_replace: bool) -> State:
    """Read what a results file has, recent rows included; a damaged file of these is set aside.

    Raises:
        duckdb.Error: the large file is damaged.
        StoreError: the recent rows are damaged and nothing may be replaced.
    """
    with duckdb.connect(str(results), read_only=True) as connection:
        # Free blocks at the end may be cut off the file, so that only the used ones must be there.
        n_used, block_bytes = connection.execute(
            "SELECT used_blocks, block_size FROM pragma_database_size()"
        ).fetchall()[0]
        if results.stat().st_size < n_used * block_bytes:
            raise duckdb.IOException("Corrupt: the file is shorter than the blocks in use")
        rows = connection.execute(
            "SELECT COLUMNS('schema_sha256|generation') FROM warehouse"
        ).fetchall()
        done = read_bytes(connection)
        damages = connection.execute(
            "SELECT run_id, file, byte_offset, reason FROM damages ORDER BY ALL"
        ).fetchall()
    in_base = set(done)
    # A file of an earlier form has no generation; it is built anew.
    sha256, generation = (*rows[0], "")[:2] if rows else ("", "")
    try:
        recent = read_recent(results, generation)
    except duckdb.Error as error:
        if not may_replace:
            command = ingest_command(runs_dir, results)
            raise damaged(recent_path(results), error, command) from error
        recent = None
        notices.append(f"the recent rows were damaged ({first_line(error)}) and read again")
        notices.append(move_aside(recent_path(results)))
    for run_id, files in (recent or {}).items():
        done[run_id] = done.get(run_id, {}) | files
    return State(
        schema_sha256=sha256,
        generation=generation,
        in_base=in_base,
        read_bytes=done,
        continued=recent is not None,
        damages=[
            f"{run_id}/{file}: damaged line at byte {offset}: {reason} (left out before)"
            for run_id, file, offset, reason in damages
        ],
    )


def damaged(path: Path, error: duckdb.Error, command: str) -> StoreError:
    """Return the refusal of a damaged file by a command that replaces nothing."""
    return StoreError(
        f"a results file must be an intact DuckDB file, got {str(path)!r} ({first_line(error)}); "
        f"run `{command}`, which keeps it aside and builds another from the journals"
    )


def ingest_command(runs_dir: Path | None, results: Path, *flags: str) -> str:
    """Return the command line that ingests these, naming what is not as usual.

    Where only the file is known, the runs folder is its neighbour of the same name, if there is one.
    """
    if runs_dir is None and results.with_suffix("").is_dir():
        runs_dir = results.with_suffix("")
    words = ["sdpo-bench ingest"]
    usual = (("--runs-dir", runs_dir, "runs"), ("--results", results, "results/results.duckdb"))
    for option, path, default in usual:
        if path and path.resolve() != Path(default).resolve():
            words.append(f"{option} {shlex.quote(str(path))}")
    return " ".join([*words, *flags])


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB found its file altered or cut, by its message: the class says too little."""
    return any(
        sign in str(error) for sign in ("checksum", "Corrupt", "Could not read enough bytes")
    )
