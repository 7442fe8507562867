"""Runs jobs on several supervisors: one at a time in a slot, results in order, failures told apart.

A program that ends badly is the program's business and gets a verdict. A supervisor that goes away is ours:
its jobs are run again, each alone; only a program that takes a second one with it is blamed.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sandbox import judge
from sandbox.assertion import Assertion, parse
from sandbox.endpoint import Endpoint, run_socket
from sandbox.guest import values
from sandbox.guest.child import EXIT_NOT_CONFINED
from sandbox.guest.protocol import (
    MAX_JOB_BYTES,
    MAX_TIMEOUT_MS,
    RESPONSE_BYTES,
    Call,
    How,
    Job,
    Kind,
    ProtocolError,
    Reply,
    RequestHeader,
    ResponseHeader,
    dump_job,
    dump_request,
    parse_response,
)
from sandbox.guest.values import Value
from sandbox.program import AssertResult, Execution, Program, SandboxError, Verdict

STARVATION_FACTOR = 6
"""A child may take this many times its limit in wall-clock time, if it waits for a processor."""
GRACE_S = 5.0
"""After the supervisor's own deadline, before we give the supervisor up."""
QUEUE_TIMEOUT_S = 300.0
"""Longest wait for a slot that other clients use."""
CANARY_EVERY = 1000
"""Executions of one supervisor between two canary pairs."""
_MAX_UNSTARTED = 5
_ASIDE_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)

_HONEST = Program(
    code="def canary(n):\n    return [n, n * n]\n",
    asserts=("assert canary(7) == [7, 49]",),
    callables=("canary",),
)
_WRONG = Program(
    code="def canary(n):\n    return [n, n + n]\n",
    asserts=("assert canary(7) == [7, 49]",),
    callables=("canary",),
)


@dataclass(frozen=True)
class _Task:
    """A job as bytes, with its limits."""

    message: bytes
    hard_s: float


@dataclass(frozen=True)
class _Outcome:
    header: ResponseHeader
    body: bytes


@dataclass(eq=False)
class _Attempt:
    """A task on its way through one connection."""

    index: int
    unsent: memoryview
    worker: _Worker
    generation: int
    connection: socket.socket
    deadline: float
    task: _Task
    received: bytearray = field(default_factory=bytearray)
    started: bool = False


