"""What an `eval` costs beside its sampling and grading, measured in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from evaluator.cli import command_options
from evaluator.cli.terminal import one_line_errors, print_line, print_table
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import gold_answers

_PARTS = ("torch", "loading", "sampling", "grading")
"""Of a whole `eval`: importing torch and transformers, loading the weights, and the work itself."""


Result = TypeVar("Result")
P = ParamSpec("P")


@dataclass
class Clock:
    """Wall and processor time of this process, in seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def run(self, work: Callable[[], Result]) -> Result:
        """Do some work and add its time."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        return result


@click.command()
@command_options.model(required=True)
@command_options.dtype()
@command_options.sandbox()
@command_options.dataset()
def overhead(model: str, dtype: str, backend: str, dataset: str) -> None:
    """Run a whole `eval` of one token a problem, and one of recorded answers, in a fresh process each."""
    with tempfile.TemporaryDirectory() as folder, one_line_errors():
        answers = Path(folder) / "answers.jsonl"
        answers.write_text(
            "".join(
                json.dumps({"task_id": answer.problem.task_id, "completion": answer.completion})
                + "\n"
                for answer in gold_answers(load_problems(dataset).problems)
            )
        )
        common = ["--dataset", dataset, "--sandbox", backend, "--runs-dir", f"{folder}/runs"]
        sampled = ["--model", model, "--dtype", dtype, "--max-new-tokens", "1"]
        found = {
            name: _measured([*common, *options])
            for name, options in (
                ("recorded answers", ["--completions", str(answers)]),
                ("a model, first time", sampled),
                ("a model, again", sampled),
            )
        }
    for kind in ("wall_s", "cpu_s"):
        print_table(
            ("eval of", kind.replace("_", " "), *_PARTS, "else"),
            [_row(name, clocks, kind) for name, clocks in found.items()],
        )
    print_line("cpu s is that of the command itself, without the sandbox's processes.")


def _measured(options: Sequence[str]) -> dict[str, Clock]:
    """Times of one `eval` in a process of its own: the whole, and its parts by name."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluation", "inner", "--", *options],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    if done.returncode:
        raise click.ClickException((done.stderr.strip().splitlines() or ["eval failed"])[-1])
    clocks = {
        name: Clock(*times) for name, times in json.loads(done.stdout.splitlines()[-1]).items()
    }
    clocks["whole"].wall_s = time.perf_counter() - started  # with the start of the interpreter
    return clocks


def _row(name: str, clocks: dict[str, Clock], kind: str) -> tuple[str, ...]:
    """One line of a table; what is none of the parts is the evaluator's own."""
    whole, *parts = (getattr(clocks[part], kind) for part in ("whole", *_PARTS))
    return (name, *(f"{seconds:.2f}" for seconds in (whole, *parts, whole - sum(parts))))


@click.command(hidden=True)
@click.argument("options", nargs=-1)
def inner(options: tuple[str, ...]) -> None:
    """Run `eval` with clocks around its sampling, grading and loading."""
    from evaluator.cli.eval import eval_command
    from evaluator.engines import worker
    from evaluator.evaluation import evaluate, self_check
    from evaluator.sampling import batches

    clocks = {name: Clock() for name in _PARTS}
    if "--model" in options:
        clocks["torch"].run(_import_libraries)

    def timed(name: str, work: Callable[P, Result]) -> Callable[P, Result]:
        return lambda *args, **kwargs: clocks[name].run(lambda: work(*args, **kwargs))

    for module, attribute, name in (
        (batches, "sample_batch", "sampling"),
        (evaluate, "grade", "grading"),
        (self_check, "grade", "grading"),
        (worker, "load_policy", "loading"),
    ):
        setattr(module, attribute, timed(name, getattr(module, attribute)))
    eval_command(list(options), standalone_mode=False)
    clocks["whole"] = Clock(cpu_s=time.process_time())
    print(json.dumps({name: (clock.wall_s, clock.cpu_s) for name, clock in clocks.items()}))


def _import_libraries() -> None:
    """Import what any sampling with transformers imports."""
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: F401
