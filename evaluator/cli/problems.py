"""The `problems` commands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from evaluator.cli import command_options
from evaluator.cli.problem_check import check_file
from evaluator.cli.terminal import (
    check_json_path,
    one_line_errors,
    print_line,
    print_table,
    write_json,
)
from sandbox.client import open_sandbox


@click.group("problems")
def problems() -> None:
    """Check files of your own problems.

    \b
    Example:  sdpo-bench problems check mine.jsonl
    """


@problems.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@command_options.timeout_s()
@command_options.sandbox()
@command_options.json_path(help="Also write the findings to this file.")
def check(file: Path, timeout_s: float, backend: str, json_path: Path | None) -> None:
    """List the faults of each row of a problem file; exit with 1 if there is any.

    FILE is .jsonl, .jsonl.gz, .json, .csv, .parquet or a folder that datasets saved. It names rows that are
    no problem, references that fail, asserts that a constant passes, checkers that refuse the expected output, and
    inputs that grade nothing.

    \b
    Example:  sdpo-bench problems check mine.jsonl
    """
    with one_line_errors():
        check_json_path(json_path)
        with open_sandbox(backend) as sandbox:
            found = check_file(file, sandbox, timeout_s=timeout_s)
    if found.findings:
        rows = [
            (finding.place, "" if finding.task_id is None else str(finding.task_id), finding.what)
            for finding in found.findings
        ]
        print_table(("where", "task", "what is wrong"), rows, wrapping="what is wrong")
    print_line(
        f"{found.n_rows} rows, {found.n_wrong} with something wrong; {found.n_references} references, "
        f"{found.n_hidden} hidden tests"
    )
    if json_path is not None:
        write_json(json_path, asdict(found))
    if found.findings:
        raise SystemExit(1)
