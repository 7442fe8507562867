"""Stops a run on SIGTERM or SIGINT: the step in progress ends and is saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """The run stopped on a signal with its state saved; one line for the user."""


class StopRequest:
    """Whether somebody asked the run to stop, and with which signal."""

    def __init__(self) -> None:
        """Nobody has."""
        self.signal_name: str | None = None

    @property
    def requested(self) -> bool:
        """Whether the run is to stop at the end of its step."""
        return self.signal_name is not None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block the signals make the request; a second one interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread only
            return
        before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


class StopAtStepEnd(TrainerCallback):  # type: ignore[misc]
    """Turns a request into a checkpoint and the end of training, at the same step in all processes."""

    def __init__(self, request: StopRequest, accelerator: Accelerator) -> None:
        """Look at `request` after each step."""
        self._request, self._accelerator = request, accelerator

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        """Save and stop where any process was asked to."""
        asked = torch.tensor(int(self._request.requested), device=self._accelerator.device)
        if int(self._accelerator.gather(asked).sum()):
            self._request.signal_name = self._request.signal_name or "a signal to another process"
            control.should_save = True
            control.should_training_stop = True
