"""Measures one training step: this project's, the same with every row computed whole, and TRL's two trainers.

    python -m benchmarks.step --model DIR            # 4 problems x 4 completions of up to 128 tokens

Model, adapter, problems, seed of the sampling and grader are the same, so that all draw the same completions. Each
measurement has a process of its own, and the forms take turns. The figure is the CPU time of all threads from the
step's first sampled token to the end of its update; programs in the sandbox are other processes and do not count.
On a busy machine set OMP_NUM_THREADS=1: threads that wait for each other use CPU time, too.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.loss import status_bytes
from evaluator.models.objects import CausalModel
from evaluator.problems.prompt import MBPP
from sandbox.client import open_sandbox
from trainer.endings.faults import Patience
from trainer.options import shipped
from trainer.options.checks import adapter_config
from trainer.options.config import Options, parse_options
from trainer.options.prompting import Asking
from trainer.rollouts.rollouts import RolloutGrader
from trainer.step.loss_trainer import BenchTrainer
from trainer.step.timing import PhaseClock
from trainer.training.loading import load_model, rows_of_problems
from trainer.training.plan import problems_of
from trainer.training.train import train

FORMS = ("sdpo", "sdpo, whole rows", "trl sdpo", "grpo", "grpo, whole rows", "trl grpo")


@dataclass(frozen=True)
class Measured:
    """One process's figures for its one step."""

    cpu_s: float
    wall_s: float
    n_tokens: int
    """Completion tokens that were drawn."""
    peak_bytes: int
    """Resident memory since the process began, the model included."""
    n_read: int
    """Tokens that went through the model, padding included, in whatever pass."""
    phases: dict[str, float] = field(default_factory=dict)
    """CPU seconds by phase; TRL's trainers have none."""


class _Watch(TrainerCallback):
    """The clocks at the ends of the step, and what the trainer logs of it."""

    def __init__(self) -> None:
        self.began = self.ended = (0.0, 0.0)
        self.logged: dict[str, float] = {}

    def on_step_begin(self, *args: object, **kwargs: object) -> None:
        self.began = time.process_time(), time.perf_counter()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.ended = time.process_time(), time.perf_counter()

    def on_log(self, *args: object, logs: dict[str, float], **kwargs: object) -> None:
        self.logged = {**logs, **self.logged}


def measure(form: str, model: str, overrides: list[str]) -> Measured:
    """Train one step in one form."""
    watch, n_tokens, n_read = _Watch(), list[int](), list[int]()

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            n_read.append(inputs[0].numel())

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    with tempfile.TemporaryDirectory() as folder:
        options = parse_options(
            shipped.folder() / "smoke-cpu.yaml",
            ["--model_name_or_path", model, "--max_steps", "1", "--runs_dir", folder, *overrides],
        )
        if form.startswith("trl"):
            _train_trl(form, options, folder, watch, n_tokens)
        else:
            _train_ours(form, options, watch, n_tokens)
    hook.remove()
    cpu, wall = (after - before for after, before in zip(watch.ended, watch.began, strict=True))
    return Measured(
        cpu,
        wall,
        sum(n_tokens),
        status_bytes("VmHWM"),
        sum(n_read),
        {
            name.removeprefix("time/").removesuffix("_s"): value
            for name, value in watch.logged.items()
            if name.startswith("time/")
        },
    )


def _train_ours(form: str, options: Options, watch: _Watch, n_tokens: list[int]) -> None:
    algorithm, _, whole = form.partition(", ")

    def prepare(trainer: BenchTrainer) -> None:
        trainer.clock = PhaseClock(now=time.process_time)
        trainer.add_callback(watch)
        _count(trainer, "_generate_single_turn", n_tokens)

    with _whole_rows() if whole else nullcontext():
        train(algorithm, options, say=lambda _: None, prepare=prepare)  # type: ignore[arg-type]


@contextmanager
def _their_attention() -> Iterator[None]:
    """Attention as in transformers, which copies keys and values for each query head of a token."""
    with patch("evaluator.sampling.model.share_keys_and_values", lambda: None):
        yield


@contextmanager
def _whole_rows() -> Iterator[None]:
    """Every row padded and computed whole, prompts too, and rollouts drawn through the adapter."""
    with (
        _their_attention(),
        patch("trainer.step.rollout_trainer.merged_adapter", lambda _: nullcontext()),
        patch(
            "trainer.step.rollout_trainer.RolloutTrainer._arranged", lambda self, batches: batches
        ),
        patch("trainer.step.forward.shared_inputs", lambda *_: None),
        patch("evaluator.models.shared_prompt.prefilled", lambda *_: {}),
    ):
        yield


def _train_trl(
    form: str, options: Options, folder: str, watch: _Watch, n_tokens: list[int]
) -> None:
    bench = options.bench
    with _their_attention():
        model, tokenizer = load_model(options)
    problems = problems_of(bench, bench.dataset, bench.max_problems)
    with open_sandbox(bench.sandbox) as sandbox:
        grader = RolloutGrader(
            {problem.task_id: problem for problem in problems.problems},
            sandbox,
            timeout_s=bench.timeout_s,
            format_weight=bench.format_weight,
            patience=Patience(bench.fault_patience_s, lambda _: None),
        )
        common: dict[str, Any] = {
            "reward_funcs": [grader.correctness, grader.format_score],
            "train_dataset": Dataset.from_list(rows_of_problems(problems, Asking(MBPP))),
            "processing_class": tokenizer,
            "peft_config": adapter_config(options.model),
        }
        training = options.training
        training.output_dir, training.reward_weights = folder, [1.0, bench.format_weight]
        if form == "trl grpo":
            trainer: Any = GRPOTrainer(model, args=training, **common)
            sampler = "_generate_single_turn"
        else:
            trainer = _trl_sdpo(model, training, common, grader)
            sampler = "_generate_transformers"
        _count(trainer, sampler, n_tokens, seed=int(training.seed) + 7_919)
        trainer.add_callback(watch)
        trainer.train()


