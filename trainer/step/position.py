"""The state of a run between two optimizer steps that transformers' checkpoints leave out.

A rollout batch may be used for several optimizer steps, a step may take several rollout batches, metrics are
logged every few steps, and problems are shuffled anew in each epoch. A checkpoint may fall anywhere in this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from trl.trainer.utils import RepeatSampler

from trainer.endings.faults import Patience
from trainer.endings.resume import checkpoint_folder
from trainer.options.config import ConfigError

if TYPE_CHECKING:
    from trainer.step.rollout_trainer import RolloutTrainer

# A process among several on CPUs calls its device cpu:0, to which torch.load does not know how to restore.
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, place: storage if place == "cpu:0" else None
)


def planned_steps(checkpoint: Path) -> int:
    """Optimizer steps of the whole run that a checkpoint belongs to, however its length was given."""
    return int(json.loads((checkpoint / TRAINER_STATE_NAME).read_text())["max_steps"])


def take_up_teacher(trainer: RolloutTrainer, checkpoint: Path) -> None:
    """Give the teacher the weights that a checkpoint holds, and see that it holds a position too.

    Raises:
        ConfigError: something is missing from it.
    """
    path = checkpoint / _file(trainer.args.process_index)
    if not path.is_file():
        raise ConfigError(
            f"a checkpoint must hold {path.name}, got none in {checkpoint}; "
            "start the run anew, or resume it with the version that wrote it"
        )
    if trainer.teacher is None:
        return
    try:
        trainer.teacher.load(checkpoint)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def take_up_renamed_weights(model: PreTrainedModel, checkpoint: Path) -> None:
    """Give a model that is trained whole the weights that a checkpoint holds under other names.

    transformers stores each expert of a mixture by itself, trains all in one tensor, and resumes by name: it would
    leave out the experts without an error.
    """
    stored: set[str] = set()
    for path in checkpoint.glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            stored |= set(file.keys())
    if stored - set(model.state_dict()):
        whole = type(model).from_pretrained(checkpoint, dtype=model.dtype)
        model.load_state_dict(whole.state_dict())


class EpochSampler(RepeatSampler):
    """TRL's order of problems as a function of seed and epoch: a resumed run goes on in it.

    TRL's sampler draws each epoch's order from where the last one's left its generator, which no
    checkpoint holds.
    """

    def __init__(self, *args: Any, epoch: Callable[[], int], **kwargs: Any) -> None:
        """As TRL's; `epoch` tells the one that begins, from 0."""
        super().__init__(*args, **kwargs)
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The places of the epoch's problems, each repeated as TRL wants them."""
        if self.shuffle:
            self.generator.manual_seed(self.seed)
            for _ in range(self._epoch()):
                torch.randperm(self.num_samples, generator=self.generator)
        return super().__iter__()  # type: ignore[no-any-return]


class KeepPosition(TrainerCallback):
    """Writes the position of each process into every checkpoint."""

    def __init__(self, trainer: RolloutTrainer, patience: Patience) -> None:
        self._trainer, self._patience = trainer, patience
        self._began: tuple[int, dict[str, Any]] = -1, {}

    def on_step_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Remember the position: a step that fails has moved it, and the state before is saved."""
        self._began = int(state.global_step), self._trainer.position()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, *_: object, **__: object
    ) -> None:
        """Write the position after the last whole step beside the weights."""
        step, position = self._began
        content = position if step == state.global_step else self._trainer.position()
        path = checkpoint_folder(args, state) / _file(args.process_index)
        self._patience(lambda: torch.save(content, path), "saving the position")


def kept_position(checkpoint: Path, args: TrainingArguments) -> dict[str, Any]:
    """The position of this process that a checkpoint holds."""
    path = checkpoint / _file(args.process_index)
    content: dict[str, Any] = torch.load(
        path, map_location=torch.device(args.device.type), weights_only=True
    )
    return content


class TakeUpPosition(TrainerCallback):
    """Goes on where a checkpoint stands."""

    def __init__(self, trainer: RolloutTrainer, checkpoint: Path) -> None:
        self._trainer, self._checkpoint = trainer, checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: object, *_: object, **__: object
    ) -> None:
        """Take up a checkpoint's position; transformers has reset the sums of its log by now."""
        self._trainer.set_position(kept_position(self._checkpoint, args))


def _file(process_index: int) -> str:
    return f"position-{process_index}.pt"
