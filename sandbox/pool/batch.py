"""What a pool keeps of its endpoints, of the tasks of one call, and of what went wrong."""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.pool.endpoint import Attached, Endpoint
from sandbox.pool.task import Exchange, Outcome, Task

_TRIES_ALONE, _TRIES_SHARED = 1, 4
"""Fresh supervisors for a program that lost its own, before it is blamed, and for canaries that fail; more where
other clients' programs and restarts may be the reason."""


@dataclass(eq=False)
class Attempt:
    """A task on its way to one worker."""

    index: int
    task: Task
    worker: Worker
    generation: int
    exchange: Exchange

    def waits_for_one_that_is_gone(self) -> bool:
        """Whether it waits in the queue of a supervisor that was replaced: the fresh one's word is none on it."""
        return not self.exchange.started and self.generation != self.worker.generation


class Worker:
    """An endpoint with what the pool knows of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.free = endpoint.slots
        self.generation = 0
        self.n_since_canary = 0
        self.lock = threading.Lock()

    @property
    def tries(self) -> int:
        """Fresh supervisors to try before something is blamed."""
        return _TRIES_SHARED if isinstance(self.endpoint, Attached) else _TRIES_ALONE


class Batch:
    """The tasks of one call: where each of them is."""

    def __init__(self, tasks: Sequence[Task | None]) -> None:
        self.outcomes: list[Outcome | None] = [None] * len(tasks)
        self.waiting = deque((i, task) for i, task in enumerate(tasks) if task is not None)
        self.active: dict[int, Attempt] = {}
        self.suspects: list[tuple[int, Task]] = []
        """Lost with their supervisor, or starved: to be run again, alone."""
        self.n_refused = [0] * len(tasks)
        self.poller = select.poll()

    def forget(self, fd: int) -> None:
        """Stop waiting for an attempt."""
        self.poller.unregister(fd)
        del self.active[fd]


@dataclass
class Health:
    """What went wrong in the sandbox, not in the programs, since the pool was opened."""

    n_executions: int = 0
    n_lost: int = 0
    n_starved: int = 0
    """Programs that did not get the processor for as long as they may have it, at the first try."""
    n_restarts: int = 0
    n_canary_failures: int = 0
