"""The whole benchmark as stages, each a command of this project; the runs show which stages are done.

A stage is known by its label. One that finished is not run again, one that was interrupted goes on from its
last checkpoint: so the command can be killed and given again at any time.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.installation import own_command
from trainer.endings.exit_codes import INTERRUPTED, STOPPED
from trainer.endings.supervise import handled
from trainer.options.early import last_of_each, values_of

METHODS = ("grpo", "sdpo", "hybrid")
PUBLISHED = {
    "grpo": "1.17 % (3 of 257)",
    "sdpo": "1.95 % (5 of 257)",
    "audit": "largest delta about 1.4e-8",
}
"""What the benchmark that this reproduces reports at step 200, one seed, without intervals."""
WHY = (
    "The published figures come from prompts that do not name the tested function: nearly all failures are NameError, "
    "for a base model whose makers publish about 50 %. `sdpo-bench eval --protocol description-only` shows the same "
    "collapse. 3 against 5 of 257 is p = 0.50 (exact McNemar, at best): not distinguishable."
)


class StageFailed(Exception):
    """A stage did not end well; the message is one line for the user."""


@dataclass(frozen=True)
class Stage:
    """One run of the benchmark."""

    label: str
    words: tuple[str, ...]
    """The command, without `sdpo-bench`."""
    steps: int
    """Optimizer steps; 0 for an evaluation."""
    method: str
    """grpo, sdpo, hybrid, audit or baseline."""
    model: str


@dataclass(frozen=True)
class Known:
    """A run that exists."""

    run_id: str
    finished: bool
    kind: str
    steps: int | None = None
    """Optimizer steps that it was asked for."""
    model: str | None = None


Execute = Callable[[Sequence[str]], int]
"""Runs `sdpo-bench` with some words; returns its exit status."""


def stages(
    *,
    model: str,
    seeds: Sequence[int],
    steps: int,
    configs: Path,
    overrides: Sequence[str],
    eval_options: Sequence[str],
) -> list[Stage]:
    """Return the stages in order: the baseline, each method with each seed, an audit."""
    precision = _precision(configs / "sdpo.yaml", overrides)
    baseline = ("eval", "--model", model, "--base-only", *precision, *eval_options)
    found = [Stage("reproduce-baseline", baseline, 0, "baseline", model)]
    for seed in seeds:
        for method in METHODS:
            file = configs / f"{method}.yaml"
            rest = ["--evaluate_every", "50", *overrides]
            found.append(_training(method, file, model, seed, steps, rest))
    # the oracle reads float32 without dropout, whatever the methods do, and its figures need no evaluation
    exact = (
        "--dtype float32 --bf16 false --load_in_4bit false --use_unsloth false --lora_dropout 0.0"
    ).split()
    rest = ["--evaluate_every", "0", *overrides, *exact]
    return [*found, _training("audit", configs / "sdpo.yaml", model, seeds[0], steps, rest)]


def _precision(file: Path, overrides: Sequence[str]) -> list[str]:
    """Options by which the baseline is measured on the weights that the methods train on."""
    given = values_of(overrides)
    content = yaml.safe_load(file.read_text())
    dtype = given.get("dtype", content.get("dtype"))
    in_4_bits = str(given.get("load_in_4bit", content.get("load_in_4bit", False))).lower()
    found = ["--dtype", dtype] if dtype else []
    return [*found, "--load-in-4bit"] if in_4_bits == "true" else found


def _training(
    method: str, file: Path, model: str, seed: int, steps: int, rest: Sequence[str]
) -> Stage:
    options = (
        *("--model_name_or_path", model, "--seed", str(seed), "--max_steps", str(steps)),
        *("--save_steps", "50", "--label", f"reproduce-{method}-{seed}", *rest),
    )
    words = ("train", method, "--config", str(file), *last_of_each(options))
    return Stage(f"reproduce-{method}-{seed}", words, steps, method, model)


def run_all(
    todo: Sequence[Stage], *, runs_dir: Path, execute: Execute, say: Callable[[str], None]
) -> None:
    """Run what is not finished.

    Raises:
        StageFailed: a stage ended with another status than 0, or its run is of another model or length.
    """
    known = known_runs(runs_dir)
    check_same(todo, known)
    for number, stage in enumerate(todo, start=1):
        there = known.get(stage.label)
        if there is not None and there.finished:
            say(f"[{number}/{len(todo)}] {stage.label}: done before")
            continue
        say(f"[{number}/{len(todo)}] {stage.label}")
        status = execute(_words(stage, there, runs_dir))
        if status in (STOPPED, INTERRUPTED):
            raise StageFailed(f"stopped in {stage.label}; the same command goes on from here")
        if status != 0:
            raise StageFailed(
                f"{stage.label} must end with status 0, got {status}; its words are above, and the same "
                "command goes on from here"
            )


def check_same(todo: Sequence[Stage], known: Mapping[str, Known]) -> None:
    """Refuse runs of the stages' labels that were asked for another thing: their figures are of that.

    Raises:
        StageFailed: one is there.
    """
    for stage in todo:
        there = known.get(stage.label)
        if there is None:
            continue
        of_it = f"{there.run_id} is of {there.model!r}"
        asked = f"{stage.model!r}"
        if stage.steps and there.steps is not None:
            of_it, asked = f"{of_it} and {there.steps} steps", f"{asked} and {stage.steps} steps"
        other_model = there.model is not None and not _is_same_model(there.model, stage.model)
        if other_model or (stage.steps and there.steps not in (None, stage.steps)):
            raise StageFailed(
                f"the runs of one reproduction must be of one model and length, got {asked}, and {of_it}; "
                "name another --runs-dir, or what that run was given"
            )


def _is_same_model(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def _words(stage: Stage, there: Known | None, runs_dir: Path) -> list[str]:
    if there is None:
        option = "--runs_dir" if stage.steps else "--runs-dir"
        label = [] if stage.steps else ["--label", stage.label]
        return [*stage.words, *label, option, str(runs_dir)]
    if there.kind == "train":
        return ["train", "--resume", str(runs_dir / there.run_id)]
    return ["eval", "--resume", there.run_id, "--runs-dir", str(runs_dir)]


def known_runs(runs_dir: Path) -> dict[str, Known]:
    """Return the newest run of each label that begins with `reproduce-`."""
    if not runs_dir.is_dir():
        return {}
    query = (
        "SELECT label, run_id, state = 'finished' AS finished, kind, planned_steps AS steps, model FROM run_overview "
        "WHERE starts_with(label, 'reproduce-') "
        "ORDER BY (SELECT sequence FROM runs r WHERE r.run_id = run_overview.run_id) NULLS FIRST, created_at"
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = asked(query, runs_dir, "--results", f"{folder}/r.duckdb")
    return {row.pop("label"): Known(**row) for row in rows}


def asked(query: str, runs_dir: Path, *further: str) -> list[dict[str, Any]]:
    """Return the rows of a query over the runs, by `sdpo-bench sql`.

    Raises:
        StageFailed: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        words = ["sql", "--runs-dir", str(runs_dir), "--format", "json", "--output", str(file)]
        if execute_here([*words, *further, query], quiet=True) != 0 or not file.is_file():
            raise StageFailed(
                f"the runs in {runs_dir} must be readable; see `sdpo-bench runs --runs-dir {runs_dir}`"
            )
        rows: list[dict[str, Any]] = json.loads(file.read_text())
    return rows


