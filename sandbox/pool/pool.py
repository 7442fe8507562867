"""Runs jobs on several supervisors: one at a time in a slot, results in order, failures told apart.

A program that ends badly is the program's business and gets a verdict. A supervisor that goes away is ours:
its jobs are run again, each alone; only a program that takes a second one with it is blamed. And a machine that
gives a program no processor is ours: it is run again, alone, and has more time to wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from sandbox.guest.protocol import How, Job, Reply, ResponseHeader
from sandbox.judge.asserts import Assertion
from sandbox.pool.asides import Asides, judgeable
from sandbox.pool.batch import Attempt, Batch, Health, Worker
from sandbox.pool.cases import run_cases
from sandbox.pool.endpoint import Endpoint, answers
from sandbox.pool.jobs import judged, planned
from sandbox.pool.scripts import run_scripts
from sandbox.pool.task import Exchange, Outcome, Pending, Run, Task, make_task
from sandbox.program import Execution, Program, SandboxError, Verdict

CANARY_EVERY = 1000
"""Executions of one supervisor between two canary pairs."""
_MAX_REFUSED = 5

_log = logging.getLogger(__name__)

HONEST = Program(
    code="def canary(n):\n    return [n, n * n]\n",
    asserts=("assert canary(7) == [7, 49]",),
    callables=("canary",),
)
WRONG = dataclasses.replace(HONEST, code="def canary(n):\n    return [n, n + n]\n")
_RIGHT = [Verdict.PASSED, Verdict.FAILED]


class Pool:
    """A `Sandbox` over some endpoints; safe to use from several threads."""

    def __init__(self, name: str, endpoints: Sequence[Endpoint], *, memory_bytes: int) -> None:
        self._name = name
        self._workers = [Worker(endpoint) for endpoint in endpoints]
        self._memory_bytes = memory_bytes
        self._changed = threading.Condition()
        self._alone = threading.Lock()
        self._n_alone = 0
        """Threads that wait for the whole pool, or have it."""
        self._asides = Asides()
        self.health = Health()
        try:
            for worker in self._workers:
                self._check_canaries(worker)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Backend and image."""
        return self._name

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Judge programs by their asserts or cases; one result each, in order.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
            ValueError: an assert that is not an assert statement, or a limit out of range.
        """
        self._check_due()
        if not any(program.cases for program in programs):
            return self._run_asserts(programs)
        by_asserts = iter(self._run_asserts([p for p in programs if not p.cases]))
        by_cases = iter(run_cases([p for p in programs if p.cases], self._run_jobs))
        return [next(by_cases if program.cases else by_asserts) for program in programs]

    def _run_asserts(self, programs: Sequence[Program]) -> list[Execution]:
        plans = [planned(program) for program in programs]
        asides = self._asides.values(programs, plans, self._run_jobs)
        plans = judgeable(programs, plans, asides)
        tasks = [self._task(program, plan) for program, plan in zip(programs, plans, strict=True)]
        outcomes = self._execute(tasks)
        return [
            judged(program, plan, outcome, asides)
            for program, plan, outcome in zip(programs, plans, outcomes, strict=True)
        ]

    def outcome(self, job: Job, *, timeout_s: float) -> Outcome | None:
        """Run one job without judging it; None where it is too large to be sent.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
            ValueError: a time limit out of range.
        """
        self._check_due()
        return self._run_jobs([Run(job, timeout_s)])[0]

    def printed(self, scripts: Sequence[str], *, timeout_s: float) -> list[str | None]:
        """Run whole programs; what each printed, see `sandbox.pool.scripts`.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
            ValueError: a time limit out of range.
        """
        self._check_due()
        return run_scripts(scripts, self._run_jobs, timeout_s=timeout_s)

    @property
    def slots(self) -> int:
        """Programs that run at a time."""
        return sum(worker.endpoint.slots for worker in self._workers)

    def _run_jobs(self, runs: Sequence[Run]) -> list[Outcome | None]:
        return self._execute([self._message(run) for run in runs])

    def endpoints(self) -> list[Endpoint]:
        """The supervisors that this pool uses, for looking after them."""
        return [worker.endpoint for worker in self._workers]

    def canaries(self) -> bool:
        """Run the pair on every supervisor once; whether all gave the right verdicts."""
        return all(self._canaries(worker) == _RIGHT for worker in self._workers)

    def close(self) -> None:
        """Stop what this client started."""
        for worker in self._workers:
            worker.endpoint.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------ preparing

    def _task(self, program: Program, plan: Sequence[Assertion]) -> Task | None:
        """Return the message for a program, or None where it is too large to be sent."""
        steps = tuple(assertion.calls for assertion in plan)
        job = Job(program.imports, program.code, program.setup_code, steps)
        return self._message(Run(job, program.timeout_s))

    def _message(self, run: Run) -> Task | None:
        memory_bytes = min(run.memory_bytes or self._memory_bytes, self._memory_bytes)
        return make_task(run.job, timeout_s=run.timeout_s, memory_bytes=memory_bytes)

    # ------------------------------------------------------------------------------ executing

    def _execute(self, tasks: Sequence[Task | None]) -> list[Outcome | None]:
        """Run tasks on whatever slots are free; None where there was no task."""
        batch = Batch(tasks)
        try:
            while batch.waiting or batch.active:
                self._fill(batch)
                self._collect(batch)
                self._expire(batch)
        finally:
            for attempt in batch.active.values():
                self._finish(attempt)
        for index, task in batch.suspects:
            batch.outcomes[index] = self._run_alone(task)
        self.health.n_executions += len(tasks)
        return batch.outcomes

    def _fill(self, batch: Batch) -> None:
        """Start waiting tasks on free slots; wait for a slot only where nothing of ours runs."""
        while batch.waiting:
            worker = self._acquire(wait=not batch.active)
            if worker is None:
                return
            index, task = batch.waiting.popleft()
            generation = worker.generation
            attempt = self._connect(worker, index, task)
            if attempt is None:
                self._release(worker)
                batch.waiting.append((index, task))
                self._refused(batch, index, worker, generation)
            else:
                batch.active[attempt.exchange.fileno()] = attempt
                batch.poller.register(attempt.exchange, attempt.exchange.events)

    def _collect(self, batch: Batch) -> None:
        """Wait for something to happen and take what came."""
        if not batch.active:
            return
        first = min(attempt.exchange.deadline for attempt in batch.active.values())
        for fd, _ in batch.poller.poll(max(0.0, first - time.monotonic()) * 1000 + 1):
            attempt = batch.active[fd]
            outcome = attempt.exchange.advance()
            if outcome is Pending.MORE:
                batch.poller.modify(fd, attempt.exchange.events)
                continue
            self._take(batch, fd, outcome)

    def _expire(self, batch: Batch) -> None:
        """Give up on supervisors that let a deadline pass and do not answer."""
        now = time.monotonic()
        overdue = [fd for fd, attempt in batch.active.items() if now > attempt.exchange.deadline]
        for fd in overdue:
            attempt = batch.active[fd]
            # It may have come while we did something else, or were stopped.
            outcome = attempt.exchange.advance()
            if outcome is Pending.MORE and attempt.waits_for_one_that_is_gone():
                outcome = Pending.LOST
            if outcome is Pending.MORE and not attempt.exchange.given_up():
                continue
            self._take(batch, fd, outcome)
            if outcome is Pending.MORE:
                _log.warning("%s does not answer in time", attempt.worker.endpoint.name)
                self._revive(attempt.worker, attempt.generation, even_if_alive=True)

    def _take(self, batch: Batch, fd: int, outcome: Outcome | Pending) -> None:
        """End an attempt; what has no outcome that says something of the program is to be run again."""
        attempt = batch.active[fd]
        batch.forget(fd)
        self._finish(attempt)
        if isinstance(outcome, Outcome) and outcome.header.how != How.STARVED:
            batch.outcomes[attempt.index] = outcome
        else:
            starved = isinstance(outcome, Outcome)
            batch.suspects.append(
                (attempt.index, attempt.task.patient() if starved else attempt.task)
            )
            self.health.n_starved += starved
            self.health.n_lost += not starved

    def _refused(self, batch: Batch, index: int, worker: Worker, generation: int) -> None:
        """Bring back a worker that takes no connection."""
        batch.n_refused[index] += 1
        if batch.n_refused[index] > _MAX_REFUSED:
            raise SandboxError(
                f"{worker.endpoint.name} must take programs, got {_MAX_REFUSED} refusals; "
                "run `sdpo-bench sandbox doctor`"
            )
        self._revive(worker, generation)

    def _connect(self, worker: Worker, index: int, task: Task) -> Attempt | None:
        """Open a connection and send what fits; None where nobody answers."""
        generation = worker.generation
        try:
            exchange = Exchange(worker.endpoint.socket_dir, task, name=worker.endpoint.name)
        except OSError:
            return None
        worker.n_since_canary += 1
        return Attempt(index, task, worker, generation, exchange)

    def _run_alone(self, task: Task) -> Outcome:
        """Run again, alone, what lost its supervisor or starved; blame it if it takes another one with it."""
        with self._exclusively() as worker:
            n_left = worker.tries
            while n_left:
                # Raises if the sandbox is broken without the program, too.
                self._check_canaries(worker)
                outcome = self._run_once(worker, task)
                if outcome is None:
                    n_left -= 1
                    self._revive(worker, worker.generation)
                elif outcome.header.how != How.STARVED:
                    return outcome
                elif task.is_patient:
                    raise SandboxError(_no_processor(task, outcome))
                else:
                    task = task.patient()
            self._check_canaries(worker)
        _log.warning("a program ended its supervisor again and again and is blamed for it")
        return Outcome(ResponseHeader(Reply.ENDED, How.SIGNALED, 9), b"")

    def _run_once(self, worker: Worker, task: Task) -> Outcome | None:
        """Run one task on one worker whose slot the caller holds; None where it is lost."""
        attempt = self._connect(worker, 0, task)
        return None if attempt is None else attempt.exchange.wait()

    # --------------------------------------------------------------------------------- slots

    def _acquire(self, *, wait: bool) -> Worker | None:
        """Take a free slot, of the worker that has most of them; None where there is none."""
        with self._changed:
            while True:
                usable = [w for w in self._workers if w.free > 0]
                if usable and not self._n_alone:
                    worker = max(usable, key=lambda w: w.free)
                    worker.free -= 1
                    return worker
                if not wait:
                    return None
                self._changed.wait()

    def _release(self, worker: Worker) -> None:
        with self._changed:
            worker.free += 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[Worker]:
        """Take the whole pool, so that nothing else of this client runs; give one worker of it."""
        with self._changed:
            self._n_alone += 1
        try:
            with self._alone:
                with self._changed:
                    self._changed.wait_for(self._all_free)
                yield self._workers[0]
        finally:
            with self._changed:
                self._n_alone -= 1
                self._changed.notify_all()

    def _all_free(self) -> bool:
        return all(worker.free == worker.endpoint.slots for worker in self._workers)

    def _finish(self, attempt: Attempt) -> None:
        attempt.exchange.close()
        self._release(attempt.worker)

    def _revive(self, worker: Worker, generation: int, *, even_if_alive: bool = False) -> None:
        """Restart a worker's endpoint unless somebody did since `generation`."""
        with worker.lock:
            if worker.generation != generation:
                return
            if not even_if_alive and answers(worker.endpoint.socket_dir):
                return
            _log.warning("%s is gone; starting a fresh one", worker.endpoint.name)
            worker.endpoint.restart()
            worker.generation += 1
            self.health.n_restarts += 1

    def _check_due(self) -> None:
        """Run the canary pair where enough programs ran since the last one."""
        for worker in self._workers:
            if worker.n_since_canary >= CANARY_EVERY:
                self._check_canaries(worker)

    def _check_canaries(self, worker: Worker) -> None:
        """Run the pair: one must pass, one must fail; take the supervisor out if either does not."""
        n_left = worker.tries
        while True:
            verdicts = self._canaries(worker)
            if verdicts == _RIGHT:
                worker.n_since_canary = 0
                return
            self.health.n_canary_failures += 1
            _log.warning("%s fails its canaries: %s", worker.endpoint.name, verdicts)
            if not n_left:
                break
            n_left -= 1
            self._revive(worker, worker.generation, even_if_alive=True)
        raise SandboxError(
            f"{worker.endpoint.name} must pass an honest program and fail a wrong one, "
            f"got {verdicts}; run `sdpo-bench sandbox doctor`"
        )

    def _canaries(self, worker: Worker) -> list[Verdict | None]:
        return [self._canary(worker, program) for program in (HONEST, WRONG)]

    def _canary(self, worker: Worker, program: Program) -> Verdict | None:
        plan = planned(program)
        task = self._task(program, plan)
        outcome = self._run_once(worker, task.patient()) if task is not None else None
        if outcome is None or outcome.header.how == How.STARVED:
            return None
        return judged(program, plan, outcome, {}).results[0].verdict


def _no_processor(task: Task, outcome: Outcome) -> str:
    return (
        f"a program must get {task.header.timeout_ms / 1000:g} s of a processor, got "
        f"{outcome.header.cpu_us / 1e6:.1f} s in {outcome.header.wall_us / 1e6:.0f} s, alone; "
        "run fewer things on this machine"
    )
