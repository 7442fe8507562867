"""One training run from options to adapter: what is opened, in which order, and how it can end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from analysis.journal.journal import Journal, read_run_info
from analysis.provenance import artifact_records
from evaluator.evaluation.evaluate import EvalSummary
from evaluator.models.four_bit import is_four_bit
from evaluator.models.lora import record_base
from sandbox.client import Sandbox, open_sandbox
from trainer.audit.layers import Layer
from trainer.audit.trainer import AuditedTrainer
from trainer.endings.faults import Patience
from trainer.endings.resume import checkpoint_step, recall
from trainer.endings.stop import StopAtStepEnd, Stopped, StopRequest
from trainer.endings.supervise import tell
from trainer.options.config import Algorithm, Options
from trainer.options.own import check_same_words
from trainer.options.prompting import asking
from trainer.step.callbacks import ProgressLine
from trainer.step.loss_trainer import BenchTrainer
from trainer.step.position import TakeUpPosition, kept_position, planned_steps, take_up_teacher
from trainer.training.assemble import build_trainer
from trainer.training.calibration import calibrate, calibration_of
from trainer.training.early_end import early_ends
from trainer.training.loading import Loaded, load
from trainer.training.plan import Plan, make_plan
from trainer.training.run_journal import checkpoint_of, new_journal, resumed_journal
from trainer.training.validation import Evaluation

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


def resume(
    run_dir: Path,
    *,
    say: Say,
    prepare: Callable[[BenchTrainer], None] | None = None,
    stop: StopRequest | None = None,
) -> RunResult:
    """Continue an interrupted run from its last whole checkpoint, or from the start where it has none.

    Raises:
        As `train`.
    """
    algorithm, options = recall(run_dir)
    return train(algorithm, options, say=say, run_dir=run_dir, prepare=prepare, stop=stop)


def train(
    algorithm: Algorithm,
    options: Options,
    *,
    say: Say,
    run_dir: Path | None = None,
    warn: Say | None = None,
    prepare: Callable[[BenchTrainer], None] | None = None,
    stop: StopRequest | None = None,
) -> RunResult:
    """Train one policy; everything it did is in `runs/<run_id>/` afterwards.

    `run_dir` is the folder of an interrupted run of the same options; see `resume`. `warn` is told of faults
    that are waited out, where `say` should not be. `prepare` is given the trainer before its first step,
    for callbacks that a run of the command line has not. A request by `stop` is met at the end of a step.

    Raises:
        ConfigError, DatasetError, ModelError, SandboxError, StoreError: with one line for the user.
        Uncalibrated, NonFinite, OutsideFault, Stopped: the other ends, see trainer/endings/exit_codes.py.
    """
    stop = stop or StopRequest()
    if not PartialState().is_main_process:
        say = warn = lambda _: None
    patience = Patience(options.bench.fault_patience_s, warn or say)

    plan = make_plan(algorithm, options)
    checkpoint = None if run_dir is None else checkpoint_of(run_dir, plan, say=say)
    calibration = None if checkpoint is not None else calibration_of(options)
    loaded = load(options, plan.problems)
    if run_dir is not None:
        check_same_words(read_run_info(run_dir), loaded.form.protocol)

    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(open_sandbox(options.bench.sandbox))
        # all that can be refused is refused before there is a folder, or a row more in one
        trainer = build_trainer(plan, loaded, sandbox, patience)
        if checkpoint is not None:
            take_up_teacher(trainer, checkpoint)

        if run_dir is None:
            journal = stack.enter_context(new_journal(plan, loaded, sandbox))
        else:
            journal = stack.enter_context(resumed_journal(run_dir, checkpoint, sandbox, say=say))
        tell(run_dir=str(journal.run_dir))
        n_problems = len(plan.problems.problems)
        say(f"run {journal.info.run_id}: {algorithm}, {n_problems} problems, {sandbox.name}")
        trainer.begin(journal)
        if calibration is not None:
            calibrate(calibration, plan, loaded, trainer.policy(), sandbox, journal, say=say)

        evaluation = _add_callbacks(trainer, plan, loaded, sandbox, stop=stop, say=say)
        if prepare is not None:
            prepare(trainer)

        stop.waits = True
        with early_ends(trainer, journal):
            _train_from(trainer, checkpoint, evaluation)
            _raise_if_stopped(stop, trainer, journal)
        _keep_adapter(trainer, loaded, journal, patience)
    return _result(trainer, journal, evaluation)


def _result(trainer: BenchTrainer, journal: Journal, evaluation: Evaluation | None) -> RunResult:
    return RunResult(
        run_dir=journal.run_dir,
        adapter_dir=journal.run_dir / "adapter",
        n_steps=int(trainer.state.global_step),
        evaluations=() if evaluation is None else tuple(evaluation.summaries),
        layers=tuple(trainer.auditor.layers()) if isinstance(trainer, AuditedTrainer) else (),
    )


def _add_callbacks(
    trainer: BenchTrainer,
    plan: Plan,
    loaded: Loaded,
    sandbox: Sandbox,
    *,
    stop: StopRequest,
    say: Say,
) -> Evaluation | None:
    """Have our line of progress in place of the libraries', evaluations between the steps, and the stop after them."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(ProgressLine(say))
    evaluation = None
    if plan.eval_problems is not None:
        form = asking(plan.options.bench, plan.eval_problems, plain=loaded.is_plain)
        evaluation = Evaluation(trainer, plan.eval_problems, sandbox, form=form, say=say, stop=stop)
        trainer.add_callback(evaluation)
    trainer.add_callback(StopAtStepEnd(stop, trainer.accelerator))
    return evaluation


