"""The commands that read stored evaluations: `compare` and `show`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.columns import Columns
from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from analysis.records import EvalResult
from analysis.shell_completion import run_names
from analysis.statistics.verdict import Finding, p_text
from analysis.task_ids import TaskId, task_id, task_order
from analysis.words import percent
from evaluator.cli import command_options
from evaluator.cli.terminal import (
    check_json_path,
    console,
    one_line_errors,
    print_line,
    print_note,
    print_table,
    printable,
    write_json,
)
from evaluator.results.compare import Side, compare
from evaluator.results.stored import StoredError, StoredEval, find_evals

_LONGEST_SHOWN = 200_000
"""Characters of a text that `show` prints; of a longer one begin and end. A frame around 100 MB takes minutes."""


@click.command("compare")
@click.argument("names", nargs=-1, required=True, shell_complete=run_names)
@click.option(
    "--every-run",
    is_flag=True,
    help="Take all runs with a label as seeds of one policy, not only the newest.",
)
@click.option(
    "--every-pair", is_flag=True, help="Compare every two sides, not only each with the first."
)
@command_options.runs_dir()
@command_options.json_path(help="Also write the comparisons to this file.")
def compare_command(
    names: tuple[str, ...],
    *,
    every_run: bool,
    every_pair: bool,
    runs_dir: Path,
    json_path: Path | None,
) -> None:
    """Compare evaluations problem by problem with the first, and say what the figures show.

    A name is a label, the id of a run, or `run/evaluation`; several joined by commas are seeds of
    one policy. One run a side: exact McNemar test and Bonett-Price interval, over problems. Several:
    Student's t over problems and seeds. All p-values are Holm-corrected together. A winner is named only
    between sides that differ only in the algorithm; docs/statistics.md says what the figures cover.

    \b
    Example:
      sdpo-bench compare baseline sdpo
      sdpo-bench compare baseline grpo,grpo-43 sdpo,sdpo-43
    """
    if len(names) < 2:
        raise click.UsageError(
            f"a comparison must have at least two sides, got {len(names)}; name another"
        )
    with one_line_errors():
        check_json_path(json_path)
        say = _once()
        sides = [
            Side(name, tuple(find_evals(runs_dir, name, every_run=every_run, say=say)))
            for name in names
        ]
        _refuse_itself(sides)
        found = compare(sides, every_pair=every_pair)
    _print_comparisons(found)
    if json_path is not None:
        write_json(json_path, {"comparisons": [_as_json(item) for item in found]})


@click.command("show")
@click.argument("name", metavar="RUN", shell_complete=run_names)
@click.argument("task", metavar="TASK")
@click.option(
    "--beside", metavar="RUN", shell_complete=run_names, help="Show another run's answer beside it."
)
@click.option(
    "--sample", type=int, default=0, show_default=True, help="Number of the completion, from 0."
)
@command_options.runs_dir()
def show_command(name: str, task: str, beside: str | None, sample: int, runs_dir: Path) -> None:
    """Show one answer with its prompt, verdicts and feedback, or the answers of two runs side by side.

    \b
    Example:
      sdpo-bench show baseline 56
      sdpo-bench show baseline 56 --beside sdpo
    """
    with one_line_errors():
        panels, say = [], _once()
        for run in (name, beside):
            if run is not None:
                (item,) = find_evals(runs_dir, run, with_tests=True, say=say)[-1:]
                row = _row(item, task_id(task), sample)
                panels.append(_panel(item, row, say=say, alone=beside is None))
    out = console()
    width = out.width if beside is None else max((out.width - 1) // 2, 30)
    for panel in panels:
        panel.width = width
    out.print(Columns(panels, padding=(0, 1)) if beside is not None else panels[0])


def _once() -> Callable[[str], None]:
    """A voice that says each line once: every label is looked for in every journal."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            print_note(f"note: {line}")

    return say


