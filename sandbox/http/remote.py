"""A sandbox that a server runs elsewhere: `--sandbox http://HOST:PORT`.

Judging is a function of the program, so asking again is safe: what was not answered whole counts for nothing and
is asked again, what was answered is kept at its place. A server that is away, busy or stopping is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from sandbox.guest.protocol import ProtocolError
from sandbox.http import protocol
from sandbox.http.address import TOKEN_VARIABLE, parse_url
from sandbox.http.connection import Connection, Reply, Unreachable
from sandbox.http.run_code import MAX_STDERR_BYTES, MAX_STDOUT_BYTES, RunCodeResponse
from sandbox.judge.verdict import clean
from sandbox.pool.jobs import planned, too_large
from sandbox.pool.task import STARVATION_FACTOR, check_timeout_s
from sandbox.program import AssertResult, Execution, Program, SandboxError, Verdict

PATIENCE_S = 600.0
"""So long a server may be away or without room, and nothing of ours come back, before that is a SandboxError."""
CHUNK = 16
"""Programs in one request: what is lost with a connection, and what others wait for."""
_CHUNK_BYTES = 4 << 20
_MAX_AT_ONCE = 16
_OPEN_S = 20.0
_WAIT_S = 120.0
"""What an answer may take beside its programs' own time: the server sends away who waits for a turn for a minute."""
_MAX_WRONG = 3
"""Answers to one request that make no sense, or say that the sandbox failed, before we give up."""
_MAX_PAUSE_S = 5.0
_MAX_RUN_CODE_BYTES = 6 * (MAX_STDOUT_BYTES + MAX_STDERR_BYTES) + 10_000
"""Of an answer of `/run_code`: JSON writes a character of no ASCII in six."""
_AGAIN = {408, 429, 500, 502, 503, 504}

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Chunk:
    """Some programs that go in one request."""

    places: tuple[int, ...]
    """Of the programs among those that were asked for."""
    programs: tuple[Program, ...]
    body: bytes

    @property
    def timeout_s(self) -> float:
        """Time for an answer, in seconds."""
        return _WAIT_S + (STARVATION_FACTOR + 1) * sum(
            p.timeout_s * max(1, len(p.cases)) for p in self.programs
        )


