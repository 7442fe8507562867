"""Writes the figures of docs/results-of-ours.md: each command on the page is run on the rows in docs/runs.

A block is a command and what it prints:

    ```console
    $ sdpo-bench sql "FROM leaderboard"
    ...
    ```

A line that begins with `>` continues the command. The page's sentences are written by hand; no figure of a block is.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from pathlib import Path

from click.testing import CliRunner

from analysis.imports.exported import restore
from analysis.warehouse.warehouse import ingest
from sdpo_bench import main as sdpo_bench

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results-of-ours.md"
ROWS = ROOT / "docs" / "runs"
_BLOCK = re.compile(r"```console\n\$ (?P<command>.*(?:\n> .*)*)\n(?P<output>(?:.*\n)*?)```")


def written(text: str) -> str:
    """Return the page with every block's output as its command prints it now.

    Raises:
        RuntimeError: a command failed.
    """
    with tempfile.TemporaryDirectory() as name:
        runs, results = Path(name) / "runs", Path(name) / "results.duckdb"
        for folder in sorted(ROWS.iterdir()):
            if left_out := restore(folder, runs).left_out:
                raise RuntimeError(f"every run of {folder} must come back, got {left_out}")
        ingest(runs, results)
        places = {"sql": ["--no-ingest", "--results", str(results)], "compare": []}

        def block(match: re.Match[str]) -> str:
            command = match["command"].replace("\n> ", "\n")
            words = shlex.split(command)[1:]
            found = CliRunner(env={"COLUMNS": "160"}).invoke(
                sdpo_bench, [*words, *places[words[0]], "--runs-dir", str(runs)]
            )
            if found.exit_code:
                raise RuntimeError(f"{command}: {found.output}")
            return f"```console\n$ {match['command']}\n{_without_ends(found.stdout)}```"

        return _BLOCK.sub(block, text)


def _without_ends(output: str) -> str:
    """The lines without blanks at their ends, which editors would remove."""
    return "".join(f"{line.rstrip()}\n" for line in output.strip("\n").splitlines())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
