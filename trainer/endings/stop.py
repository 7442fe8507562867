"""Stops a run on SIGTERM or SIGINT: the step in progress ends and is saved first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState

from trainer.endings.supervise import handled, tell

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """The run stopped on a signal with its state saved; one line for the user."""


class StopRequest:
    """Whether somebody asked the run to stop, and with which signal."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self.waits = False
        """Whether there is a step to be finished; before the first one a signal interrupts at once."""

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
        with handled(SIGNALS, self._ask):
            yield

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.waits:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


class StopAtStepEnd(TrainerCallback):
    """Turns a request into a checkpoint and the end of training, at the same step in all processes."""

    def __init__(self, request: StopRequest, accelerator: Accelerator) -> None:
        self._request, self._accelerator = request, accelerator
        self._began = 0.0
        self._usual_s: float | None = None

    def on_step_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Tell the supervisor what a stop would have to wait for: it answers a signal at once."""
        self._began = time.monotonic()
        tell(doing=f"step {state.global_step + 1}", since=self._began, usual_s=self._usual_s)

    def on_step_end(
        self, args: object, state: object, control: TrainerControl, **_: object
    ) -> None:
        """Save and stop where any process was asked to."""
        self._usual_s = time.monotonic() - self._began
        asked = torch.tensor(int(self._request.requested), device=self._accelerator.device)
        if int(self._accelerator.gather(asked).sum()):
            self._request.signal_name = self._request.signal_name or "a signal to another process"
            control.should_save = True
            control.should_training_stop = True
