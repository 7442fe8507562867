"""Works through an evaluation on a Ray cluster; the only importer of ray.

One worker on each node (or each GPU) samples and grades there, as a client of the node's own sandbox:
Ray itself isolates nothing. Only this process writes: a batch counts when it has arrived here, so one
whose node is lost is done again elsewhere and nothing is stored twice. Batches come out in the order
of the local engine, whoever did them first.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from analysis.installation import install_command
from evaluator.engines.worker import Facts, Work, Worker
from evaluator.evaluation.evaluate import GradedAnswer
from evaluator.evaluation.self_check import HarnessError
from sandbox.client import open_sandbox
from sandbox.program import SandboxError

_MAX_LOSSES = 3
"""Workers that one batch, or one node, may lose before it is no longer tried."""

_SHARED_TOGETHER = 64
"""Recorded answers in one batch: few enough that several nodes have some, and little is done twice."""

_LOOK_EVERY_S = 5.0
"""Pause between two looks for nodes without a worker, in seconds."""

_START_TIMEOUT_S = 600.0
"""How long no worker may be ready, in seconds: loading a model takes minutes on a slow disk."""


class EngineError(Exception):
    """The engine cannot work, or no longer; what is stored is kept. The message says what to do."""


@dataclass(eq=False)
class _Hand:
    """A worker process on the cluster, as this side knows it."""

    actor: Any
    node: str
    index: int | None = None
    """Batch in its hands; None while it starts or waits."""
    ready: bool = False


class RayEngine:
    """A cluster that works through one evaluation; a context manager that lets its workers go."""

    def __init__(
        self,
        work: Work,
        *,
        backend: str,
        address: str | None = None,
        say: Callable[[str], None] = lambda _: None,
        start_timeout_s: float = _START_TIMEOUT_S,
    ) -> None:
        """Connect to the head at `host:port` (None: at RAY_ADDRESS, else of this machine alone), and start workers.

        `backend` is each node's sandbox: auto, docker or process. `say` is told in one line of each node that is lost.

        Raises:
            EngineError: ray is not installed, or no cluster answers.
        """
        self._ray = _connect(address)
        self._say, self._start_timeout_s = say, start_timeout_s
        self._work = self._ray.put(replace(work, graded_together=_SHARED_TOGETHER))
        self._backend = backend
        self._calls: dict[Any, _Hand] = {}
        self._hands: list[_Hand] = []
        self._losses_by_node: Counter[str] = Counter()
        self._losses_by_batch: Counter[int] = Counter()
        self._finished: dict[int, list[GradedAnswer]] = {}
        self._waiting: list[int] = []
        self._facts: Facts | None = None
        self._last_failure = "none has started"
        self._looked_at = 0.0

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers go and leave the cluster."""
        for hand in self._hands:
            self._ray.kill(hand.actor)
        self._hands.clear()
        self._calls.clear()
        self._ray.shutdown()

    def facts(self) -> Facts:
        """Wait for the first worker and return what it found.

        Raises:
            EngineError: no worker could start.
            HarnessError, ModelError, SandboxError: what kept every worker from starting.
        """
        self._work_until(lambda: self._facts is not None)
        assert self._facts is not None  # noqa: S101 - waited for
        return self._facts

    def batches(self) -> Iterator[list[GradedAnswer]]:
        """Yield every batch in the order of the local engine.

        Raises:
            EngineError: no node is left that can go on.
            HarnessError, ModelError, SandboxError: as above.
        """
        n_batches = self.facts().n_batches
        self._waiting = list(range(n_batches))
        for index in range(n_batches):
            self._work_until(partial(self._finished.__contains__, index))
            yield self._finished.pop(index)

    def _work_until(self, is_done: Callable[[], bool]) -> None:
        """Take turns until that holds.

        Raises:
            EngineError: no worker was ready for too long.
        """
        since = time.monotonic()
        while not is_done():
            if any(hand.ready for hand in self._hands):
                since = time.monotonic()
            elif time.monotonic() - since > self._start_timeout_s:
                raise EngineError(
                    f"some node must be able to work, got none in {self._start_timeout_s:.0f} s (last: "
                    f"{self._last_failure}); look at `ray status`, then go on with --resume"
                )
            self._turn()

    def _turn(self) -> None:
        """Give work to whoever is free, and wait a moment for an answer."""
        if time.monotonic() - self._looked_at > _LOOK_EVERY_S:
            self._staff()
        for hand in self._hands:
            if hand.ready and hand.index is None and self._waiting:
                hand.index = self._waiting.pop(0)
                self._calls[hand.actor.graded.remote(hand.index)] = hand
        if not self._calls:
            time.sleep(0.2)
            return
        arrived, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=1.0)
        for call in arrived:
            self._take(call)

    def _take(self, call: Any) -> None:  # noqa: ANN401 - ray's ObjectRef
        """Take one answer, or find out why there is none."""
        hand = self._calls.pop(call)
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(call)
        except errors.RayTaskError as error:
            # The worker itself is well, what it called raised: a sandbox can be broken on one node
            # only, everything else would be the same on the next.
            cause = getattr(error, "cause", error)
            if not isinstance(cause, SandboxError | HarnessError):
                raise cause from None
            self._lose(hand, f"{type(cause).__name__}: {cause}")
            if not self._hands and not self._staff():
                raise cause from None
        except errors.RayError as error:
            self._lose(hand, type(error).__name__)
        else:
            if hand.index is None:
                self._welcome(hand, answer)
            else:
                self._finished[hand.index] = answer
                hand.index = None

    def _welcome(self, hand: _Hand, facts: Facts) -> None:
        """Let a worker that has started take part, if it is like the others."""
        first = self._facts or facts
        if replace(facts, placement=()) != replace(first, placement=()):
            self._losses_by_node[hand.node] = _MAX_LOSSES
            self._lose(hand, "its model, sandbox or data differ from those of the first node")
            return
        self._facts = first
        hand.ready = True

    def _lose(self, hand: _Hand, reason: str) -> None:
        """Do without a worker; what it had in hands is done elsewhere.

        Raises:
            EngineError: its batch has cost too many workers.
        """
        self._hands.remove(hand)
        self._ray.kill(hand.actor)
        self._losses_by_node[hand.node] += 1
        self._last_failure = reason
        if hand.index is not None:
            self._say(f"ray: a worker is lost ({reason}); its batch {hand.index} is done elsewhere")
            self._losses_by_batch[hand.index] += 1
            if self._losses_by_batch[hand.index] >= _MAX_LOSSES:
                raise EngineError(
                    f"a batch must cost fewer than {_MAX_LOSSES} workers, got batch {hand.index} "
                    f"lost again ({reason}); look at the nodes' memory, then go on with --resume"
                )
            self._waiting.insert(0, hand.index)
        else:
            self._say(f"ray: a worker is lost before it began ({reason})")
        self._looked_at = 0.0

    def _staff(self) -> bool:
        """Start a worker wherever there is none; whether any is there now."""
        self._looked_at = time.monotonic()
        for node in self._ray.nodes():
            name = node["NodeID"]
            if not node["Alive"] or self._losses_by_node[name] >= _MAX_LOSSES:
                continue
            resources = node["Resources"]
            if resources.get("CPU", 0) < 1:  # a head that only keeps the books
                continue
            wanted = max(1, int(resources.get("GPU", 0)))
            n_there = sum(hand.node == name for hand in self._hands)
            for _ in range(wanted - n_there):
                self._start(name, resources, n_on_node=wanted)
        return bool(self._hands)

    def _start(self, node: str, resources: dict[str, float], *, n_on_node: int) -> None:
        strategies = self._ray.util.scheduling_strategies
        actor = (
            self._ray.remote(_Actor)
            .options(
                num_cpus=max(1, int(resources.get("CPU", 1)) // n_on_node),
                num_gpus=1 if resources.get("GPU", 0) >= 1 else 0,
                scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=False),
                max_restarts=0,
            )
            .remote(self._work, self._backend)
        )
        hand = _Hand(actor, node)
        self._hands.append(hand)
        self._calls[actor.prepare.remote()] = hand


class _Actor:
    """What runs on a node: a `Worker` whose sandbox is the node's own."""

    def __init__(self, work: Work, backend: str) -> None:
        self._work, self._backend = work, backend

    def prepare(self) -> Facts:
        """Open the sandbox, check it, load the policy."""
        self._worker = Worker(self._work, open_sandbox(self._backend))
        return self._worker.facts

    def graded(self, index: int) -> list[GradedAnswer]:
        """Do one batch, once prepared."""
        return self._worker.graded(index)


def _connect(address: str | None) -> Any:  # noqa: ANN401 - the module
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would tell of CUDA variables, accelerators and its dashboard, one warning each.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise EngineError(
            f"--engine ray must have ray installed, got {error.msg!r}; {install_command('ray')}"
        ) from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None and not os.environ.get("RAY_ADDRESS"):
        options["include_dashboard"] = False
    try:
        ray.init(address=address, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise EngineError(
            f"--ray-address must be that of a running cluster, got {address!r} "
            f"({' '.join(str(error).split())[:200]}); start one with `ray start --head`"
        ) from error
    return ray
