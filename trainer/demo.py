"""The smallest real run: our own policy, trained with GRPO and SDPO on a laptop, evaluated, charted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sandbox.client import open_sandbox
from trainer.config import Algorithm, parse_options
from trainer.demo_policy import make_demo_policy
from trainer.run import RunResult, Say, train

CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"
WARM_START_STEPS = 260
METHODS: tuple[Algorithm, ...] = ("grpo", "sdpo")


@dataclass(frozen=True)
class DemoResult:
    """What the demo trained, by algorithm."""

    policy: Path
    runs: dict[Algorithm, RunResult]


def run_demo(
    folder: Path, *, sandbox: str, runs_dir: Path, overrides: tuple[str, ...], say: Say
) -> DemoResult:
    """Make the policy (once: it is kept in `folder`), then train it with each method from the same start."""
    policy = folder / "policy"
    if not policy.is_dir():
        _warm_start(policy, sandbox)
    runs = {}
    for method in METHODS:
        say(f"\n{method}: training on the embedded problems")
        options = parse_options(
            CONFIG,
            [
                *("--model_name_or_path", str(policy)),
                *("--sandbox", sandbox),
                *("--runs_dir", str(runs_dir)),
                *("--label", f"demo-{method}"),
                *overrides,
            ],
        )
        runs[method] = train(method, options, say=say)
    return DemoResult(policy, runs)


def print_result(result: DemoResult, console: Console) -> None:
    """One row a method: pass@1 before and after, each with its 95 % interval."""
    table = Table(title="pass@1 on the problems trained on (greedy)")
    for heading in ("method", "start", "end", "95 % interval of the end"):
        table.add_column(heading, no_wrap=True)
    for method, run in result.runs.items():
        start, end = run.evaluations[0][1], run.evaluations[-1][1]
        low, high = end.interval
        table.add_row(
            method, f"{start.k}/{start.n}", f"{end.k}/{end.n}", f"{low:.0%} to {high:.0%}"
        )
    console.print(table)
    console.print(
        "These are the problems trained on, and few: the table shows that every part works, "
        "not which method is better."
    )


def _warm_start(policy: Path, backend: str) -> None:
    policy.parent.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("teaching a policy of our own"), BarColumn(), TimeElapsedColumn())
    with open_sandbox(backend) as sandbox, Progress(*columns) as progress:
        task = progress.add_task("", total=WARM_START_STEPS)
        make_demo_policy(
            policy,
            sandbox,
            n_steps=WARM_START_STEPS,
            progress=lambda n: progress.advance(task, n),
        )
