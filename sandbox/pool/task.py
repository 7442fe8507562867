"""One task over one connection: what is sent, what comes back, when it is given up."""

from __future__ import annotations

import contextlib
import enum
import logging
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.guest.child import EXIT_NOT_CONFINED
from sandbox.guest.protocol import (
    MAX_HARD_MS,
    MAX_JOB_BYTES,
    MAX_TIMEOUT_MS,
    RESPONSE_BYTES,
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
from sandbox.pool.endpoint import answers, connect, run_socket

STARVATION_FACTOR = 6
"""A child may take this many times its limit in wall-clock time, if it waits for a processor."""
PATIENCE_FACTOR = 10
"""As many times longer waits the second try of a program that got no processor in the first."""
GRACE_S = 5.0
"""After the supervisor's own deadline, before we ask whether the supervisor is still there."""
LATE_S = 30.0
"""After that for one that says it is, before we give it up all the same: a busy machine makes it late."""
QUEUE_CHECK_S = 15.0
"""A program that waits for a slot asks so often whether the supervisor is still there; it may wait for ever."""
_CONNECT_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What the sandbox is asked to run."""

    job: Job
    timeout_s: float
    memory_bytes: int | None = None
    """None: what the sandbox allows."""


@dataclass(frozen=True)
class Task:
    """A request."""

    header: RequestHeader
    data: bytes
    is_patient: bool = False
    """Whether it has had its second chance to get a processor."""

    @property
    def hard_s(self) -> float:
        """Wall-clock limit in seconds."""
        return self.header.hard_ms / 1000

    def patient(self) -> Task:
        """The same with more time to wait for a processor; not more of the processor."""
        hard_ms = min(self.header.hard_ms * PATIENCE_FACTOR, MAX_HARD_MS)
        return Task(self.header._replace(hard_ms=hard_ms), self.data, is_patient=True)


@dataclass(frozen=True)
class Outcome:
    """How a child ended, by the supervisor's word, and what it wrote."""

    header: ResponseHeader
    body: bytes


Execute = Callable[[Sequence[Run]], Sequence[Outcome | None]]
"""Runs some jobs in any order; None came of one that was too large to be sent."""


class Pending(enum.Enum):
    """An exchange without an outcome."""

    MORE = enum.auto()
    """There is more to come."""
    LOST = enum.auto()
    """The supervisor went away, or made no sense: our failure until shown otherwise."""


def make_task(job: Job, *, timeout_s: float, memory_bytes: int) -> Task | None:
    """Return the request for a job, or None where it is too large to be sent.

    Raises:
        ValueError: a time limit out of range.
    """
    if not 0.001 <= timeout_s <= MAX_TIMEOUT_MS / 1000:
        raise ValueError(
            f"timeout_s must lie between 0.001 and {MAX_TIMEOUT_MS // 1000}, got {timeout_s!r}"
        )
    timeout_ms = int(timeout_s * 1000)
    hard_ms = min(timeout_ms * STARVATION_FACTOR, MAX_HARD_MS)
    data = dump_job(job)
    if len(data) > MAX_JOB_BYTES:
        return None
    header = RequestHeader(Kind.RUN, len(data), timeout_ms, hard_ms, memory_bytes)
    return Task(header, data)


class Exchange:
    """A connection on which a task has been sent, at least in part."""

    def __init__(self, socket_dir: Path, task: Task, *, name: str) -> None:
        """Connect, waiting for room in the supervisor's queue, and send what fits.

        Raises:
            OSError: nobody answers in that folder.
        """
        self.started = False
        """Whether the supervisor has said that it forked."""
        self.deadline = time.monotonic() + QUEUE_CHECK_S
        self._late = False
        self._socket_dir = socket_dir
        self._task = task
        self._name = name
        self._unsent = memoryview(dump_request(task.header) + task.data)
        self._received = bytearray()
        self._connection = _connected(socket_dir)
        self._connection.setblocking(False)
        with contextlib.suppress(OSError):
            self._unsent = self._unsent[self._connection.send(self._unsent) :]

    def fileno(self) -> int:
        """The connection's descriptor, for poll."""
        return self._connection.fileno()

    @property
    def events(self) -> int:
        """What to poll for."""
        return select.POLLIN | (select.POLLOUT if self._unsent.nbytes else 0)

    def advance(self) -> Outcome | Pending:
        """Send and receive what can be without waiting."""
        try:
            if self._unsent.nbytes:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            # The other side will read no more: what it has to say may still be there.
            self._unsent = self._unsent[:0]
        try:
            part = self._connection.recv(1 << 18)
        except BlockingIOError:
            return Pending.MORE
        except OSError:
            part = b""
        if not part:
            return Pending.LOST
        self._received += part
        try:
            return self._read()
        except ProtocolError as error:
            _log.warning("%s: %s", self._name, error)
            return Pending.LOST

    def _read(self) -> Outcome | Pending:
        data = self._received
        if not self.started and len(data) >= RESPONSE_BYTES:
            if parse_response(bytes(data[:RESPONSE_BYTES])).reply != Reply.STARTED:
                return Pending.LOST
            self.started = True
            self.deadline = time.monotonic() + self._task.hard_s + GRACE_S
        if len(data) < 2 * RESPONSE_BYTES:
            return Pending.MORE
        header = parse_response(bytes(data[RESPONSE_BYTES : 2 * RESPONSE_BYTES]))
        if header.reply != Reply.ENDED:
            return Pending.LOST
        body = data[2 * RESPONSE_BYTES :]
        if len(body) < header.body_bytes:
            return Pending.MORE
        if header.how == How.EXITED and header.code == EXIT_NOT_CONFINED and not body:
            # By its own word the child could not be confined; hostile code may say so, too.
            return Pending.LOST
        return Outcome(header, bytes(body[: header.body_bytes]))

    def given_up(self) -> bool:
        """Whether the deadline has passed and the supervisor with it; else there is a new deadline.

        Asks the supervisor: while it answers, a program that waits for a slot waits for other clients'
        programs, and one that runs is at most late.
        """
        if time.monotonic() <= self.deadline:
            return False
        if self._late or not answers(self._socket_dir):
            return True
        self._late = self.started
        self.deadline = time.monotonic() + (LATE_S if self.started else QUEUE_CHECK_S)
        return False

    def wait(self) -> Outcome | None:
        """Wait for the outcome, then close; None where it is lost or late."""
        poller = select.poll()
        poller.register(self, self.events)
        with self._connection:
            while True:
                left = max(0.0, self.deadline - time.monotonic())
                if not poller.poll(left * 1000 + 1):
                    if self.given_up():
                        return None
                    continue
                outcome = self.advance()
                if outcome is not Pending.MORE:
                    return outcome if isinstance(outcome, Outcome) else None
                poller.modify(self, self.events)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _connected(socket_dir: Path) -> socket.socket:
    """Connect; a queue that other clients keep full is no failure while the supervisor answers.

    Raises:
        OSError: nobody listens there, or the queue is full and nobody answers.
    """
    while True:
        try:
            return connect(run_socket(socket_dir), timeout_s=_CONNECT_S)
        except BlockingIOError:
            if not answers(socket_dir):
                raise
