"""What happens around optimizer steps: the teacher's update and its checkpoint, the progress line, the stop on NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from trainer.faults import Patience
from trainer.teacher import Teacher


class NonFinite(Exception):
    """A loss or gradient is NaN or infinite: the run stops before the weights are touched."""


class StopOnNonFinite(TrainerCallback):  # type: ignore[misc]
    """Ends the run before an optimizer step that would destroy the weights."""

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,  # noqa: ANN401
        **kwargs: object,
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


class TeacherUpdate(TrainerCallback):  # type: ignore[misc]
    """One update a rollout batch, after its last optimizer step; the teacher goes with every checkpoint."""

    def __init__(self, teacher: Teacher, *, steps_per_rollout: int, patience: Patience) -> None:
        """Update `teacher` every `steps_per_rollout` optimizer steps; wait out a full disk."""
        self._teacher, self._patience = teacher, patience
        self._steps_per_rollout = steps_per_rollout

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Move the teacher; every step that gets here had finite gradients (StopOnNonFinite)."""
        if state.global_step % self._steps_per_rollout == 0:
            self._teacher.update()

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Write the teacher beside the student's weights."""
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            self._patience(lambda: self._teacher.save(folder), "saving the teacher")


class ProgressLine(TrainerCallback):  # type: ignore[misc]
    """One line a step that a person can read, in place of the trainer's dictionary of metrics."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Hand each line to `say`."""
        self._say = say
        self._step_s: list[float] = []

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Say how the step went; the summary that ends a run is no step."""
        if not state.is_world_process_zero or logs is None or "step_time" not in logs:
            return
        phases = {n[5:-2]: v for n, v in logs.items() if n.startswith("time/")}
        seconds = sum(phases.values())
        self._step_s.append(seconds)
        left_s = sum(self._step_s) / len(self._step_s) * (state.max_steps - state.global_step)
        shares = ", ".join(
            f"{name} {value / max(seconds, 1e-9):.0%}"
            for name, value in sorted(phases.items(), key=lambda item: -item[1])[:3]
        )
        taught = logs.get("teacher/reprompted_fraction")
        self._say(
            f"step {state.global_step}/{state.max_steps}: reward {logs['reward']:.2f}, "
            f"correct {logs['rewards/correctness/mean']:.0%}, "
            # steps after the last whole `logging_steps` have neither loss nor gradient
            + (f"loss {logs['loss']:.4f}, " if "loss" in logs else "")
            + ("" if taught is None else f"taught {taught:.0%}, ")
            + (f"gradient {logs['grad_norm']:.3f}, " if "grad_norm" in logs else "")
            + f"{logs['completions/mean_length']:.0f} tokens, "
            f"{seconds:.1f} s ({shares}), {_duration(left_s)} left"
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
