"""Where a step's time goes: every second between two log lines belongs to exactly one phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST = "rest"
"""What no phase claims: tokenizing, the journal, the optimizer, callbacks."""


class PhaseClock:
    """Splits wall time over named phases; a phase within another takes its time away from the outer one."""

    def __init__(
        self,
        *,
        synchronize: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start now; `synchronize` waits for an accelerator, whose work else counts where it is awaited."""
        self._synchronize, self._now = synchronize, now
        self._running = [REST]
        self._seconds: dict[str, float] = {}
        self._since = now()
        self.watch: Callable[[str], None] = lambda phase: None
        """Is told of each phase that begins, or goes on after one within it."""

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Charge the block to `phase`."""
        self._charge()
        self._running.append(phase)
        self.watch(phase)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()
            self.watch(self._running[-1])

    def split(self) -> dict[str, float]:
        """Seconds of each phase since the last split; they add up to all the time there was."""
        self._charge()
        seconds, self._seconds = self._seconds, {}
        return {REST: 0.0, **seconds}

    def _charge(self) -> None:
        self._synchronize()
        now = self._now()
        phase = self._running[-1]
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now