def _train_from(
    trainer: BenchTrainer, checkpoint: Path | None, evaluation: Evaluation | None
) -> None:
    if checkpoint is None:
        trainer.train()
        return
    step, last = checkpoint_step(checkpoint) or 0, planned_steps(checkpoint)
    if step < last:
        trainer.add_callback(TakeUpPosition(trainer, checkpoint))
        trainer.train(resume_from_checkpoint=str(checkpoint))
        return
    # Killed after its last step: transformers would train one step more before it looks at max_steps.
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state.global_step = step
    if isinstance(trainer, AuditedTrainer):
        trainer.take_up_checks(kept_position(checkpoint, trainer.args))
    if evaluation is not None:
        evaluation.catch_up(step, last)


def _raise_if_stopped(stop: StopRequest, trainer: BenchTrainer, journal: Journal) -> None:
    if stop.requested:
        raise Stopped(
            f"stopped on {stop.signal_name} after step {trainer.state.global_step}, its state is "
            f"saved; `sdpo-bench train --resume {journal.run_dir}` goes on"
        )


def _keep_adapter(
    trainer: BenchTrainer, loaded: Loaded, journal: Journal, patience: Patience
) -> None:
    """Save the adapter, and note in the journal what its files hold."""
    if loaded.is_plain:
        # The model has no chat template: whoever loads the adapter asks plainly, too.
        loaded.tokenizer.chat_template = None
    folder = journal.run_dir / "adapter"
    patience(lambda: _save(trainer, loaded, folder), "saving the adapter")
    if trainer.accelerator.is_main_process:
        step = int(trainer.state.global_step)
        for record in artifact_records(journal.run_dir, folder, kind="adapter", step=step):
            journal.append(record)


def _save(trainer: BenchTrainer, loaded: Loaded, adapter_dir: Path) -> None:
    """Write the student, and beside it the teacher, in the form that `eval --adapter` reads."""
    trainer.save_model(str(adapter_dir))
    loaded.tokenizer.save_pretrained(adapter_dir)
    saved = [adapter_dir]
    has_weights = trainer.config.teacher in ("ema", "frozen")  # the others are no set of weights
    if trainer.teacher is not None and has_weights and trainer.accelerator.is_main_process:
        with trainer.teacher.weights():
            saved.append(adapter_dir.with_name("teacher_adapter"))
            trainer.save_model(str(saved[-1]))
    if trainer.accelerator.is_main_process:
        for folder in saved:
            record_base(folder, model=loaded.name, load_in_4bit=is_four_bit(trainer.model))
