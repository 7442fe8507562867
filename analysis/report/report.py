"""One self-contained HTML page of the results: opens from disk, asks the network for nothing.

Text from completions reaches the page as compressed data that its script shows with textContent; what
stands in the markup is escaped. The page's policy (CSP) allows its one script and nothing else. Without
that script everything but the search in the completions can be read.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection as Connection

from analysis import queries
from analysis.journal.journal import is_being_written
from analysis.report.chart_markup import figure
from analysis.report.completions import LONGEST_TEXT, Completions, completions, describe
from analysis.report.figures import FIGURES, Drawn, draw
from analysis.report.headline import headline
from analysis.report.markup import count, lines, text
from analysis.report.tables import evaluations, runs, settings

_HERE = Path(__file__).parent
_MOST_SAMPLES = 12
"""Completions that a page without its script shows."""
_LONGEST_SAMPLE = 2000
_LONGEST_SENTENCE = 3000
_NO_RUN = "No run is recorded. `sdpo-bench demo` makes a first set, `sdpo-bench train sdpo` trains a model."


def build_report(
    connection: Connection,
    run_ids: queries.Runs = None,
    *,
    refresh_s: int | None = None,
    notes: Sequence[str] = (),
    runs_dir: Path | None = None,
) -> str:
    """Return the page for some runs, or all.

    Args:
        connection: to the results.
        run_ids: the runs; None for all.
        refresh_s: seconds after which the page asks its server for what has changed; None for a file,
            which asks nobody.
        notes: what a person wants to stand below the verdict, a line each.
        runs_dir: where the runs' folders are, which tell a running run from a killed one; None where nobody knows.

    Raises:
        StoreError: the charts extra is not installed, or the results are damaged.
    """
    drawn = draw(connection, FIGURES, run_ids)
    found = completions(connection, run_ids)
    script = _file("report.js")
    script_sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    board = queries.comparison(connection, run_ids)
    described = _run_rows(connection, run_ids)
    for run in described:
        if runs_dir and run["state"] == "running" and (runs_dir / run["run_id"]).is_dir():
            alive = is_being_written(runs_dir / run["run_id"])
            run["state"] = "running" if alive else "interrupted"
    parts = {
        "style": _file("report.css"),
        "script": script,
        "script_sha256": script_sha256,
        "verdict": text(headline(connection, run_ids)[0], _LONGEST_SENTENCE),
        "about": text(_about(len(described), found)),
        "notes": "".join(f"<li>{text(note, _LONGEST_SENTENCE)}</li>" for note in notes),
        "leaderboard": evaluations(board),
        **{f"{section}_figures": _figures(drawn, section) for section in _SECTIONS},
        "runs": runs(described),
        "configs": settings(described),
        "kept": text(describe(found)),
        "sample": _sample(found),
        "data": _packed(found),
        "refresh_s": str(refresh_s or 0),
        "connect": "'self'" if refresh_s else "'none'",
    }
    return _fill(_file("report.html"), parts)


_SECTIONS = ("evaluation", "training", "cost")
"""Of figures, as `plots.Figure` names them."""


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _run_rows(connection: Connection, run_ids: queries.Runs) -> list[dict[str, Any]]:
    """The runs with their states and configurations."""
    return queries.of_runs(
        connection,
        """SELECT name, o.*, r.protocol, r.sandbox, r.git_commit, r.config::VARCHAR AS config
           FROM run_overview o JOIN runs r USING (run_id) JOIN {names} USING (run_id)
           WHERE {runs} ORDER BY r.sequence NULLS FIRST, o.created_at, run_id""",
        run_ids,
    ).records()


def _about(n_runs: int, found: Completions) -> str:
    written = f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    if not n_runs:
        return f"{_NO_RUN} {written}"
    return (
        f"{count(n_runs, 'run')}, {count(found.n_rollouts, 'training completion')}. {written} "
        "Intervals are 95 %."
    )


def _figures(drawn: Sequence[Drawn], section: str) -> str:
    mine = [figure(each) for each in drawn if each.figure.section == section]
    return "".join(mine) or '<p class="muted">No rows for these figures.</p>'


def _sample(found: Completions) -> str:
    """Some completions as markup: of each run the first that passed and the first that failed."""
    chosen: dict[tuple[str, bool], dict[str, Any]] = {}
    for row in found.rows.records():
        chosen.setdefault((row["run_id"], row["outcome"] == "passed"), row)
    shown = list(chosen.values())[:_MOST_SAMPLES]
    return "".join(
        f"<h3>{text(row['outcome'])}, task {text(row['task_id'])}, {text(row['name'])}, "
        f"{_when(row)}</h3><pre>{lines(row['completion'], _LONGEST_SAMPLE)}</pre>"
        for row in shown
    )


def _when(row: Mapping[str, Any]) -> str:
    """Where in a run a completion is from."""
    at = "" if row["step"] is None else f" at step {row['step']}"
    return f"{row['source']}{at}"


def _packed(found: Completions) -> str:
    """Rows as compressed JSON in base64: a tenth of the size, and no character of markup."""
    plain = json.dumps(
        {
            "columns": found.rows.columns,
            "rows": [[_finite(value) for value in row] for row in found.rows.rows],
            "n_stored": found.n_stored,
            "longest_text": LONGEST_TEXT,
        },
        allow_nan=False,
    )
    return base64.b64encode(gzip.compress(plain.encode(), mtime=0)).decode()


def _finite(value: object) -> object:
    """A value that JSON holds: what is not finite, by its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Put the parts in place in one pass: what a part holds is never taken for a placeholder."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
