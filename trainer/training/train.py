"""One training run from options to adapter: what is opened, in which order, and how it can end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from analysis.journal.journal import Journal, StoreError
from analysis.provenance import artifact_records, folder_sha256
from evaluator.evaluation.evaluate import EvalSummary
from evaluator.models.four_bit import is_four_bit
from evaluator.models.lora import record_base
from evaluator.models.memory import is_out_of_memory, what_was_asked
from evaluator.models.objects import Tokenizer
from evaluator.models.padding import check_padding
from evaluator.problems.problem import ProblemSet
from evaluator.sampling.decoding import stored
from sandbox.client import open_sandbox
from trainer.audit.checks import Layer
from trainer.audit.trainer import AuditedTrainer
from trainer.endings.faults import OutsideFault, Patience
from trainer.endings.resume import COMPLETE, checkpoint_step, last_checkpoint, recall, remember
from trainer.endings.stop import StopAtStepEnd, Stopped, StopRequest
from trainer.endings.supervise import tell
from trainer.options.checks import (
    check_length,
    check_references,
    check_settings,
    check_trackers,
    check_values,
)
from trainer.options.config import Algorithm, ConfigError, Options
from trainer.options.own import Own, check_unchanged, load_own
from trainer.options.prompting import asking, plain_template, prepare_tokenizer
from trainer.options.unread import check_use
from trainer.rollouts.settings import training_settings
from trainer.step.callbacks import NonFinite, ProgressLine
from trainer.step.loss_trainer import BenchTrainer
from trainer.step.position import TakeUpPosition, planned_steps, take_up_teacher
from trainer.training.assemble import (
    build_trainer,
    check_audit,
    check_prompts,
    load_model,
    open_journal,
    problems_of,
    resume_journal,
)
from trainer.training.calibration import calibrate, calibration_of
from trainer.training.validation import Evaluation, Evaluator

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
    bench = options.bench
    stop = stop or StopRequest()
    if not PartialState().is_main_process:
        say = warn = _silent
    patience = Patience(bench.fault_patience_s, warn or say)
    problems, eval_problems, own = _checked(algorithm, options)
    checkpoint = None if run_dir is None else _checkpoint(run_dir, options, own)
    calibration = None if checkpoint is not None else calibration_of(options)
    model, tokenizer = load_model(options)
    is_plain = prepare_tokenizer(tokenizer, bench)
    form = asking(bench, problems, plain=is_plain)
    if is_plain:
        tokenizer.chat_template = plain_template(tokenizer, form.protocol)
    check_prompts(tokenizer, model, problems, options, form)
    check_padding(model)

    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(open_sandbox(bench.sandbox))
        # all that can be refused is refused before there is a folder, or a row more in one
        trainer = build_trainer(
            algorithm, options, model, tokenizer, problems, sandbox, patience, form, own
        )
        if checkpoint is not None:
            take_up_teacher(trainer, checkpoint)
        if run_dir is None:
            decoding = stored(training_settings(model, tokenizer, options.training))
            journal = open_journal(
                algorithm, options, problems, sandbox, decoding=decoding, form=form, own=own
            )
        else:
            journal = _resumed(run_dir, checkpoint, say=say)
        if isinstance(journal, Journal):
            stack.enter_context(journal)
            if run_dir is None:
                remember(journal.run_dir, algorithm, options)
        tell(run_dir=str(journal.run_dir))
        say(
            f"run {journal.info.run_id}: {algorithm}, {len(problems.problems)} problems, {sandbox.name}"
        )
        trainer.begin(journal)
        if calibration is not None:
            base_form = asking(bench, calibration.problems, plain=is_plain)
            calibrate(calibration, options, trainer.policy(), sandbox, journal, base_form, say=say)
        evaluator = None
        if eval_problems is not None:
            evaluator = Evaluator(
                trainer,
                eval_problems,
                sandbox,
                form=asking(bench, eval_problems, plain=is_plain),
                say=say,
                patience=patience,
                stop=stop,
            )
        evaluation = _add_callbacks(trainer, evaluator, every=bench.evaluate_every, say=say)
        trainer.add_callback(StopAtStepEnd(stop, trainer.accelerator))
        if prepare is not None:
            prepare(trainer)

        stop.waits = True
        with _ends(trainer, journal):
            _train_from(trainer, checkpoint, evaluation)
            _raise_if_stopped(stop, trainer, journal)

        name = str(options.model.model_name_or_path)
        if is_plain:
            # The model has none: whoever loads the adapter asks plainly, too.
            tokenizer.chat_template = None
        _keep_adapter(trainer, tokenizer, journal, patience, model=name)
    return RunResult(
        run_dir=journal.run_dir,
        adapter_dir=journal.run_dir / "adapter",
        n_steps=int(trainer.state.global_step),
        evaluations=() if evaluator is None else tuple(evaluator.summaries),
        layers=tuple(trainer.auditor.layers()) if isinstance(trainer, AuditedTrainer) else (),
    )


def _checked(algorithm: Algorithm, options: Options) -> tuple[ProblemSet, ProblemSet | None, Own]:
    """The problems to train on and to evaluate on, and what is the user's own, after all checks that need no model."""
    bench = options.bench
    check_values(options)
    check_use(algorithm, options)
    check_trackers(options)
    problems = problems_of(bench, bench.dataset, bench.max_problems)
    eval_problems = None
    if bench.evaluate_every:
        eval_problems = problems_of(bench, bench.eval_dataset, bench.eval_max_problems)
    check_length(options, len(problems.problems))
    check_references(bench, problems.problems)
    own = load_own(bench, problems.problems[0])
    check_audit(algorithm, options)
    check_settings(algorithm, options)
    return problems, eval_problems, own


