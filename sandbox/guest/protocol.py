"""The bytes that cross the wall: fixed frames, bounded bodies, strict parsing on both sides.

One connection carries one request. The client sends a `RequestHeader` and a JSON job; the supervisor
answers STARTED when it has forked and ENDED when the child is gone, followed by what the child wrote.
The child reads its own job, then closes the connection, so hostile code never holds it: how the child
ended and what it used comes from the supervisor alone, the body alone is written by hostile code.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

VERSION = 4
MAX_JOB_BYTES = 32 << 20
"""Largest job; a client refuses larger programs before it connects."""
MAX_BODY_BYTES = 1 << 20
"""Largest body: the capacity of the pipe that the child writes to."""
MAX_TIMEOUT_MS = 3_600_000
"""One hour: longer limits are a mistake."""
MAX_HARD_MS = 24 * MAX_TIMEOUT_MS
"""A day: as long as a program may wait for its hour."""

_REQUEST = struct.Struct("!4sBBHIIIQ")
_RESPONSE = struct.Struct("!4sBBBBIQQQ")
_REQUEST_MAGIC = b"SDBQ"
_RESPONSE_MAGIC = b"SDBR"
REQUEST_BYTES = _REQUEST.size
RESPONSE_BYTES = _RESPONSE.size


class ProtocolError(ValueError):
    """Bytes that are not what the protocol allows at this place."""


class Kind(IntEnum):
    """What a request asks for."""

    RUN = 1
    STATUS = 2
    LEASE = 3
    """The supervisor exits when this connection closes: nothing outlives its owner."""
    RECYCLE = 4
    """The supervisor exits now; whoever started it brings a fresh one."""


class Reply(IntEnum):
    """What a response frame says."""

    STARTED = 1
    ENDED = 2
    STATUS = 3


class How(IntEnum):
    """How the child ended, as the supervisor saw it."""

    EXITED = 0
    SIGNALED = 1
    DEADLINE = 2
    """Killed by the supervisor: its time was up."""
    OOM = 3
    """Killed by the kernel, and the memory cgroup counted an out-of-memory kill."""
    STARVED = 4
    """Killed by the supervisor before it had the processor for as long as it may: says nothing of the program."""


class RequestHeader(NamedTuple):
    """What the supervisor reads before it forks: sizes and limits, nothing of the program."""

    kind: Kind
    job_bytes: int = 0
    timeout_ms: int = 0
    """Time the child may use, not counting time it waited for a processor."""
    hard_ms: int = 0
    """Wall-clock time after which the child is killed whatever the load."""
    memory_bytes: int = 0


class ResponseHeader(NamedTuple):
    """What the supervisor says of the child; `body_bytes` of hostile text follow."""

    reply: Reply
    how: How = How.EXITED
    code: int = 0
    """Exit status or signal number."""
    body_bytes: int = 0
    cpu_us: int = 0
    wall_us: int = 0
    peak_memory_bytes: int = 0


def dump_request(header: RequestHeader) -> bytes:
    """Return the fixed-size bytes of a request header."""
    return _REQUEST.pack(_REQUEST_MAGIC, VERSION, header.kind, 0, *header[1:])


def parse_request(data: bytes) -> RequestHeader:
    """Parse a request header.

    Raises:
        ProtocolError: wrong size, magic, version, kind, or a limit out of range.
    """
    if len(data) != REQUEST_BYTES:
        raise ProtocolError(f"a request header must have {REQUEST_BYTES} bytes, got {len(data)}")
    magic, version, kind, reserved, job_bytes, timeout_ms, hard_ms, memory = _REQUEST.unpack(data)
    if magic != _REQUEST_MAGIC or version != VERSION or reserved:
        raise ProtocolError(f"a request must start with version {VERSION}, got {data[:8]!r}")
    if kind not in Kind.__members__.values():
        raise ProtocolError(f"a request must be of a known kind, got {kind}")
    if kind == Kind.RUN and not (
        0 < job_bytes <= MAX_JOB_BYTES
        and 0 < timeout_ms <= MAX_TIMEOUT_MS
        and timeout_ms <= hard_ms <= MAX_HARD_MS
        and 0 < memory < 1 << 62
    ):
        raise ProtocolError(
            f"limits must be in range, got {job_bytes} bytes, {timeout_ms} ms, {hard_ms} ms, {memory}"
        )
    if kind != Kind.RUN and (job_bytes or timeout_ms or hard_ms or memory):
        raise ProtocolError("only a run may carry a job and limits")
    return RequestHeader(Kind(kind), job_bytes, timeout_ms, hard_ms, memory)


def dump_response(header: ResponseHeader) -> bytes:
    """Return the fixed-size bytes of a response header."""
    return _RESPONSE.pack(_RESPONSE_MAGIC, VERSION, *header)


def parse_response(data: bytes) -> ResponseHeader:
    """Parse a response header.

    Raises:
        ProtocolError: wrong size, magic, version or reply, or a body larger than allowed.
    """
    if len(data) != RESPONSE_BYTES:
        raise ProtocolError(f"a response header must have {RESPONSE_BYTES} bytes, got {len(data)}")
    magic, version, reply, how, code, body, *used = _RESPONSE.unpack(data)
    if magic != _RESPONSE_MAGIC or version != VERSION:
        raise ProtocolError(f"a response must start with version {VERSION}, got {data[:8]!r}")
    if reply not in Reply.__members__.values() or how not in How.__members__.values():
        raise ProtocolError(f"a response must be of a known kind, got reply {reply}, how {how}")
    if body > MAX_BODY_BYTES:
        raise ProtocolError(f"a body must have at most {MAX_BODY_BYTES} bytes, got {body}")
    return ResponseHeader(Reply(reply), How(how), code, body, *used)


class Call(NamedTuple):
    """One expression to evaluate inside; its value travels."""

    source: str
    iterate: bool = False
    """Ship the items of an iterator too, because the assert goes on to iterate over it."""


class Job(NamedTuple):
    """What the child reads: a program and, for each assert, the calls whose values it asks for.

    With `stdin` the program is run as `__main__` on that input, and what it prints is the one value of the one step.
    """

    imports: tuple[str, ...]
    code: str
    setup_code: str
    steps: tuple[tuple[Call, ...], ...]
    stdin: str | None = None


# Read in every child, so by few steps: JSON of the same takes ten times as long there. No UTF-8 has these bytes.
_SECTION, _END, _ITERATE = b"\xff", b"\xfe", b"\xfd"


def dump_job(job: Job) -> bytes:
    """Return a job as bytes: code, setup code, imports, input, steps; lone surrogates survive the way."""
    imports = b"".join([_dump(line) + _END for line in job.imports])
    steps = [
        b"".join([_ITERATE * call.iterate + _dump(call.source) + _END for call in step])
        for step in job.steps
    ]
    # The mark tells an empty input from none.
    stdin = b"" if job.stdin is None else _ITERATE + _dump(job.stdin)
    return _SECTION.join((_dump(job.code), _dump(job.setup_code), imports, stdin, *steps))


def _dump(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def parse_job(data: bytes) -> Job:
    """Parse a job.

    Raises:
        ProtocolError: not a job.
    """
    try:
        code, setup_code, imports, stdin, *steps = data.split(_SECTION)
        return Job(
            tuple([_text(line) for line in _texts(imports)]),
            _text(code),
            _text(setup_code),
            tuple([tuple([_call(text) for text in _texts(step)]) for step in steps]),
            _text(stdin[1:]) if stdin else None,
        )
    except ValueError as error:
        raise ProtocolError(f"a job must be sections of texts: {error}") from error


def _texts(section: bytes) -> list[bytes]:
    *texts, rest = section.split(_END)
    if rest:
        raise ProtocolError(f"a text must have its end, got {rest[:80]!r}")
    return texts


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _call(data: bytes) -> Call:
    if data[:1] == _ITERATE:
        return Call(_text(data[1:]), True)
    return Call(_text(data))