def execute_here(words: Sequence[str], *, quiet: bool = False) -> int:
    """Run `sdpo-bench` with this interpreter.

    Ctrl-C is the child's to answer: it reaches it by itself, and training finishes its step first.
    """
    out = subprocess.DEVNULL if quiet else None
    with handled([signal.SIGINT], lambda number, frame: None):
        return subprocess.run(own_command(*words), stdout=out, stderr=out, check=False).returncode


def comparison(todo: Sequence[Stage]) -> list[str]:
    """Return the words of the final comparison: every two of the baseline and the methods' seeds."""
    sides = [
        ",".join(stage.label for stage in todo if stage.method == method) for method in METHODS
    ]
    return ["compare", "--every-pair", "reproduce-baseline", *sides]


def measured_step_s(gpu_check: Path) -> dict[str, float]:
    """Seconds of a step, by method, as `make gpu-check` measured them; empty where it has not run."""
    try:
        parts = json.loads(gpu_check.read_text())["parts"]
    except (OSError, ValueError, KeyError):
        return {}
    return {
        part["name"].removeprefix("train "): float(part["figures"]["step_s"])
        for part in parts
        if part["name"].startswith("train ") and part["figures"].get("step_s")
    }


def plan_lines(
    todo: Sequence[Stage], *, step_s: Mapping[str, float], known: Mapping[str, Known]
) -> list[str]:
    """Return what would be run, with hours where a step was measured."""
    lines, total, unknown = [], 0.0, 0
    for stage in todo:
        if stage.label in known and known[stage.label].finished:
            lines.append(f"{stage.label:24} done")
        elif not stage.steps:
            lines.append(f"{stage.label:24} evaluation")
        elif stage.method in step_s:
            hours = stage.steps * step_s[stage.method] / 3600
            total += hours
            lines.append(
                f"{stage.label:24} {stage.steps} steps of {step_s[stage.method]:.1f} s: {hours:.1f} h"
            )
        else:
            unknown += 1
            lines.append(f"{stage.label:24} {stage.steps} steps, not measured")
    sums = [f"{total:.1f} hours of training steps"] if step_s or not unknown else []
    if unknown:
        sums.append(f"{unknown} stages whose step was not measured (make gpu-check measures it)")
    return [*lines, f"{', and '.join(sums)}; evaluations come on top"]


def published_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return ours beside the published figures; `rows` are those of the leaderboard's last evaluations."""
    lines = [
        "method    seed  step  ours                              published (step 200, one seed)"
    ]
    for row in rows:
        low, high = 100 * row["interval_low"], 100 * row["interval_high"]
        answers = "" if row["n_answers"] == row["n"] else " answers"
        counted = f"{row['n_passed']} of {row['n_answers']}{answers}"
        ours = f"{100 * row['pass_at_1']:.2f} % ({counted}; {low:.1f} to {high:.1f})"
        step = "-" if row["step"] is None else str(row["step"])
        published = PUBLISHED.get(row["algorithm"], "-")
        lines.append(f"{row['algorithm']:8}  {row['seed']!s:4}  {step:4}  {ours:32}  {published}")
    return [*lines, WHY]
