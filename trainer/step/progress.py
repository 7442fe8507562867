"""Says on a terminal what a step is at: how many completions have ended, the grading, the training, what is left.

One line on standard error that each change writes over. Where that is no terminal nothing is shown: a log has
the line that ends each step.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from transformers import TrainerCallback, TrainerState

from evaluator.models.objects import CausalModel

_TICK_S = 0.5
_WORDS = {
    "sampling": "sampling",
    "sandbox": "grading",
    "student": "training",
    "teacher": "training, the teacher reads",
    "checkpoint": "saving",
    "evaluation": "evaluating",
}
"""What a phase of the clock is called; others are part of the training."""


class StepProgress(TrainerCallback):
    """The line, from the beginning of each step to its end; the callback of a trainer whose clock it watches."""

    def __init__(
        self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to `stream`, which must be a terminal; standard error where none is given."""
        self._stream, self._now = stream or sys.stderr, now
        self._step = ""
        self._phase, self._count = "", ""
        self._began, self._usual_s = 0.0, 0.0
        self._shown = False
        self._ended = threading.Event()

    def phase(self, name: str) -> None:
        """The clock charges another phase from now on."""
        if name in _WORDS and name != self._phase:
            self._phase, self._count = name, ""

    def count(self, text: str) -> None:
        """How far the phase is, e.g. `5 of 16`."""
        self._count = text

    def line(self) -> str:
        """What is to be shown; empty between steps."""
        if not self._step:
            return ""
        words = [f"{self._step}: {_WORDS.get(self._phase, 'beginning')} {self._count}".rstrip()]
        spent_s = self._now() - self._began
        if self._usual_s:
            words.append(f"about {max(self._usual_s - spent_s, 1):.0f} s left in the step")
        else:
            words.append(f"{spent_s:.0f} s so far")
        return ", ".join(words)

    def draw(self) -> None:
        """Write the line over the one before."""
        text = self.line()[:100]
        if text or self._shown:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
            self._shown = bool(text)

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Begin to draw, beside whatever the process computes."""
        threading.Thread(target=self._tick, daemon=True).start()

    def on_step_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """A step, with the length of the one before as what is usual."""
        self._step = f"step {state.global_step + 1}/{state.max_steps}"
        self._phase, self._count = "", ""
        self._began = self._now()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Take the line away; the step has one of its own."""
        self._usual_s = self._now() - self._began
        self._step = ""
        self.draw()

    def on_train_end(self, *_: object, **__: object) -> None:
        """Draw no more."""
        self._ended.set()

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            self.draw()


@contextmanager
def counted(
    model: CausalModel, ends: Sequence[int], show: Callable[[str], None] | None
) -> Iterator[None]:
    """Within the block `model.generate` tells after each token how many of its rows have ended."""
    if show is None:
        yield
        return
    import torch
    from transformers import StoppingCriteriaList

    own = model.generate

    def generate(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        done: list[Any] = []

        def watch(input_ids: Any, scores: object, **_: object) -> Any:  # noqa: ANN401
            is_end = torch.isin(input_ids[:, -1], torch.tensor(list(ends), device=input_ids.device))
            done[:] = [is_end | done[0] if done else is_end]
            n_ended = int(done[0].sum())
            n_rows = len(input_ids)
            show(f"{n_ended} of {n_rows}" if n_ended else f"{n_rows} completions")
            return torch.zeros(n_rows, dtype=torch.bool, device=input_ids.device)

        further = [*(kwargs.pop("stopping_criteria", None) or []), watch]
        return own(*args, stopping_criteria=StoppingCriteriaList(further), **kwargs)

    model.generate = generate
    try:
        yield
    finally:
        del model.generate