def _checkpoint(run_dir: Path, options: Options, own: Own) -> Path | None:
    """The checkpoint from which an interrupted run goes on; None where it starts again."""
    _check_model(run_dir, options)
    check_unchanged(run_dir, own)
    return last_checkpoint(run_dir)


def _resumed(run_dir: Path, checkpoint: Path | None, *, say: Say) -> Journal:
    step = 0 if checkpoint is None else checkpoint_step(checkpoint)
    journal = resume_journal(run_dir, step=step or 0)
    say(f"resumed after step {step}")
    return journal


def _add_callbacks(
    trainer: BenchTrainer, evaluator: Evaluator | None, *, every: int, say: Say
) -> Evaluation | None:
    """Have our line of progress in place of the libraries', and evaluations between the steps."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(ProgressLine(say))
    if evaluator is None:
        return None
    evaluation = Evaluation(evaluator, every=every)
    trainer.add_callback(evaluation)
    return evaluation


def _raise_if_stopped(stop: StopRequest, trainer: BenchTrainer, journal: Journal) -> None:
    if stop.requested:
        raise Stopped(
            f"stopped on {stop.signal_name} after step {trainer.state.global_step}, its state is "
            f"saved; `sdpo-bench train --resume {journal.run_dir}` goes on"
        )


def _keep_adapter(
    trainer: BenchTrainer,
    tokenizer: Tokenizer,
    journal: Journal,
    patience: Patience,
    *,
    model: str,
) -> None:
    """Save the adapter, and note in the journal what its files hold."""
    folder = journal.run_dir / "adapter"
    patience(lambda: _save(trainer, tokenizer, folder, model=model), "saving the adapter")
    if trainer.accelerator.is_main_process:
        step = int(trainer.state.global_step)
        for record in artifact_records(journal.run_dir, folder, kind="adapter", step=step):
            journal.append(record)


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
    if evaluation is not None:
        evaluation.catch_up(step, last)


@contextlib.contextmanager
def _ends(trainer: BenchTrainer, journal: Journal) -> Iterator[None]:
    """Whatever ends the training early leaves the last step's state behind, and says where."""
    try:
        yield
    except Stopped as end:
        journal.finish("stopped", str(end))
        raise
    except NonFinite as end:
        where = _save_batch(trainer, journal.run_dir)
        raise NonFinite(f"{end}; the batch is in {where}{_saved(trainer, journal)}") from end
    except OutsideFault as end:
        line = f"{end}{_saved(trainer, journal)}"
        journal.finish("stopped", line)
        raise OutsideFault(line) from end
    except RuntimeError as end:
        if not is_out_of_memory(end):
            raise
        line = (
            f"memory must hold a training step, got {what_was_asked(end)}; what takes less: "
            f"{', '.join(_what_takes_less(trainer))}{_saved(trainer, journal)}"
        )
        journal.finish("stopped", line)
        raise ConfigError(line) from end


