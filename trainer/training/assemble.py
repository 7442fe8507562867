"""Builds the trainer of a run from its plan and its model, and refuses what cannot work in one line."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

import torch
import transformers
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers.trainer_optimizer import is_optimizer_factory

from evaluator.answers.answer_text import opened_by
from evaluator.grading.feedback import control_tokens
from evaluator.models.memory import is_out_of_memory
from evaluator.models.modes import switch_dropout_off
from evaluator.models.padding import causal_model, example
from evaluator.sampling.policy import prompt_text
from sandbox.client import Sandbox
from trainer.audit.trainer import AuditedTrainer, EndOfStep
from trainer.endings.faults import Patience
from trainer.endings.resume import MarkComplete
from trainer.options import checks
from trainer.options.config import ConfigError
from trainer.rollouts.rollouts import RolloutGrader
from trainer.rollouts.vllm_server import server_needed
from trainer.step.callbacks import StopOnNonFinite, TeacherUpdate
from trainer.step.loss_trainer import BenchTrainer
from trainer.step.position import KeepPosition
from trainer.training.loading import Loaded, rows_of_problems
from trainer.training.plan import Plan


def build_trainer(plan: Plan, loaded: Loaded, sandbox: Sandbox, patience: Patience) -> BenchTrainer:
    """The trainer with what happens around its steps; it writes nothing before `begin` names the run.

    Raises:
        ConfigError: the options do not go together, or not with the model; one line for the user.
    """
    model, training = loaded.model, plan.options.training
    if plan.algorithm == "audit":
        switch_dropout_off(model)  # the model's own: no second pass would agree
    grader = _grader(plan, loaded, sandbox, patience)
    training.reward_weights = grader.weights
    # the adapter's initial weights are drawn here, before TRL seeds
    transformers.set_seed(training.seed)
    kind = AuditedTrainer if plan.algorithm == "audit" else BenchTrainer
    peft_config = checks.adapter_config(plan.options.model)
    checks.check_targets(model, peft_config)
    checks.check_float32_head(model, plan.options)
    checks.check_saved_modules(model, plan.options)
    # transformers makes the output folder at once; the run's own is named by `begin`
    with (
        _faults_of_options(),
        tempfile.TemporaryDirectory() as training.output_dir,
        server_needed(),
    ):
        trainer = kind(
            model,
            algorithm=plan.algorithm,
            config=plan.options.bench,
            grader=grader,
            patience=patience,
            args=training,
            train_dataset=Dataset.from_list(rows_of_problems(plan.problems, loaded.form)),
            processing_class=loaded.tokenizer,
            peft_config=peft_config,
            marks=loaded.form.protocol.stop,
        )
        check_optimizer(trainer)
        check_loading(trainer)
        check_decoding(trainer)
    _add_callbacks(trainer, patience)
    return trainer


def _grader(plan: Plan, loaded: Loaded, sandbox: Sandbox, patience: Patience) -> RolloutGrader:
    bench, training = plan.options.bench, plan.options.training
    empty = prompt_text(
        loaded.tokenizer, [{"role": "user", "content": ""}], training.chat_template_kwargs
    )
    return RolloutGrader(
        {problem.task_id: problem for problem in plan.problems.problems},
        sandbox,
        timeout_s=bench.timeout_s,
        format_weight=bench.format_weight,
        special_tokens=control_tokens(loaded.tokenizer),
        strip_thinking=bench.strip_thinking,
        opening=opened_by(empty),
        patience=patience,
        reward_function=plan.own.reward,
        feedback_function=plan.own.feedback,
    )


@contextlib.contextmanager
def _faults_of_options() -> Iterator[None]:
    """Turn what PEFT, TRL and transformers find wrong with the options, each in types of its own, into one line.

    TRL also reaches for parts of a model by names that it may not have.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, ImportError, RuntimeError, AttributeError) as error:
        if is_out_of_memory(error) or (not isinstance(error, ValueError) and raised_here(error)):
            raise
        raise ConfigError(
            f"the options must go together, got {type(error).__name__}: {' '.join(str(error).split())[:400]}"
        ) from error


def _add_callbacks(trainer: BenchTrainer, patience: Patience) -> None:
    """What happens around the steps, in this order: what ends a checkpoint stands last."""
    trainer.add_callback(StopOnNonFinite())
    if trainer.teacher is not None:
        trainer.add_callback(
            TeacherUpdate(
                trainer.teacher, n_used_rollouts=lambda: trainer.n_used_rollouts, patience=patience
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


def check_loading(trainer: BenchTrainer) -> None:
    """Make a loader by the run's options, of nothing: transformers makes its own in the first step.

    Raises:
        ValueError: they do not go together.
    """
    args = trainer.args
    DataLoader(
        [0],  # type: ignore[arg-type]
        num_workers=args.dataloader_num_workers,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
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
