"""What a shell offers after TAB: names of runs. Reads the run.json files alone, in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

_NEWEST = 1000


def run_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return labels and run ids that begin as typed; after a comma, those of the name behind it."""
    done, comma, begun = incomplete.rpartition(",")
    found = [name for run in _runs(ctx) for name in (run.get("label"), run.get("run_id"))]
    return [f"{done}{comma}{name}" for name in _offered(found, begun)]


def run_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return run ids that begin as typed."""
    return _offered([run.get("run_id") for run in _runs(ctx)], incomplete)


def run_folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the folders of runs, `runs/ID`, that begin as typed."""
    return _offered([f"runs/{run.get('run_id')}" for run in _runs(ctx)], incomplete)


def _offered(names: list[Any], begun: str) -> list[str]:
    """Those that can be typed as they are; a shell would take a blank for the end of a word."""
    typed = (name for name in names if isinstance(name, str) and name.isprintable())
    return sorted({name for name in typed if name.startswith(begun) and " " not in name})


def _runs(ctx: click.Context) -> list[dict[str, Any]]:
    folder = Path(ctx.params.get("runs_dir") or "runs")
    files = sorted(
        folder.glob("[!.]*/run.json"), key=lambda file: file.parent.name[-24:], reverse=True
    )
    found = []
    for file in files[:_NEWEST]:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
