"""Builds what a training run is made of from its options, and refuses what cannot work in one line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers.trainer_optimizer import is_optimizer_factory

from analysis.journal.journal import Journal, read_run_info
from analysis.provenance import folder_sha256, run_info
from analysis.records import Record, RunInfo
from evaluator.answers.answer_text import opened_by
from evaluator.grading.feedback import control_tokens
from evaluator.models.context_length import context_length
from evaluator.models.memory import is_out_of_memory
from evaluator.models.modes import switch_dropout_off
from evaluator.models.objects import CausalModel, Tokenizer
from evaluator.models.padding import causal_model, example
from evaluator.problems.mbpp import ProblemSet, load_problems
from evaluator.sampling.model import choose_device, load_base
from evaluator.sampling.policy import prompt_text
from sandbox.client import Sandbox
from trainer.audit.trainer import AuditedTrainer, EndOfStep
from trainer.endings.faults import Patience
from trainer.endings.resume import MarkComplete
from trainer.options.checks import adapter_config, check_targets
from trainer.options.config import Algorithm, BenchConfig, ConfigError, Options
from trainer.options.own import Own
from trainer.options.prompting import Asking
from trainer.rollouts.rollouts import RolloutGrader
from trainer.step.callbacks import StopOnNonFinite, TeacherUpdate
from trainer.step.loss_trainer import BenchTrainer
from trainer.step.position import KeepPosition


class SilentJournal:
    """The journal of a process that is not the main one: its rows are gathered and written there."""

    def __init__(self, journal_dir: Path, info: RunInfo) -> None:
        """Stand for the run in `journal_dir`."""
        self.run_dir, self.info = journal_dir, info

    def append(self, record: Record) -> None:
        """Write nothing."""

    def commit(self) -> None:
        """Write nothing."""


def problems_of(bench: BenchConfig, name: str, limit: int | None) -> ProblemSet:
    """The problems of one of the sets that the options name; the first `limit` of them."""
    mbpp_dir = None if bench.mbpp_dir is None else Path(bench.mbpp_dir)
    return load_problems(name, mbpp_dir=mbpp_dir, limit=limit)


def load_model(options: Options) -> tuple[Any, Any]:
    """The base model and its tokenizer, on the training device.

    Raises:
        ConfigError, ModelError: no model is named, or it cannot be loaded.
    """
    model = options.model
    check_weights(options)
    if model.model_name_or_path is None:
        raise ConfigError(
            "model_name_or_path must name a model, got none; set it to a folder or hub name"
        )
    return load_base(
        model.model_name_or_path,
        device=choose_device("cpu" if options.training.use_cpu else "auto"),
        dtype=(model.dtype or "auto") if model.use_peft else "float32",
        load_in_4bit=model.load_in_4bit,
        unsloth=options.bench.use_unsloth,
    )


def check_weights(options: Options) -> None:
    """Refuse number formats in which training does nothing or cannot work.

    A step of lr 5e-6 is smaller than half the distance between two bfloat16 numbers at most weights, so the
    sum is rounded back to where it was.

    Raises:
        ConfigError: with one line for the user.
    """
    model = options.model
    if options.training.fp16 and options.training.device.type == "cpu":
        raise ConfigError("fp16 must run on a GPU, got fp16 true on a CPU; set bf16 or neither")
    if model.load_in_8bit:
        raise ConfigError(
            "base weights must be in 4, 16 or 32 bits, got load_in_8bit true; set load_in_4bit"
        )
    if model.use_peft:
        return
    if model.load_in_4bit:
        raise ConfigError(
            "4-bit weights cannot be trained themselves, got load_in_4bit true with use_peft false; set "
            "use_peft to true, or load_in_4bit to false"
        )
    if model.dtype not in (None, "auto", "float32"):
        raise ConfigError(
            f"weights that are trained must be float32, got dtype {model.dtype} with use_peft false, in which "
            "most steps are rounded away; set dtype to float32 (bf16: true keeps the arithmetic in bfloat16)"
        )


def check_audit(algorithm: Algorithm, options: Options) -> None:
    """Refuse an audit whose second derivation could not agree.

    Raises:
        ConfigError: with one line for the user.
    """
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
    if options.training.world_size > 1:
        raise ConfigError(
            f"an audit must run in one process, got {options.training.world_size}; start one"
        )


def check_prompts(
    tokenizer: Tokenizer, model: CausalModel, problems: ProblemSet, options: Options, form: Asking
) -> None:
    """Refuse prompts that leave the context no room.

    Raises:
        ConfigError: with one line for the user.
    """
    context = context_length(model)
    room = options.training.max_completion_length
    lengths = [
        (
            len(
                tokenizer.apply_chat_template(
                    # spelt out: Unsloth's import changes the default of `return_dict` for the whole process
                    row["prompt"],
                    add_generation_prompt=True,
                    return_dict=True,
                    **(options.training.chat_template_kwargs or {}),
                )["input_ids"]
            ),
            row["task_id"],
        )
        for row in rows_of_problems(problems, form)
    ]
    longest, task_id = max(lengths)
    if context is not None and longest + room > context:
        raise ConfigError(
            f"prompt and completion must fit the model's context of {context} tokens, got "
            f"{longest} + {room} (task {task_id}); lower max_completion_length or leave problems out"
        )


def open_journal(
    algorithm: Algorithm,
    options: Options,
    problems: ProblemSet,
    sandbox: Sandbox,
    *,
    decoding: dict[str, Any],
    form: Asking,
    own: Own,
) -> Journal:
    """A journal of a run of its own, made by the main process and known to all.

    `decoding` is how its rollouts are drawn, in full.

    Raises:
        StoreError: the runs folder cannot be written.
    """
    state = PartialState()
    if not state.is_main_process:
        shared: list[Any] = [None, None]
        broadcast_object_list(shared)
        return SilentJournal(*shared)  # type: ignore[return-value]  # has what is called of it here
    bench = options.bench
    protocol = form.protocol
    name = str(options.model.model_name_or_path)
    info = run_info(
        kind="train",
        algorithm=algorithm,
        label=bench.label or algorithm,
        config={**options.resolved(), "decoding": decoding},
        seed=options.training.seed,
        model=name,
        model_sha256=folder_sha256(Path(name)) if Path(name).is_dir() else None,
        dataset=problems.name,
        dataset_sha256=problems.sha256,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        sandbox=sandbox.name,
        device=_device(),
        own=own.recorded,
    )
    journal = Journal.create(Path(bench.runs_dir), info)
    if state.num_processes > 1:
        broadcast_object_list([journal.run_dir, info])
    return journal


def resume_journal(run_dir: Path, *, step: int) -> Journal:
    """The journal of an interrupted run, from the checkpoint of `step` on.

    Raises:
        StoreError: it is no run, another process writes it, or its folder cannot be written.
    """
    if not PartialState().is_main_process:
        return SilentJournal(run_dir, read_run_info(run_dir))  # type: ignore[return-value]
    return Journal.resume(run_dir, step=step)


def _device() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"gpu": None}
    return {
        "gpu": torch.cuda.get_device_name(),
        "gpu_memory_bytes": torch.cuda.get_device_properties(0).total_memory,
    }


def build_trainer(
    algorithm: Algorithm,
    options: Options,
    model: CausalModel,
    tokenizer: Tokenizer,
    problems: ProblemSet,
    sandbox: Sandbox,
    patience: Patience,
    form: Asking,
    own: Own,
) -> BenchTrainer:
    """The trainer with what happens around its steps; it writes nothing before `begin` names the run.

    Raises:
        ConfigError: the options do not go together, or not with the model; one line for the user.
    """
    bench, training = options.bench, options.training
    if algorithm == "audit":
        switch_dropout_off(model)  # the model's own: no second pass would agree
    grader = RolloutGrader(
        {problem.task_id: problem for problem in problems.problems},
        sandbox,
        timeout_s=bench.timeout_s,
        format_weight=bench.format_weight,
        special_tokens=control_tokens(tokenizer),
        opening=opened_by(
            prompt_text(tokenizer, [{"role": "user", "content": ""}], training.chat_template_kwargs)
        ),
        patience=patience,
        reward_function=own.reward,
        feedback_function=own.feedback,
    )
    training.reward_weights = grader.weights
    # the adapter's initial weights are drawn here, before TRL seeds
    transformers.set_seed(training.seed)
    kind = AuditedTrainer if algorithm == "audit" else BenchTrainer
    peft_config = adapter_config(options.model)
    check_targets(model, peft_config)
    try:
        # transformers makes the output folder at once; the run's own is named by `begin`
        with tempfile.TemporaryDirectory() as training.output_dir:
            trainer = kind(
                model,
                algorithm=algorithm,
                config=bench,
                grader=grader,
                patience=patience,
                args=training,
                train_dataset=Dataset.from_list(rows_of_problems(problems, form)),
                processing_class=tokenizer,
                peft_config=peft_config,
                marks=form.protocol.stop,
            )
        check_optimizer(trainer)
        check_decoding(trainer)
    # what PEFT, TRL and transformers find wrong with the options, each in types of its own; TRL also reaches
    # for parts of a model by names that it may not have
    except (ValueError, TypeError, LookupError, ImportError, RuntimeError, AttributeError) as error:
        if is_out_of_memory(error) or (not isinstance(error, ValueError) and raised_here(error)):
            raise
        raise ConfigError(
            f"the options must go together, got {type(error).__name__}: {' '.join(str(error).split())[:400]}"
        ) from error
    _add_callbacks(trainer, patience)
    return trainer


def _add_callbacks(trainer: BenchTrainer, patience: Patience) -> None:
    """What happens around the steps, in this order: what ends a checkpoint stands last."""
    trainer.add_callback(StopOnNonFinite())
    if trainer.teacher is not None:
        trainer.add_callback(
            TeacherUpdate(
                trainer.teacher,
                n_used_rollouts=lambda: trainer.n_used_rollouts,
                patience=patience,
            )
        )
    if isinstance(trainer, AuditedTrainer):
        trainer.add_callback(EndOfStep(trainer))
    trainer.add_callback(KeepPosition(trainer, patience))
    trainer.add_callback(MarkComplete(patience))  # after all that goes into a checkpoint


def check_optimizer(trainer: BenchTrainer) -> None:
    """Try optimizer and schedule on a number of their own: transformers makes them in the first step.

    Raises:
        ValueError, TypeError, ImportError: a package is not installed, or an option of theirs is not known.
    """
    args, number = trainer.args, torch.nn.Parameter(torch.zeros(1))
    kind, settings = trainer.get_optimizer_cls_and_kwargs(args, trainer.model)
    # some come with the model's parameters in them, which is for the trainer to hand over
    if not is_optimizer_factory(kind) and not {"params", "model", "optimizer_dict"} & set(settings):
        kind([number], **settings)
    transformers.get_scheduler(
        args.lr_scheduler_type,
        optimizer=torch.optim.SGD([number], lr=1.0),
        num_warmup_steps=args.get_warmup_steps(10),
        num_training_steps=10,
        scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}),
    )


def check_decoding(trainer: BenchTrainer) -> None:
    """Draw a token by settings of a person's own: transformers reads them where it samples first.

    Raises:
        ValueError, TypeError, LookupError, RuntimeError: a value of theirs cannot be used.
    """
    args = trainer.args
    if args.use_vllm or not (args.generation_kwargs or args.cache_implementation):
        return
    ids = example(trainer.model, 4)
    with torch.random.fork_rng(), trainer.as_sampler():
        causal_model(trainer.model).generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=trainer.generation_config,
            max_new_tokens=2,
        )


def raised_here(error: BaseException) -> bool:
    """Whether an error was raised by a line of this project: then it is a bug, and its traceback is wanted."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] in ("analysis", "evaluator", "sandbox", "trainer")


def rows_of_problems(problems: ProblemSet, form: Asking) -> list[dict[str, Any]]:
    """What the data set holds of each problem."""
    return [
        {
            "prompt": form.messages(problem),
            "task_id": str(problem.task_id),  # a column has one type
        }
        for problem in problems.problems
    ]
