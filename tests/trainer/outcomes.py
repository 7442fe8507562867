"""What a run of the tiny model comes to: its weights to the bit, and the rows that count."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from analysis.warehouse.warehouse import connect, ingest

ROLLOUTS = """
    SELECT step, group_index, member_index, completion, reward, advantage, teacher_prompt FROM rollouts ORDER BY ALL
"""
METRICS = """
    SELECT step, name, value FROM metrics
    WHERE NOT regexp_matches(name, '^(step_time$|time/|memory/)') ORDER BY ALL
"""
"""All but the clock's."""


def outcome(runs: Path):
    """Rollouts, metrics, and weights of student and teacher, of the one run in the folder."""
    (run_dir,) = (path for path in runs.iterdir() if path.is_dir())
    ingest(runs, runs / "results.duckdb")
    with connect(runs / "results.duckdb") as connection:
        tables = [connection.execute(query).fetchall() for query in (ROLLOUTS, METRICS)]
    folders = [run_dir / name for name in ("adapter", "teacher_adapter")]
    weights = [
        load_file(next(folder.glob("*model.safetensors")))
        for folder in folders
        if folder == folders[0] or folder.exists()
    ]
    return *tables, [{n: t.numpy().tobytes() for n, t in w.items()} for w in weights]
