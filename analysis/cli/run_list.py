"""Prints the list of runs: a line each where the terminal is wide enough, else two."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.render import Result, fits, print_table, visible
from analysis.words import percent

_GAP = "  "
_LEAST_LABEL = 8


def print_runs(result: Result, *, console: Console | None = None) -> None:
    """Print rows of `queries.runs_overview`, at most two lines each, none longer than the terminal."""
    console = console or Console()
    if not console.is_terminal or fits(result, console.width):
        print_table(result, max_rows=len(result.rows), console=console)
        return
    rows = [_figures(row) for row in result.records()]
    heads = list(rows[0]) if rows else []
    widths = {head: max(len(head), *(len(row[head]) for row in rows)) for head in heads}
    others = sum(width + len(_GAP) for head, width in widths.items() if head != "label")
    if rows and others + _LEAST_LABEL > console.width:  # a figure that is cut is a wrong one
        print_table(result, max_rows=len(result.rows), console=console)
        return
    widths["label"] = min(widths["label"], max(_LEAST_LABEL, console.width - others))
    _print(console, {head: head for head in heads}, widths, style="bold")
    for row, record in zip(rows, result.records(), strict=True):
        _print(console, row, widths)
        error = f"{_GAP}{record['error']}" if record["error"] else ""
        line = visible(f"{_GAP}{record['run_id']}{error}", console.width)
        console.print(Text(line, style="dim"), no_wrap=True, overflow="ellipsis")


def _figures(record: dict[str, Any]) -> dict[str, str]:
    of = f"/{record['of']}" if record["of"] is not None else ""
    return {
        "label": visible(record["label"], 40),
        "state": record["state"] or "",
        "algorithm": record["algorithm"] or "",
        "seed": "" if record["seed"] is None else str(record["seed"]),
        "step": "" if record["step"] is None else f"{record['step']}{of}",
        "reward": "" if record["reward"] is None else f"{record['reward']:.3g}",
        "solved": _solved(record),
        "pass@1": "" if record["pass_at_1"] is None else percent(record["pass_at_1"]),
    }


def _solved(record: dict[str, Any]) -> str:
    """Problems solved of all; of several completions a problem, the completions that pass."""
    if record["n"] is None:
        return ""
    if record["k"] is None:
        return f"{record['n_passed']}/{record['n_answers']} answers"
    return f"{record['k']}/{record['n']}"


def _print(console: Console, row: dict[str, str], widths: dict[str, int], style: str = "") -> None:
    cells = (visible(text, widths[head]).ljust(widths[head]) for head, text in row.items())
    console.print(Text(_GAP.join(cells).rstrip(), style=style), no_wrap=True, overflow="ellipsis")
