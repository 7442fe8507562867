"""Measures how fast evaluation is, in turns with what it is compared with.

python -m benchmarks.evaluation sampling --model DIR     beside a bare loop of model.generate, batch by batch
python -m benchmarks.evaluation grading                  the references of a data set, wall and processor time
python -m benchmarks.evaluation overhead --model DIR     a whole `eval`, less its sampling and grading
python -m benchmarks.evaluation pass-at-k                a million stored completions, in SQL
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.evaluation_overhead import Clock, inner, overhead
from evaluator.cli import command_options
from evaluator.cli.terminal import one_line_errors, print_line, print_table
from evaluator.evaluation.evaluate import graded_batches, in_batches
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP
from evaluator.sampling.batches import SamplingPlan
from evaluator.sampling.completions import gold_answers, read_completions
from evaluator.sampling.decoding import generation_settings
from evaluator.sampling.generate import generate_rows
from evaluator.sampling.model import Policy, load_policy
from evaluator.sampling.policy import Batch, Decoding
from sandbox.client import open_sandbox

_SLOW_MS = 500
"""A program that takes more processor time decides alone how long its batch takes."""


@click.group()
def bench() -> None:
    """Measure the speed of evaluation."""


@bench.command()
@command_options.model(required=True)
@command_options.dtype()
@command_options.device()
@command_options.batch_size()
@command_options.max_new_tokens()
@click.option("--batches", "n_batches", default=3, show_default=True, help="Evenly spaced.")
@command_options.dataset()
def sampling(
    model: str,
    dtype: str,
    device: str,
    batch_size: int,
    max_new_tokens: int,
    n_batches: int,
    dataset: str,
) -> None:
    """Sample some batches three ways, turn about: as `eval`, without its stop rule, and barely."""
    with one_line_errors():
        problems = load_problems(dataset).problems
        policy = load_policy(model, device=device, dtype=dtype)
    plan = SamplingPlan(
        problems,
        policy,
        protocol=MBPP,
        shots=(),
        decoding=Decoding(max_new_tokens=max_new_tokens),
        batch_size=batch_size,
    )
    step = max(1, len(plan.batches) // n_batches)
    chosen = list(range(step // 2, len(plan.batches), step))[:n_batches]
    clocks = {name: Clock() for name in ("eval", "no stop rule", "bare generate")}
    n_tokens = dict.fromkeys(clocks, 0)
    n_equal = n_rows = 0
    _bare(policy, plan.batches[chosen[0]], max_new_tokens=2)  # nobody pays for the first call
    for turn, index in enumerate(chosen):
        batch = plan.batches[index]
        ways: dict[str, Callable[[], Any]] = {
            "eval": partial(plan.answers, index),
            "no stop rule": partial(_unstopped, policy, batch, max_new_tokens),
            "bare generate": partial(_bare, policy, batch, max_new_tokens=max_new_tokens),
        }
        names = list(ways)
        found = {}
        for name in names[turn % 3 :] + names[: turn % 3]:
            found[name] = clocks[name].run(ways[name])
        n_tokens["eval"] += sum(answer.n_tokens or 0 for answer in found["eval"])
        n_tokens["no stop rule"] += sum(row.n_tokens for row in found["no stop rule"])
        n_equal += sum(
            row.text == text
            for row, text in zip(found["no stop rule"], found["bare generate"], strict=True)
        )
        n_rows += len(batch.indices)
    n_tokens["bare generate"] = n_tokens["no stop rule"]
    _print_ways(clocks, n_tokens)
    print_line(f"{n_equal} of {n_rows} texts without the stop rule equal those of bare generate.")


def _print_ways(clocks: Mapping[str, Clock], n_tokens: Mapping[str, int]) -> None:
    bare = clocks["bare generate"]
    print_table(
        ("way", "wall s", "of bare", "cpu s", "of bare", "tokens"),
        [
            (
                name,
                f"{clock.wall_s:.1f}",
                f"{clock.wall_s / bare.wall_s:.2f}",
                f"{clock.cpu_s:.1f}",
                f"{clock.cpu_s / bare.cpu_s:.2f}",
                f"{n_tokens[name]}",
            )
            for name, clock in clocks.items()
        ],
    )


def _unstopped(policy: Policy, batch: Batch, max_new_tokens: int) -> list[Any]:
    """Our own call, without the rule that ends an answer."""
    return generate_rows(
        policy.model,
        policy.tokenizer,
        batch.token_ids,
        rules=None,
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        top_p=1.0,
        seed=0,
    )


def _bare(policy: Policy, batch: Batch, *, max_new_tokens: int) -> list[str]:
    """What one would write with transformers alone."""
    import torch

    model, tokenizer = policy.model, policy.tokenizer
    inputs = tokenizer(
        list(batch.prompts),
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
    ).to(model.device)
    settings = generation_settings(
        model, tokenizer, max_new_tokens=max_new_tokens, temperature=0.0, top_p=1.0
    )
    with torch.inference_mode():
        output = model.generate(**inputs, generation_config=settings)
    texts: list[str] = tokenizer.batch_decode(
        output[:, inputs["input_ids"].shape[1] :],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    return texts


@bench.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--workers", "n_workers", default=2, show_default=True)
@click.option(
    "--completions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recorded answers in place of the references.",
)
@command_options.sandbox()
@command_options.dataset()
def grading(
    repeats: int, n_workers: int, completions: Path | None, backend: str, dataset: str
) -> None:
    """Grade the references of a data set, or recorded answers, some times."""
    with one_line_errors():
        problem_set = load_problems(dataset)
        answers = (
            gold_answers(problem_set.problems)
            if completions is None
            else read_completions(completions, problem_set)
        )
        with open_sandbox(backend, n_workers=n_workers) as sandbox:
            rows = []
            for _ in range(repeats):
                clock = Clock()
                graded = clock.run(
                    lambda: [
                        item
                        for batch in graded_batches(in_batches(answers), sandbox, timeout_s=5.0)
                        for item in batch
                    ]
                )
                programs_s = sum(item.grade.execution.cpu_ms for item in graded) / 1000
                rows.append((clock.wall_s, clock.cpu_s, programs_s))
            name = sandbox.name
    print_table(
        ("", "wall s", "cpu s here", "cpu s of the programs"),
        [
            (word, *(f"{of(column):.2f}" for column in zip(*rows, strict=True)))
            for word, of in (("least", min), ("median", statistics.median), ("most", max))
        ],
    )
    print_line(f"{len(answers)} completions, {repeats} times, {n_workers} workers, {name}")
    slow = {
        item.answer.problem.task_id: item.grade.execution.cpu_ms / 1000
        for item in graded
        if item.grade.execution.cpu_ms > _SLOW_MS
    }
    print_line(
        f"{len(slow)} programs took over {_SLOW_MS / 1000} s of processor time"
        + "".join(f", task {task_id} {cpu_s:.2f} s" for task_id, cpu_s in slow.items())
        + f"; the other {len(answers) - len(slow)} took {programs_s - sum(slow.values()):.2f} s"
    )


bench.add_command(overhead)
bench.add_command(inner)

if __name__ == "__main__":
    bench()
