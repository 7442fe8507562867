"""One training run from options to adapter: what is opened, in which order, and what is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import get_peft_config

from analysis.journal import Journal
from analysis.provenance import folder_sha256, run_info
from evaluator.evaluate import EvalSummary, evaluate
from evaluator.mbpp import ProblemSet, load_problems
from evaluator.model import Decoding, Policy, choose_device, load_base
from evaluator.prompt import messages, protocol_for
from sandbox.client import Sandbox, open_sandbox
from trainer.adapter import BenchTrainer
from trainer.audit import Layer
from trainer.audited import AuditedTrainer, EndOfStep
from trainer.callbacks import Evaluation, ProgressLine, StopOnNonFinite, TeacherUpdate
from trainer.config import Algorithm, BenchConfig, ConfigError, Options
from trainer.resume import MarkComplete, checkpoint_step, last_checkpoint, recall, remember
from trainer.rollouts import RolloutGrader

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunResult:
    """Where a finished run left its results."""

    run_dir: Path
    adapter_dir: Path
    n_steps: int
    evaluations: tuple[tuple[int, EvalSummary], ...]
    """(optimizer step, summary), in order of the steps."""
    layers: tuple[Layer, ...]
    """What an audit run found; empty for other runs."""


def resume(run_dir: Path, *, say: Say) -> RunResult:
    """Go on with an interrupted run from its last whole checkpoint, or from the start where it has none.

    Raises:
        ConfigError, DatasetError, ModelError, SandboxError, StoreError: with one line for the user.
    """
    algorithm, options = recall(run_dir)
    return train(algorithm, options, say=say, run_dir=run_dir)


def train(
    algorithm: Algorithm,
    options: Options,
    *,
    say: Say,
    run_dir: Path | None = None,
    prepare: Callable[[BenchTrainer], None] | None = None,
) -> RunResult:
    """Train one policy; everything it did is in `runs/<run_id>/` afterwards.

    `run_dir` is the folder of an interrupted run of the same options; see `resume`. `prepare` is given
    the trainer before its first step, for callbacks that a run of the command line has not.

    Raises:
        ConfigError, DatasetError, ModelError, SandboxError, StoreError: with one line for the user.
    """
    bench = options.bench
    problems = _problems(bench, bench.dataset, bench.max_problems)
    eval_problems = (
        _problems(bench, bench.eval_dataset, bench.eval_max_problems)
        if bench.evaluate_every
        else None
    )
    _check_audit(algorithm, options)
    model, tokenizer = _load(options)

    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(open_sandbox(bench.sandbox))
        checkpoint = None if run_dir is None else last_checkpoint(run_dir)
        if run_dir is None:
            journal = stack.enter_context(_journal(algorithm, options, problems, sandbox))
            remember(journal.run_dir, algorithm, options)
        else:
            step = 0 if checkpoint is None else checkpoint_step(checkpoint)
            journal = stack.enter_context(Journal.resume(run_dir, step=step))
            say(f"resumed after step {step}")
        say(
            f"run {journal.info.run_id}: {algorithm}, {len(problems.problems)} problems, {sandbox.name}"
        )
        trainer = _trainer(algorithm, options, model, tokenizer, problems, sandbox, journal)
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.add_callback(ProgressLine(say))
        evaluations: list[tuple[int, EvalSummary]] = []
        if eval_problems is not None:
            evaluator = _Evaluator(trainer, eval_problems, sandbox, journal, say, evaluations)
            trainer.add_callback(Evaluation(evaluator, every=bench.evaluate_every))
        if prepare is not None:
            prepare(trainer)

        _train_from(trainer, checkpoint)

        adapter_dir = journal.run_dir / "adapter"
        _save(trainer, tokenizer, adapter_dir)
    return RunResult(
        run_dir=journal.run_dir,
        adapter_dir=adapter_dir,
        n_steps=int(trainer.state.global_step),
        evaluations=tuple(evaluations),
        layers=tuple(trainer.auditor.layers()) if isinstance(trainer, AuditedTrainer) else (),
    )


def _train_from(trainer: BenchTrainer, checkpoint: Path | None) -> None:
    if checkpoint is None:
        trainer.train()
        return
    if trainer.teacher is not None:
        trainer.teacher.load(checkpoint)
    if (checkpoint_step(checkpoint) or 0) < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(checkpoint))
        return
    # Killed after its last step: transformers would train one step more before it looks at max_steps.
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state.global_step = trainer.args.max_steps


def _check_audit(algorithm: Algorithm, options: Options) -> None:
    if algorithm != "audit":
        return
    if options.model.use_peft and options.model.lora_dropout > 0:
        raise ConfigError(
            f"an audit must run without dropout, got lora_dropout {options.model.lora_dropout}; set it to 0.0"
        )
    if options.training.use_vllm:
        raise ConfigError(
            "an audit must sample with the weights it trains, got use_vllm; set it to false"
        )
    if options.training.world_size > 1 or options.training.num_iterations > 1:
        raise ConfigError(
            "an audit must run in one process with one update a rollout batch, got "
            f"{options.training.world_size} processes and num_iterations {options.training.num_iterations}"
        )


def _problems(bench: BenchConfig, name: str, limit: int | None) -> ProblemSet:
    mbpp_dir = None if bench.mbpp_dir is None else Path(bench.mbpp_dir)
    return load_problems(name, mbpp_dir=mbpp_dir, limit=limit)


def _load(options: Options) -> tuple[Any, Any]:
    """The base model and its tokenizer, on the training device."""
    model = options.model
    if model.model_name_or_path is None:
        raise ConfigError(
            "model_name_or_path must name a model, got none; set it to a folder or hub name"
        )
    return load_base(
        model.model_name_or_path,
        device=choose_device("cpu" if options.training.use_cpu else "auto"),
        dtype=model.dtype or "auto",
        load_in_4bit=model.load_in_4bit,
        unsloth=options.bench.use_unsloth,
    )


def _journal(
    algorithm: Algorithm, options: Options, problems: ProblemSet, sandbox: Sandbox
) -> Journal:
    bench = options.bench
    protocol = protocol_for(bench.visible_tests)  # type: ignore[arg-type]  # checked by BenchConfig
    name = str(options.model.model_name_or_path)
    info = run_info(
        kind="train",
        algorithm=algorithm,
        label=bench.label or algorithm,
        config=options.resolved(),
        seed=options.training.seed,
        model=name,
        model_sha256=folder_sha256(Path(name)) if Path(name).is_dir() else None,
        dataset=problems.name,
        dataset_sha256=problems.sha256,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        sandbox=sandbox.name,
        device=_device(),
    )
    return Journal.create(Path(bench.runs_dir), info)


def _device() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None}
    return {
        "gpu": torch.cuda.get_device_name(),
        "gpu_memory_bytes": torch.cuda.get_device_properties(0).total_memory,
    }


def _trainer(
    algorithm: Algorithm,
    options: Options,
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    problems: ProblemSet,
    sandbox: Sandbox,
    journal: Journal,
) -> BenchTrainer:
    bench, training = options.bench, options.training
    training.output_dir = str(journal.run_dir / "checkpoints")
    training.reward_weights = [1.0, bench.format_weight]  # in the order of the grader's functions
    grader = RolloutGrader(
        {problem.task_id: problem for problem in problems.problems},
        sandbox,
        timeout_s=bench.timeout_s,
        format_weight=bench.format_weight,
        special_tokens=tokenizer.all_special_tokens,
    )
    # the adapter's initial weights are drawn here, before TRL seeds
    transformers.set_seed(training.seed)
    kind = AuditedTrainer if algorithm == "audit" else BenchTrainer
    trainer = kind(
        model,
        algorithm=algorithm,
        config=bench,
        grader=grader,
        journal=journal,
        args=training,
        train_dataset=_dataset(problems, bench),
        processing_class=tokenizer,
        peft_config=get_peft_config(options.model),
    )
    trainer.add_callback(StopOnNonFinite())
    if trainer.teacher is not None:
        updates = training.steps_per_generation * training.num_iterations
        steps_per_rollout = max(1, updates // training.gradient_accumulation_steps)
        trainer.add_callback(TeacherUpdate(trainer.teacher, steps_per_rollout=steps_per_rollout))
    if isinstance(trainer, AuditedTrainer):
        trainer.add_callback(EndOfStep(trainer))
    trainer.add_callback(MarkComplete())  # after all that goes into a checkpoint
    return trainer


def _dataset(problems: ProblemSet, bench: BenchConfig) -> Dataset:
    rows = [
        {
            "prompt": messages(problem, visible_tests=bench.visible_tests),  # type: ignore[arg-type]
            "task_id": problem.task_id,
        }
        for problem in problems.problems
    ]
    return Dataset.from_list(rows)


class _Evaluator:
    """Evaluates the policy as it stands, into the run's journal."""

    def __init__(
        self,
        trainer: BenchTrainer,
        problems: ProblemSet,
        sandbox: Sandbox,
        journal: Journal,
        say: Say,
        evaluations: list[tuple[int, EvalSummary]],
    ) -> None:
        self._trainer, self._problems, self._sandbox = trainer, problems, sandbox
        self._journal, self._say, self._evaluations = journal, say, evaluations

    def __call__(self, step: int) -> None:
        trainer, bench = self._trainer, self._trainer.config
        if trainer.accelerator.is_main_process:
            policy = Policy(
                trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
            )
            summary = evaluate(
                self._problems,
                policy,
                self._sandbox,
                journal=self._journal,
                eval_id=f"step-{step}",
                label=self._journal.info.label,
                step=step,
                protocol=protocol_for(bench.visible_tests),  # type: ignore[arg-type]
                decoding=Decoding(max_new_tokens=trainer.max_completion_length),
                batch_size=bench.eval_batch,
                timeout_s=bench.timeout_s,
            )
            self._evaluations.append((step, summary))
            self._say(f"step {step}: pass@1 {summary.k}/{summary.n}")
        trainer.accelerator.wait_for_everyone()


def _save(trainer: BenchTrainer, tokenizer: Any, adapter_dir: Path) -> None:  # noqa: ANN401
    """Write the student, and beside it the teacher, in the form that `eval --adapter` reads."""
    trainer.save_model(str(adapter_dir))
    tokenizer.save_pretrained(adapter_dir)
    has_weights = trainer.config.teacher in ("ema", "frozen")  # the others are no set of weights
    if trainer.teacher is not None and has_weights and trainer.accelerator.is_main_process:
        with trainer.teacher.weights():
            trainer.save_model(str(adapter_dir.with_name("teacher_adapter")))
