"""What happens around optimizer steps: the teacher's update and its checkpoint, the progress line, the stop on NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from evaluator.models.objects import CausalModel
from trainer.endings.faults import Patience
from trainer.endings.resume import checkpoint_folder
from trainer.teacher.weights import Teacher


class NonFinite(Exception):
    """A loss or gradient is NaN or infinite: the run stops before the weights are touched."""


class StopOnNonFinite(TrainerCallback):
    """Ends the run before an optimizer step that would destroy the weights."""

    def on_pre_optimizer_step(
        self, args: object, state: TrainerState, *_: object, model: CausalModel, **__: object
    ) -> None:
        """Check every gradient, after clipping: a NaN norm has spread to all of them.

        Raises:
            NonFinite: one is NaN or infinite.
        """
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise NonFinite(
                    f"gradients must be finite, got {name} at step {state.global_step + 1}; "
                    "the weights are those of the step before: lower learning_rate or use float32"
                )


class TeacherUpdate(TrainerCallback):
    """One update a rollout batch, after its last optimizer step; the teacher goes with every checkpoint.

    Several batches that end in one step have seen one move of the student and make one update.
    """

    def __init__(
        self, teacher: Teacher, *, n_used_rollouts: Callable[[], int], patience: Patience
    ) -> None:
        """Update `teacher` whenever `n_used_rollouts` has grown in a step; wait out a full disk."""
        self._teacher, self._patience = teacher, patience
        self._n_used_rollouts, self._n_before = n_used_rollouts, 0

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Count the rollout batches that are used up."""
        self._n_before = self._n_used_rollouts()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Move the teacher; every step that gets here had finite gradients (StopOnNonFinite)."""
        if self._n_used_rollouts() > self._n_before:
            self._teacher.update()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, *_: object, **__: object
    ) -> None:
        """Write the teacher beside the student's weights."""
        if state.is_world_process_zero:
            folder = checkpoint_folder(args, state)
            self._patience(lambda: self._teacher.save(folder), "saving the teacher")


class ProgressLine(TrainerCallback):
    """One line a step that a person can read, in place of the trainer's dictionary of metrics."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._step_s: list[float] = []

    def on_log(
        self,
        args: object,
        state: TrainerState,
        control: object,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Say how the step went; the summary that ends a run is no step, and one may sample nothing."""
        if not state.is_world_process_zero or logs is None or "train_runtime" in logs:
            return
        phases = {n[5:-2]: v for n, v in logs.items() if n.startswith("time/")}
        seconds = sum(phases.values())
        self._step_s.append(seconds)
        left_s = sum(self._step_s) / len(self._step_s) * (state.max_steps - state.global_step)
        shares = ", ".join(
            f"{name} {value / max(seconds, 1e-9):.0%}"
            for name, value in sorted(phases.items(), key=lambda item: -item[1])[:3]
        )
        # a step that goes on with an earlier one's rollouts has no rewards, and what comes after the last whole
        # `logging_steps` neither loss nor gradient
        parts = [
            text.format(logs[name])
            for name, text in (
                ("reward", "reward {:.2f}"),
                ("rewards/correctness/mean", "correct {:.0%}"),
                ("loss", "loss {:.4f}"),
                ("teacher/reprompted_fraction", "taught {:.0%}"),
                ("grad_norm", "gradient {:.3f}"),
                ("completions/mean_length", "{:.0f} tokens"),
            )
            if name in logs
        ]
        self._say(
            f"step {state.global_step}/{state.max_steps}: {', '.join(parts)}, "
            f"{seconds:.1f} s ({shares}), {_duration(left_s)} left"
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
