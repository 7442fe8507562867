"""One self-contained HTML page of the results: opens from disk, asks the network for nothing.

Text from completions reaches the page as compressed data that its script shows with textContent; what
stands in the markup is escaped. The page's policy (CSP) allows its one script and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from analysis import queries
from analysis.completions import completions, describe
from analysis.headline import headline, percent
from analysis.plots import FIGURES, Drawn, draw
from analysis.render import Result, visible

_HERE = Path(__file__).parent
_LONGEST_CELL = 500
_LONGEST_VERDICT = 3000
_OF_THE_RUN = ("algorithm", "seed", "model", "dataset", "protocol", "sandbox", "git_commit")
"""What is compared between runs beside their configurations."""


def build_report(
    connection: duckdb.DuckDBPyConnection,
    run_ids: Sequence[str] | None = None,
    *,
    refresh_s: int | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the page for some runs, or all.

    Args:
        connection: to the results.
        run_ids: the runs; None for all.
        refresh_s: seconds after which the page asks its server for what has changed; None for a file,
            which asks nobody.
        notes: what a person wants to stand below the verdict, a line each.

    Raises:
        StoreError: the charts extra is not installed, or the results are damaged.
    """
    drawn = draw(connection, FIGURES, run_ids)
    found = completions(connection, run_ids)
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    script_sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    board = queries.comparison(connection, run_ids)
    n_runs = len(_run_rows(connection, run_ids))
    parts = {
        "script": script,
        "script_sha256": script_sha256,
        "verdict": _text(headline(connection, run_ids)[0], longest=_LONGEST_VERDICT),
        "about": _text(
            f"{n_runs} run(s), {found.n_rollouts:,} training completions; "
            f"written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Intervals are 95 %."
        ),
        "notes": "".join(f"<li>{_text(note)}</li>" for note in notes),
        "leaderboard": _leaderboard(board),
        "charts": "".join(map(_figure, drawn)) or "<p>No rows for any figure.</p>",
        "configs": _config_difference(_run_rows(connection, run_ids)),
        "kept": _text(describe(found)),
        "data": _packed(found.rows),
        "refresh_s": str(refresh_s or 0),
        "connect": "'self'" if refresh_s else "'none'",
    }
    return _fill((_HERE / "report.html").read_text(encoding="utf-8"), parts)


def _run_rows(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The runs with their configurations."""
    return queries.of_runs(
        connection,
        """SELECT name, run_id, algorithm, seed, model, dataset, protocol, sandbox, git_commit,
                  config::VARCHAR AS config
           FROM runs JOIN {names} USING (run_id) WHERE {runs} ORDER BY created_at, run_id""",
        run_ids,
    ).records()


def _leaderboard(board: Result) -> str:
    """The last evaluation of each run as a table."""
    rows = [
        (
            row["name"],
            row["algorithm"],
            row["dataset"],
            row["decoding"],
            row["counts"],
            percent(row["pass_at_1"]),
            f"{percent(row['interval_low'])} to {percent(row['interval_high'])}",
        )
        for row in board.records()
    ]
    if not rows:
        return "<p>No evaluation has finished.</p>"
    names = ("policy", "algorithm", "problems", "decoding", "solved", "pass@1", "interval")
    return _table(names, rows, n_text=4)


def _config_difference(runs: list[dict[str, Any]]) -> str:
    """Settings that are not the same in all runs, a column a run."""
    settings = [
        _flat(json.loads(run["config"])) | {name: run[name] for name in _OF_THE_RUN} for run in runs
    ]
    keys = sorted({key for each in settings for key in each})
    absent = object()
    rows = [
        (key, *("" if each.get(key) is None else str(each[key]) for each in settings))
        for key in keys
        if len({json.dumps(each.get(key, repr(absent)), default=str) for each in settings}) > 1
    ]
    if not rows:
        return "<p>Nothing.</p>"
    return _table(("setting", *(run["name"] for run in runs)), rows, n_text=len(runs) + 1)


def _flat(config: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    """A nested configuration with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{lead}{key}.")
        else:
            flat[lead + key] = value
    return flat


def _figure(drawn: Drawn) -> str:
    """A chart as an image: an image cannot run what a label holds."""
    svg = base64.b64encode(_svg(drawn).encode()).decode()
    name = _text(_title(drawn))
    return f'<figure><img alt="{name}" src="data:image/svg+xml;base64,{svg}"></figure>'


def _svg(drawn: Drawn) -> str:
    """Draw as SVG text."""
    out = io.StringIO()
    drawn.chart.save(out, format="svg")
    return out.getvalue()


def _title(drawn: Drawn) -> str:
    """A chart's title and subtitle as one text."""
    title = json.loads(drawn.chart.to_json())["title"]
    return ". ".join([title["text"], *title["subtitle"]])


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], *, n_text: int) -> str:
    """An HTML table; columns after the first `n_text` are numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marked = [
            f"<{tag}{' class=number' if i >= n_text else ''}>{_text(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', names)}</thead><tbody>{body}</tbody></table>"


def _text(value: object, *, longest: int = _LONGEST_CELL) -> str:
    """Text as markup that shows it: escaped, bounded, without control characters."""
    return html.escape(visible(str(value), longest), quote=True)


def _packed(rollouts: Result) -> str:
    """Rows as compressed JSON in base64: a tenth of the size, and no character of markup."""
    rows = [[_finite(value) for value in row] for row in rollouts.rows]
    plain = json.dumps({"columns": rollouts.columns, "rows": rows}, allow_nan=False)
    return base64.b64encode(gzip.compress(plain.encode(), mtime=0)).decode()


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    """A number that JSON holds: what is not finite is shown as 0."""
    return 0.0 if isinstance(value, float) and not math.isfinite(value) else value


def _fill(template: str, parts: Mapping[str, str]) -> str:
    """Put the parts in place in one pass: what a part holds is never taken for a placeholder."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)