class Remote:
    """A `Sandbox` behind a server's address; safe to use from several threads."""

    def __init__(
        self, url: str, *, token: str | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        """Ask the server what it is.

        Args:
            url: `http://HOST:PORT` or `https://HOST:PORT`.
            token: what the server asks for; else SDPO_BENCH_SANDBOX_TOKEN.
            patience_s: how long it may be away later, in seconds.

        Raises:
            SandboxError: no server of this protocol answers there, or it wants another token.
        """
        self._address = parse_url(url)
        self._token = token or os.environ.get(TOKEN_VARIABLE) or None
        if self._token is not None and not (self._token.isascii() and self._token.isprintable()):
            raise SandboxError(
                f"a token must be ASCII without control characters; set {TOKEN_VARIABLE}"
            )
        self._patience_s = patience_s
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._last_answer = time.monotonic()
        self.n_asked_again = 0
        """Requests that had to be sent once more, since this was opened."""
        info = self._info()
        self._sandbox = info.sandbox
        self._max_body_bytes = info.max_body_bytes
        self._chunk = min(CHUNK, info.max_programs)
        # Enough requests under way that every slot has a program while others travel.
        self._n_at_once = min(_MAX_AT_ONCE, 3 + 2 * info.slots // self._chunk)
        self._threads = ThreadPoolExecutor(self._n_at_once, thread_name_prefix="remote")

    @property
    def name(self) -> str:
        """Backend, image and packages of the server, as stored with a run."""
        return f"{self._sandbox} over http"

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Judge programs; one result each, in order.

        Raises:
            SandboxError: the server cannot be had, makes no sense, or is another one than before.
            ValueError: an assert that is not an assert statement, or a limit out of range.
        """
        found: list[Execution | None] = [None] * len(programs)
        chunks = self._chunks(programs, found)
        asked: list[Future[list[Execution]]] = []
        self._last_answer = max(self._last_answer, time.monotonic())
        try:
            asked = [self._threads.submit(self._judge, chunk) for chunk in chunks]
            for chunk, future in zip(chunks, asked, strict=True):
                for place, execution in zip(chunk.places, future.result(), strict=True):
                    found[place] = execution
        except RuntimeError as error:
            raise SandboxError("a closed sandbox must not be asked; open it again") from error
        finally:
            for future in asked:
                future.cancel()
        whole = [execution for execution in found if execution is not None]
        assert len(whole) == len(programs)  # noqa: S101 - each has its place in one chunk
        return whole

    def printed(self, scripts: Sequence[str], *, timeout_s: float) -> list[str | None]:
        """Run whole programs; what each printed, None of one that did not come to its end.

        Raises:
            SandboxError: the server cannot be had or makes no sense.
            ValueError: a time limit out of range.
        """
        check_timeout_s(timeout_s)
        self._last_answer = max(self._last_answer, time.monotonic())
        # A connection is for one exchange at a time; few at once leave room for others.
        return list(self._threads.map(lambda script: self._script(script, timeout_s), scripts))

    def close(self) -> None:
        """Hang up; requests under way end with an error."""
        self._closed.set()
        with self._lock:
            connections = [*self._idle, *self._busy]
        for connection in connections:
            connection.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------- requests

    def _info(self) -> protocol.Info:
        """Ask once: whoever names an address that is wrong hears of it now."""
        try:
            with self._connection() as connection:
                reply = connection.exchange(
                    "GET", "/v1/info", None, max_bytes=1 << 16, timeout_s=_OPEN_S
                )
            if reply.status != 200:
                raise self._refused(reply)
            return protocol.read(protocol.Info, reply.body)
        except (Unreachable, ProtocolError) as error:
            raise SandboxError(
                f"a server must answer at {self._address.url}, got {str(error)!r}; start one with "
                "`sdpo-bench sandbox serve`"
            ) from error

    def _chunks(self, programs: Sequence[Program], found: list[Execution | None]) -> list[_Chunk]:
        """Put programs together that travel together; what is too large to travel has its verdict."""
        groups: list[list[tuple[int, bytes]]] = []
        room = min(_CHUNK_BYTES, self._max_body_bytes - 100)
        for place, program in enumerate(programs):
            check_timeout_s(program.timeout_s)
            part = protocol.write(protocol.wire_program(program))
            if len(part) + 100 > self._max_body_bytes:
                found[place] = _too_large(program, self._max_body_bytes)
                continue
            last = groups[-1] if groups else []
            n_bytes = sum(len(other) for _, other in last) + len(part)
            if not last or len(last) == self._chunk or n_bytes > room:
                groups.append([])
            groups[-1].append((place, part))
        return [
            _Chunk(
                places=tuple(place for place, _ in group),
                programs=tuple(programs[place] for place, _ in group),
                body=b'{"programs":[' + b",".join(part for _, part in group) + b"]}",
            )
            for group in groups
        ]

    def _judge(self, chunk: _Chunk) -> list[Execution]:
        return self._asked(
            "/v1/judge",
            chunk.body,
            lambda reply: self._executions(reply, chunk),
            max_bytes=protocol.max_answer_bytes(chunk.programs),
            timeout_s=chunk.timeout_s,
        )

    def _script(self, script: str, timeout_s: float) -> str | None:
        """Have a whole program run; what it printed."""
        body = {"code": script, "language": "python", "stdin": "", "run_timeout": timeout_s}
        return self._asked(
            "/run_code",
            protocol.write(body),
            self._printed,
            max_bytes=_MAX_RUN_CODE_BYTES,
            timeout_s=_WAIT_S + (STARVATION_FACTOR + 1) * timeout_s,
        )

    def _printed(self, reply: Reply) -> str | None:
        """Read an answer of `/run_code`."""
        response = protocol.read(RunCodeResponse, reply.body)
        self._last_answer = time.monotonic()
        ended = response.status == "Success" and response.run_result is not None
        return response.run_result.stdout if ended and response.run_result else None

    def _asked(
        self,
        path: str,
        body: bytes,
        read: Callable[[Reply], _T],
        *,
        max_bytes: int,
        timeout_s: float,
    ) -> _T:
        """Ask until there is a whole answer."""
        n_wrong, pause_s = 0, 0.05
        while True:
            why, retry_after_s = "", None
            try:
                with self._connection() as connection:
                    reply = connection.exchange(
                        "POST", path, body, max_bytes=max_bytes, timeout_s=timeout_s
                    )
                if reply.status == 200:
                    return read(reply)
                if reply.status == 422:
                    raise ValueError(_said(reply).error)
                if reply.status not in _AGAIN:
                    raise self._refused(reply)
                said = _said(reply)
                why, retry_after_s = f"status {reply.status}: {said.error}", reply.retry_after_s
                n_wrong += said.code == "sandbox_failed"
            except Unreachable as error:
                why = str(error)
            except ProtocolError as error:
                why = f"an answer that makes no sense: {error}"
                n_wrong += 1
            if n_wrong >= _MAX_WRONG:
                raise SandboxError(
                    f"the server at {self._address.url} must judge programs, got {why!r} "
                    f"{n_wrong} times; look at its log"
                )
            pause_s = min(_MAX_PAUSE_S, pause_s * 2)
            self._wait(why, max(pause_s, retry_after_s or 0.0))

    def _executions(self, reply: Reply, chunk: _Chunk) -> list[Execution]:
        response = protocol.read(protocol.JudgeResponse, reply.body)
        executions = protocol.executions(response, chunk.programs)
        if response.sandbox != self._sandbox:
            raise SandboxError(
                f"the server must keep its sandbox, got {clean(response.sandbox, 200)!r} after "
                f"{clean(self._sandbox, 200)!r}; start anew, results of both must not mix"
            )
        self._last_answer = time.monotonic()
        return executions

    def _wait(self, why: str, seconds: float) -> None:
        away_s = time.monotonic() - self._last_answer
        if away_s > self._patience_s:
            raise SandboxError(
                f"the server at {self._address.url} must answer within {self._patience_s:g} s, got "
                f"{clean(why, 300)!r}; see that it runs"
            )
        with self._lock:
            self.n_asked_again += 1
        _log.info("%s: %s; asking again", self._address.url, clean(why, 300))
        # Not all at the same moment.
        if self._closed.wait(seconds * random.uniform(0.75, 1.25)):  # noqa: S311 - no secret
            raise SandboxError("the sandbox was closed while it was asked")

    def _refused(self, reply: Reply) -> SandboxError:
        if reply.status == 401:
            return SandboxError(
                f"the server at {self._address.url} must accept the token, got status 401; set "
                f"{TOKEN_VARIABLE} to the server's"
            )
        said = _said(reply).error
        return SandboxError(
            f"the server at {self._address.url} must speak version {protocol.VERSION} of the "
            f"protocol, got status {reply.status}: {said!r}"
        )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection for one exchange."""
        with self._lock:
            connection = (
                self._idle.pop() if self._idle else Connection(self._address, token=self._token)
            )
            self._busy.add(connection)
        if self._closed.is_set():
            raise SandboxError("the sandbox was closed while it was asked")
        try:
            yield connection
        finally:
            with self._lock:
                self._busy.discard(connection)
                self._idle.append(connection)


def _too_large(program: Program, max_bytes: int) -> Execution:
    """The execution of a program that does not fit into a request."""
    if not program.cases:
        return too_large(program, planned(program), max_bytes)
    message = f"a program must fit {max_bytes} bytes with its cases"
    results = tuple(
        AssertResult(name, Verdict.ERROR, exception="ProgramTooLarge", message=message)
        for name in protocol.result_names(program)
    )
    return Execution(results, cpu_ms=0.0, wall_ms=0.0, peak_memory_bytes=0)


def _said(reply: Reply) -> protocol.Refusal:
    """What a refusal says; a proxy's or a hostile server's is one of unknown kind."""
    try:
        said = protocol.read(protocol.Refusal, reply.body[: 1 << 14])
    except ProtocolError:
        text = clean(reply.body[:200].decode("utf-8", "replace"), 200)
        return protocol.Refusal(error=text, code="busy")
    return protocol.Refusal(error=clean(said.error, 300), code=said.code)