def _refuse_itself(sides: Sequence[Side]) -> None:
    """Refuse a side that shares an evaluation with the first, or holds one twice: no difference is measured.

    Raises:
        StoredError: it does.
    """
    for number, side in enumerate(sides):
        names = [item.name for item in side.evals]
        shared = {item.name for item in sides[0].evals} & set(names) if number else set()
        twice = shared or {name for name in names if names.count(name) > 1}
        if twice:
            raise StoredError(
                "a comparison must be of different evaluations, got "
                f"{min(twice)} twice, as {sides[0].label!r} and {side.label!r}; name another"
            )


def _print_comparisons(found: list[Finding]) -> None:
    rows = [
        (f"{item.first}, {item.second}", *(("-",) * 4 if item.spoilt else _figures(item)))
        for item in found
    ]
    print_table(("sides", "pass@1", "points (95 %)", "p", "p Holm"), rows, wrapping="sides")
    for item in found:
        print_line(item.sentence + ".")
        if item.spoilt:
            continue
        least, flips = item.visible
        if least is not None:
            spread = "this spread of seeds" if item.over_seeds else "this spread of answers"
            given = spread if flips is None else f"{percent(flips)} of problems flipping"
            print_line(
                f"  {item.n} problems can show a difference of {least * 100:.1f} points or more "
                f"(80 % power, {given})."
            )


def _figures(item: Finding) -> tuple[str, ...]:
    """The cells of one comparison behind its names; no p-value is ever cut."""
    low, high = item.interval
    return (
        " ".join(map(percent, item.rates)),
        f"{item.difference * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f})",
        p_text(item.p),
        p_text(item.p_adjusted),
    )


def _as_json(item: Finding) -> dict[str, Any]:
    return {
        "first": item.first,
        "second": item.second,
        "n": item.n,
        "n_seeds": list(item.n_seeds),
        "pass_at_1": list(item.rates),
        "gained": list(item.gained_tasks),
        "lost": list(item.lost_tasks),
        "p": item.p,
        "p_holm": item.p_adjusted,
        "difference": item.difference,
        "interval": list(item.interval),
        "smallest_visible_difference": item.visible.difference,
        "distinguishable": item.distinguishable,
        "winner": item.winner,
        "differs": list(item.differs),
        "sentence": item.sentence,
    }


def _row(item: StoredEval, task: TaskId, sample: int) -> EvalResult:
    row = item.results.get((task, sample))
    if row is None:
        held = sorted({found for found, _ in item.results}, key=task_order)
        raise StoredError(
            f"the task must be one that {item.name} evaluated, got task {task!s:.100} sample {sample}; "
            f"it holds {len(held)} tasks: {', '.join(map(str, held[:5]))}{', ...' if len(held) > 5 else ''}"
        )
    return row


def _panel(item: StoredEval, row: EvalResult, *, say: Callable[[str], None], alone: bool) -> Panel:
    """One answer as a framed text; every word of it is text, never markup."""
    parts: list[Text] = []

    def add(heading: str, body: str | None) -> None:
        if body:
            left_out = len(body) - _LONGEST_SHOWN
            if left_out > 0:
                half = _LONGEST_SHOWN // 2
                body = f"{body[:half]}\n[{left_out:,} characters are not shown]\n{body[-half:]}"
                say(
                    f"{heading.lower()}: {left_out:,} characters in the middle are not shown; all of it: "
                    f"sdpo-bench sql \"FROM eval_results WHERE run_id = '{item.info.run_id}'\" --format json"
                )
            parts.append(Text(heading, style="bold"))
            parts.append(Text(printable(body).rstrip() + "\n"))

    if alone:
        add("Prompt", row.prompt)
    add("Completion", row.completion)
    verdicts = [
        f"{test.verdict:8} {test.assertion}" + (f"  got {test.got}" if test.got else "")
        for test in item.tests.get(row.execution_id, [])
    ]
    if row.n_asserts is not None:  # an imported log need not count them
        verdicts.insert(0, f"{row.n_passed} of {row.n_asserts} asserts")
    add("Verdicts", "\n".join(verdicts))
    add("Feedback", row.feedback)
    title = Text(printable(f"{item.label}  task {row.task_id}  {row.outcome}"))
    return Panel(Group(*parts), title=title)
