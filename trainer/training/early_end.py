"""How a training run ends before its last step: what is saved, what the journal says, what the user reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from analysis.journal.journal import Journal, StoreError
from evaluator.models.four_bit import is_four_bit
from evaluator.models.memory import is_out_of_memory, what_was_asked
from trainer.endings.faults import OutsideFault
from trainer.endings.processes import is_lost_process
from trainer.endings.resume import COMPLETE, checkpoint_folder
from trainer.endings.stop import Stopped
from trainer.options.config import ConfigError
from trainer.step.callbacks import NonFinite
from trainer.step.loss_trainer import BenchTrainer


@contextlib.contextmanager
def early_ends(trainer: BenchTrainer, journal: Journal) -> Iterator[None]:
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
        raise OutsideFault(_stopped(trainer, journal, str(end))) from end
    except RuntimeError as end:
        if is_lost_process(end):
            reason = " ".join(str(end).split())[:120]
            lost = f"every process must stay to the end, got one lost ({reason})"
            raise OutsideFault(_stopped(trainer, journal, lost)) from end
        if not is_out_of_memory(end):
            raise
        lacking = (
            f"memory must hold a training step, got {what_was_asked(end)}; what takes less: "
            f"{', '.join(_what_takes_less(trainer))}"
        )
        raise ConfigError(_stopped(trainer, journal, lacking)) from end


def _stopped(trainer: BenchTrainer, journal: Journal, why: str) -> str:
    """Save what can be saved and end the journal; the line that says both."""
    line = f"{why}{_saved(trainer, journal)}"
    journal.finish("stopped", line)
    return line


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
    """Save the state of the last whole step, where this process alone can, and say so."""
    step = int(trainer.state.global_step)
    again = f"`sdpo-bench train --resume {journal.run_dir}` goes on"
    folder = checkpoint_folder(trainer.args, trainer.state)
    if step == 0:
        return f"; no step was trained yet, {again} from the start"
    if trainer.accelerator.num_processes > 1:
        # to save takes all of them, and this one cannot know where the others are
        return f"; {again} from the last checkpoint, started on every machine"
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