class _Worker:
    """An endpoint with what the pool knows of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.free = endpoint.slots
        self.exclusive = False
        self.generation = 0
        self.n_since_canary = 0
        self.lock = threading.Lock()


@dataclass
class Health:
    """What went wrong in the sandbox, not in the programs, since the pool was opened."""

    n_executions: int = 0
    n_lost: int = 0
    n_restarts: int = 0
    n_canary_failures: int = 0


class Pool:
    """A `Sandbox` over some endpoints; safe to use from several threads."""

    def __init__(self, name: str, endpoints: Sequence[Endpoint], *, memory_bytes: int) -> None:
        self._name = name
        self._workers = [_Worker(endpoint) for endpoint in endpoints]
        self._memory_bytes = memory_bytes
        self._changed = threading.Condition()
        self._asides: dict[tuple[tuple[str, ...], str], Value] = {}
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
        """Judge programs; one result each, in order.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
            ValueError: an assert that is not an assert statement, or a limit out of range.
        """
        for worker in self._workers:
            if worker.n_since_canary >= CANARY_EVERY:
                self._check_canaries(worker)
        plans = [_plan(program) for program in programs]
        plans = self._with_asides(programs, plans)
        tasks = [self._task(program, plan) for program, plan in zip(programs, plans, strict=True)]
        outcomes = self._execute(tasks)
        return [
            _judge(program, plan, outcome, self._asides)
            for program, plan, outcome in zip(programs, plans, outcomes, strict=True)
        ]

    def endpoints(self) -> list[Endpoint]:
        """The supervisors that this pool uses, for looking after them."""
        return [worker.endpoint for worker in self._workers]

    def canaries(self) -> bool:
        """Run the pair on every supervisor once; whether all gave the right verdicts."""
        return all(
            [self._canary(worker, program) for program in (_HONEST, _WRONG)]
            == [Verdict.PASSED, Verdict.FAILED]
            for worker in self._workers
        )

    def close(self) -> None:
        """Stop what this client started."""
        for worker in self._workers:
            worker.endpoint.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------ preparing

    def _task(self, program: Program, plan: Sequence[Assertion]) -> _Task | None:
        """Return the message for a program, or None where it is too large to be sent."""
        job = Job(
            program.imports,
            program.code,
            program.setup_code,
            tuple(assertion.calls for assertion in plan),
        )
        return self._message(job, program.timeout_s)

    def _message(self, job: Job, timeout_s: float) -> _Task | None:
        if not 0.001 <= timeout_s <= MAX_TIMEOUT_MS / 1000:
            raise ValueError(
                f"timeout_s must lie between 0.001 and {MAX_TIMEOUT_MS // 1000}, got {timeout_s!r}"
            )
        timeout_ms = int(timeout_s * 1000)
        hard_ms = min(timeout_ms * STARVATION_FACTOR, MAX_TIMEOUT_MS)
        data = dump_job(job)
        if len(data) > MAX_JOB_BYTES:
            return None
        header = RequestHeader(Kind.RUN, len(data), timeout_ms, hard_ms, self._memory_bytes)
        return _Task(dump_request(header) + data, hard_ms / 1000)

    def _with_asides(
        self, programs: Sequence[Program], plans: list[tuple[Assertion, ...]]
    ) -> list[tuple[Assertion, ...]]:
        """Evaluate what the asserts need of the sandbox's interpreter, without any candidate."""
        wanted = {
            (program.imports, source): None
            for program, plan in zip(programs, plans, strict=True)
            for assertion in plan
            for source in assertion.asides
            if (program.imports, source) not in self._asides
        }
        if wanted:
            jobs = [
                Job((*imports, *_modules(source)), "", "", ((Call(source),),))
                for imports, source in wanted
            ]
            tasks = [self._message(job, _ASIDE_TIMEOUT_S) for job in jobs]
            for key, outcome in zip(wanted, self._execute(tasks), strict=True):
                self._asides[key] = _aside_value(outcome)
        return [
            tuple(
                _without_asides(assertion)
                if any(
                    isinstance(self._asides[program.imports, source], values.Opaque)
                    for source in assertion.asides
                )
                else assertion
                for assertion in plan
            )
            for program, plan in zip(programs, plans, strict=True)
        ]

    # ------------------------------------------------------------------------------ executing

    def _execute(self, tasks: Sequence[_Task | None]) -> list[_Outcome | None]:
        """Run tasks on whatever slots are free; None where there was no task."""
        outcomes: list[_Outcome | None] = [None] * len(tasks)
        waiting = deque((index, task) for index, task in enumerate(tasks) if task is not None)
        n_unstarted = [0] * len(tasks)
        suspects: list[_Attempt] = []
        active: dict[int, _Attempt] = {}
        poller = select.poll()
        try:
            while waiting or active:
                while waiting:
                    worker = self._acquire(wait=not active)
                    if worker is None:
                        break
                    index, task = waiting.popleft()
                    generation = worker.generation
                    attempt = self._connect(worker, index, task)
                    if attempt is None:
                        self._release(worker)
                        waiting.append((index, task))
                        n_unstarted[index] += 1
                        self._revive_or_give_up(worker, generation, n_unstarted[index])
                        continue
                    active[attempt.connection.fileno()] = attempt
                    poller.register(attempt.connection, _events(attempt))
                now = time.monotonic()
                wait_s = min((a.deadline for a in active.values()), default=now) - now
                ready = poller.poll(max(0.0, wait_s) * 1000 + 1) if active else []
                for fd, _ in ready:
                    attempt = active[fd]
                    outcome = self._advance(attempt)
                    if outcome is _MORE:
                        if attempt.unsent.nbytes == 0:
                            poller.modify(fd, select.POLLIN)
                        continue
                    poller.unregister(fd)
                    del active[fd]
                    self._finish(attempt)
                    if isinstance(outcome, _Outcome):
                        outcomes[attempt.index] = outcome
                    elif attempt.started:
                        suspects.append(attempt)
                    else:
                        index, worker = attempt.index, attempt.worker
                        waiting.append((index, attempt.task))
                        n_unstarted[index] += 1
                        self._revive_or_give_up(worker, attempt.generation, n_unstarted[index])
                now = time.monotonic()
                for fd, attempt in list(active.items()):
                    if now > attempt.deadline:
                        _log.warning("%s does not answer in time", attempt.worker.endpoint.name)
                        poller.unregister(fd)
                        del active[fd]
                        self._finish(attempt)
                        suspects.append(attempt)
                        self._revive(attempt.worker, attempt.generation, even_if_alive=True)
        finally:
            for attempt in active.values():
                self._finish(attempt)
        for suspect in suspects:
            outcomes[suspect.index] = self._run_alone(suspect.task)
        self.health.n_executions += len(tasks)
        return outcomes

    def _connect(self, worker: _Worker, index: int, task: _Task) -> _Attempt | None:
        """Open a connection and send what fits; None where nobody answers."""
        generation = worker.generation
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(run_socket(worker.endpoint.socket_dir))
        except OSError:
            connection.close()
            return None
        connection.setblocking(False)
        deadline = time.monotonic() + QUEUE_TIMEOUT_S
        worker.n_since_canary += 1
        message = memoryview(task.message)
        attempt = _Attempt(index, message, worker, generation, connection, deadline, task)
        with contextlib.suppress(OSError):
            attempt.unsent = message[connection.send(message) :]
        return attempt

    def _advance(self, attempt: _Attempt) -> _Outcome | object:
        """Send and receive what can be; return the outcome, _LOST or _MORE."""
        try:
            if attempt.unsent.nbytes:
                attempt.unsent = attempt.unsent[attempt.connection.send(attempt.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            # The other side will read no more: what it has to say may still be there.
            attempt.unsent = attempt.unsent[:0]
        try:
            part = attempt.connection.recv(1 << 18)
        except BlockingIOError:
            return _MORE
        except OSError:
            part = b""
        if not part:
            return _LOST
        attempt.received += part
        return self._read(attempt)

    def _read(self, attempt: _Attempt) -> _Outcome | object:
        data = attempt.received
        try:
            if not attempt.started and len(data) >= RESPONSE_BYTES:
                if parse_response(bytes(data[:RESPONSE_BYTES])).reply != Reply.STARTED:
                    return _LOST
                attempt.started = True
                attempt.deadline = time.monotonic() + attempt.task.hard_s + GRACE_S
            if len(data) < 2 * RESPONSE_BYTES:
                return _MORE
            header = parse_response(bytes(data[RESPONSE_BYTES : 2 * RESPONSE_BYTES]))
        except ProtocolError as error:
            _log.warning("%s: %s", attempt.worker.endpoint.name, error)
            return _LOST
        if header.reply != Reply.ENDED:
            return _LOST
        body = data[2 * RESPONSE_BYTES :]
        if len(body) < header.body_bytes:
            return _MORE
        if header.how == How.EXITED and header.code == EXIT_NOT_CONFINED and not body:
            return _LOST
        return _Outcome(header, bytes(body))

    def _run_alone(self, task: _Task) -> _Outcome:
        """Run again, alone, what lost its supervisor; blame it if it takes another one with it."""
        self.health.n_lost += 1
        with self._exclusively() as worker:
            self._check_canaries(worker)
            outcome = self._run_once(worker, task)
            if outcome is not None:
                return outcome
            # Raises if the sandbox is broken without the program, too.
            self._revive(worker, worker.generation)
            self._check_canaries(worker)
        _log.warning("a program ended its supervisor twice and is blamed for it")
        return _Outcome(ResponseHeader(Reply.ENDED, How.SIGNALED, 9), b"")

    def _run_once(self, worker: _Worker, task: _Task) -> _Outcome | None:
        """Run one task on one worker whose slot the caller holds; None where it is lost."""
        attempt = self._connect(worker, 0, task)
        if attempt is None:
            return None
        poller = select.poll()
        poller.register(attempt.connection, _events(attempt))
        with attempt.connection:
            while True:
                left = attempt.deadline - time.monotonic()
                if left <= 0 or not poller.poll(left * 1000 + 1):
                    return None
                outcome = self._advance(attempt)
                if isinstance(outcome, _Outcome):
                    return outcome
                if outcome is _LOST:
                    return None
                poller.modify(attempt.connection, _events(attempt))

    # --------------------------------------------------------------------------------- slots

    def _acquire(self, *, wait: bool) -> _Worker | None:
        """Take a free slot, of the worker that has most of them; None where there is none."""
        with self._changed:
            while True:
                usable = [w for w in self._workers if w.free > 0 and not w.exclusive]
                if usable:
                    worker = max(usable, key=lambda w: w.free)
                    worker.free -= 1
                    return worker
                if not wait:
                    return None
                self._changed.wait()

    def _release(self, worker: _Worker) -> None:
        with self._changed:
            worker.free += 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[_Worker]:
        """Take a whole worker: nothing else of this client runs beside."""
        with self._changed:
            worker = self._workers[0]
            while worker.exclusive or worker.free < worker.endpoint.slots:
                candidates = [
                    w for w in self._workers if not w.exclusive and w.free == w.endpoint.slots
                ]
                if candidates:
                    worker = candidates[0]
                    break
                self._changed.wait()
            worker.exclusive = True
        try:
            yield worker
        finally:
            with self._changed:
                worker.exclusive = False
                self._changed.notify_all()

    def _finish(self, attempt: _Attempt) -> None:
        attempt.connection.close()
        self._release(attempt.worker)

    def _revive(self, worker: _Worker, generation: int, *, even_if_alive: bool = False) -> None:
        """Restart a worker's endpoint unless somebody did since `generation`."""
        with worker.lock:
            if worker.generation != generation:
                return
            if not even_if_alive and self._answers(worker):
                return
            _log.warning("%s is gone; starting a fresh one", worker.endpoint.name)
            worker.endpoint.restart()
            worker.generation += 1
            self.health.n_restarts += 1

    def _revive_or_give_up(self, worker: _Worker, generation: int, n_unstarted: int) -> None:
        """Bring a worker back that does not start programs.

        Raises:
            SandboxError: it was brought back often enough.
        """
        if n_unstarted > _MAX_UNSTARTED:
            raise SandboxError(
                f"{worker.endpoint.name} must start programs, got {n_unstarted} that it did not; "
                "run `sdpo-bench sandbox doctor`"
            )
        self._revive(worker, generation)

    def _answers(self, worker: _Worker) -> bool:
        task = self._message(Job((), "", "", ()), 1.0)
        outcome = self._run_once(worker, task) if task is not None else None
        return outcome is not None

    def _check_canaries(self, worker: _Worker) -> None:
        """Run the pair: one must pass, one must fail; take the supervisor out if either does not.

        Raises:
            SandboxError: a fresh supervisor fails too.
        """
        for attempt in range(2):
            verdicts = [self._canary(worker, program) for program in (_HONEST, _WRONG)]
            if verdicts == [Verdict.PASSED, Verdict.FAILED]:
                worker.n_since_canary = 0
                return
            self.health.n_canary_failures += 1
            _log.warning("%s fails its canaries: %s", worker.endpoint.name, verdicts)
            if attempt == 0:
                self._revive(worker, worker.generation, even_if_alive=True)
        raise SandboxError(
            f"{worker.endpoint.name} must pass an honest program and fail a wrong one, "
            f"got {verdicts}; run `sdpo-bench sandbox doctor`"
        )

    def _canary(self, worker: _Worker, program: Program) -> Verdict | None:
        plan = _plan(program)
        task = self._task(program, plan)
        outcome = self._run_once(worker, task) if task is not None else None
        return None if outcome is None else _judge(program, plan, outcome, {}).results[0].verdict


_LOST, _MORE = object(), object()


def _events(attempt: _Attempt) -> int:
    return select.POLLIN | (select.POLLOUT if attempt.unsent.nbytes else 0)


def _plan(program: Program) -> tuple[Assertion, ...]:
    try:
        return tuple(parse(source, program.callables) for source in program.asserts)
    except SyntaxError as error:
        raise ValueError(str(error)) from error


def _without_asides(assertion: Assertion) -> Assertion:
    """The same assert evaluated whole beside the candidate, where an aside has no value."""
    whole = parse(assertion.source, ())
    return Assertion(assertion.source, whole.calls, None, expected=assertion.expected)


def _modules(source: str) -> list[str]:
    """Imports of the library modules that an aside names: the candidate's own imports are not there."""
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    return [f"import {name}" for name in sorted(names & sys.stdlib_module_names)]


def _aside_value(outcome: _Outcome | None) -> Value:
    if outcome is not None:
        facts = judge.parse_body(outcome.body, 1)
        if facts.steps and isinstance(facts.steps[0], tuple) and len(facts.steps[0]) == 1:
            return facts.steps[0][0]
    return values.Opaque("aside", "<no value>", False)


def _judge(
    program: Program,
    plan: Sequence[Assertion],
    outcome: _Outcome | None,
    asides: dict[tuple[tuple[str, ...], str], Value],
) -> Execution:
    if outcome is None:
        return _too_large(program, plan)
    needed = {
        source: asides[program.imports, source] for assertion in plan for source in assertion.asides
    }
    return judge.judge(program, plan, outcome.header, outcome.body, asides=needed)


def _too_large(program: Program, plan: Sequence[Assertion]) -> Execution:
    message = f"a program must fit {MAX_JOB_BYTES} bytes, got {len(program.code)} characters"
    results = tuple(
        AssertResult(
            assertion.source,
            Verdict.ERROR,
            trusted=assertion.trusted,
            exception="ProgramTooLarge",
            message=message,
        )
        for assertion in plan
    )
    return Execution(results, cpu_ms=0.0, wall_ms=0.0, peak_memory_bytes=0)