def _trl_sdpo(
    model: CausalModel,
    training: GRPOConfig,
    common: dict[str, Any],
    grader: RolloutGrader,
) -> Any:  # noqa: ANN401
    """TRL's experimental trainer with our loss; it is given the batch's feedback, for which it reads a column."""
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    names = (
        "output_dir", "use_cpu", "bf16", "gradient_checkpointing", "per_device_train_batch_size",
        "gradient_accumulation_steps", "num_generations", "max_completion_length", "temperature", "learning_rate",
        "lr_scheduler_type", "warmup_steps", "max_steps", "seed", "beta", "save_strategy", "logging_steps",
        "report_to", "disable_tqdm", "reward_weights",
    )  # fmt: skip
    args = SDPOConfig(
        **{name: getattr(training, name) for name in names},
        max_prompt_length=None,
        distillation_mode="topk_logits",
        distillation_topk=100,
        distillation_alpha=0.5,
        distillation_add_tail=True,
        distillation_weight=1.0,
        teacher_model_kind="ema",
        teacher_update_rate=0.05,
        include_environment_feedback=True,
        success_reward_threshold=1.0,
    )
    trainer = SDPOTrainer(model, args=args, **common)
    builder = trainer.teacher_context_builder
    build = builder.build

    def with_feedback(output: Any, prompts: Any, rewards: Any, feedbacks: Any = None) -> Any:  # noqa: ANN401
        return build(output, prompts, rewards, [rollout.feedback for rollout in grader.graded])

    builder.build = with_feedback
    return trainer


def _count(trainer: Any, name: str, n_tokens: list[int], seed: int | None = None) -> None:  # noqa: ANN401
    """Note how many tokens the trainer's sampler draws; with `seed`, from the random state of our first batch."""
    sample = getattr(trainer, name)

    def counted(*args: object, **kwargs: object) -> Any:  # noqa: ANN401
        if seed is not None:
            torch.manual_seed(seed)
        found = sample(*args, **kwargs)
        completions = found[1] if name == "_generate_transformers" else found[0]
        n_tokens.append(sum(map(len, completions)))
        return found

    setattr(trainer, name, counted)


# side by side


@dataclass(frozen=True)
class Row:
    """One form's figures: medians over the rounds, and of the ratio within a round to the first form."""

    form: str
    cpu_s: float
    wall_s: float
    ratio: float
    n_tokens: float
    n_read: float
    peak_bytes: float
    phases: dict[str, float]


def compare(
    forms: tuple[str, ...],
    model: str,
    overrides: list[str],
    *,
    rounds: int,
    say: Callable[[str], None],
) -> list[Row]:
    """Measure every form `rounds` times, in turns, each round with a seed of its own."""
    measured: dict[str, list[Measured]] = {form: [] for form in forms}
    for number in range(rounds):
        for form in forms:
            seeded = [*overrides, "--seed", str(42 + number)]
            measured[form].append(_in_a_process(form, model, seeded))
            say(f"round {number + 1}, {form}: {measured[form][-1]}")
    first = measured[forms[0]]
    return [
        Row(
            form=form,
            cpu_s=statistics.median(m.cpu_s for m in mine),
            wall_s=statistics.median(m.wall_s for m in mine),
            ratio=statistics.median(m.cpu_s / f.cpu_s for m, f in zip(mine, first, strict=True)),
            n_tokens=statistics.median(m.n_tokens for m in mine),
            n_read=statistics.median(m.n_read for m in mine),
            peak_bytes=statistics.median(m.peak_bytes for m in mine),
            phases={
                name: statistics.median(m.phases.get(name, 0.0) for m in mine)
                for name in mine[0].phases
            },
        )
        for form, mine in measured.items()
    ]


def _in_a_process(form: str, model: str, overrides: list[str]) -> Measured:
    task = json.dumps({"form": form, "model": model, "overrides": overrides})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.step", "--one", task],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


_COLUMNS = ("step", "CPU s", "of the first", "wall s", "tokens drawn", "tokens read", "peak MiB")
_PHASES = ("sampling", "student", "teacher", "rest")


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| " + " | ".join((*_COLUMNS, *_PHASES)) + " |",
        "| " + " | ".join("---" for _ in (*_COLUMNS, *_PHASES)) + " |",
    ]
    for r in rows:
        phases = [f"{r.phases[name]:.1f}" if name in r.phases else "" for name in _PHASES]
        lines.append(
            f"| {r.form} | {r.cpu_s:.1f} | {r.ratio:.2f} | {r.wall_s:.1f} | {r.n_tokens:.0f} | {r.n_read:.0f} | "
            f"{r.peak_bytes / 2**20:.0f} | {' | '.join(phases)} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Steps of each form.")
@click.option("--form", "forms", multiple=True, type=click.Choice(FORMS), default=FORMS)
@click.option("--tokens", default=128, show_default=True, help="Longest completion.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows there.")
@click.option("--one", hidden=True, help="One measurement, as JSON: what the processes run.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def main(
    *,
    model: str,
    rounds: int,
    forms: tuple[str, ...],
    tokens: int,
    json_file: Path | None,
    one: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure a training step side by side; after `--` any options of `train`."""
    if one is not None:
        click.echo(json.dumps(asdict(measure(**json.loads(one)))))
        return
    asked = ["--max_completion_length", str(tokens), "--sandbox", "process", *overrides]
    rows = compare(forms, model, asked, rounds=rounds, say=lambda line: click.echo(line, err=True))
    click.echo(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, {rounds} rounds")
    click.echo(table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