def _what_takes_less(trainer: BenchTrainer) -> list[str]:
    """The options that this run could still set, the cheapest first."""
    args = trainer.args
    found = []
    if args.per_device_train_batch_size > args.num_generations:
        found.append(
            f"per_device_train_batch_size {args.num_generations} with as much more gradient_accumulation_steps"
        )
    if not args.gradient_checkpointing:
        found.append("gradient_checkpointing true")
    if args.device.type == "cuda" and not is_four_bit(trainer.model):
        found.append("load_in_4bit true")
    return [*found, f"max_completion_length under {args.max_completion_length}", "a smaller model"]


def _saved(trainer: BenchTrainer, journal: Journal) -> str:
    """Save the state of the last whole step, where that is possible, and say so."""
    step = int(trainer.state.global_step)
    again = f"`sdpo-bench train --resume {journal.run_dir}` goes on"
    folder = Path(trainer.args.output_dir) / f"checkpoint-{step}"
    if step == 0:
        return f"; no step was trained yet, {again} from the start"
    if not (folder / COMPLETE).exists():
        try:
            journal.commit()  # a checkpoint must not stand for rows that are not on disk
            trainer.optimizer.zero_grad()
            trainer._save_checkpoint(trainer.model_wrapped, trial=None)
            trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        except (OSError, RuntimeError, StoreError, OutsideFault) as error:
            line = " ".join(str(error).split())
            return f"; the state of step {step} could not be saved ({line}), {again} from an earlier one"
    return f"; the state of step {step} is saved, {again}"


def _save_batch(trainer: BenchTrainer, run_dir: Path) -> Path:
    """Write the rollout batch in work, as tensors and as text, for a person to look at."""
    folder = run_dir / "non-finite" / f"step-{trainer.state.global_step + 1}"
    folder.mkdir(parents=True, exist_ok=True)
    micro_batches = trainer._buffered_inputs or []
    torch.save(micro_batches, folder / "batch.pt")
    tokenizer = trainer.processing_class
    texts = [
        {
            name: tokenizer.batch_decode(batch[f"{name}_ids"])
            for name in ("prompt", "completion", "teacher_prompt")
            if f"{name}_ids" in batch
        }
        for batch in micro_batches
    ]
    (folder / "batch.json").write_text(json.dumps(texts, indent=1))
    return folder


def _check_model(run_dir: Path, options: Options) -> None:
    """The weights a checkpoint was trained on must be those that are loaded under it.

    Raises:
        ConfigError: the model's folder holds other weights than at the run's start.
    """
    name = Path(str(options.model.model_name_or_path))
    recorded = json.loads((run_dir / "run.json").read_text()).get("model_sha256")
    if recorded and name.is_dir() and folder_sha256(name) != recorded:
        raise ConfigError(
            f"a resumed run must have the base model it started with, got other weights in {str(name)!r}; "
            "restore them"
        )


def _silent(line: str) -> None:
    """What processes other than the main one say."""


def _save(trainer: BenchTrainer, tokenizer: Tokenizer, adapter_dir: Path, *, model: str) -> None:
    """Write the student, and beside it the teacher, in the form that `eval --adapter` reads."""
    trainer.save_model(str(adapter_dir))
    tokenizer.save_pretrained(adapter_dir)
    saved = [adapter_dir]
    has_weights = trainer.config.teacher in ("ema", "frozen")  # the others are no set of weights
    if trainer.teacher is not None and has_weights and trainer.accelerator.is_main_process:
        with trainer.teacher.weights():
            saved.append(adapter_dir.with_name("teacher_adapter"))
            trainer.save_model(str(saved[-1]))
    if trainer.accelerator.is_main_process:
        for folder in saved:
            record_base(folder, model=model, load_in_4bit=is_four_bit(trainer.model))
