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

VERSION = 2
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
    return _REQUEST.pack(
        _REQUEST_MAGIC,
        VERSION,
        header.kind,
        0,
        header.job_bytes,
        header.timeout_ms,
        header.hard_ms,
        header.memory_bytes,
    )


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
    return _RESPONSE.pack(
        _RESPONSE_MAGIC,
        VERSION,
        header.reply,
        header.how,
        header.code,
        header.body_bytes,
        header.cpu_us,
        header.wall_us,
        header.peak_memory_bytes,
    )


def parse_response(data: bytes) -> ResponseHeader:
    """Parse a response header.

    Raises:
        ProtocolError: wrong size, magic, version or reply, or a body larger than allowed.
    """
    if len(data) != RESPONSE_BYTES:
        raise ProtocolError(f"a response header must have {RESPONSE_BYTES} bytes, got {len(data)}")
    magic, version, reply, how, code, body, cpu, wall, peak = _RESPONSE.unpack(data)
    if magic != _RESPONSE_MAGIC or version != VERSION:
        raise ProtocolError(f"a response must start with version {VERSION}, got {data[:8]!r}")
    if reply not in Reply.__members__.values() or how not in How.__members__.values():
        raise ProtocolError(f"a response must be of a known kind, got reply {reply}, how {how}")
    if body > MAX_BODY_BYTES:
        raise ProtocolError(f"a body must have at most {MAX_BODY_BYTES} bytes, got {body}")
    return ResponseHeader(Reply(reply), How(how), code, body, cpu, wall, peak)


class Call(NamedTuple):
    """One expression to evaluate inside; its value travels."""

    source: str
    iterate: bool = False
    """Ship the items of an iterator too, because the assert goes on to iterate over it."""


class Job(NamedTuple):
    """What the child reads: a program and, for each assert, the calls whose values it asks for."""

    imports: tuple[str, ...]
    code: str
    setup_code: str
    steps: tuple[tuple[Call, ...], ...]


# Flat, because this is read in every child: JSON of the same takes four times as long there.
_ITERATE = 1 << 31


def dump_job(job: Job) -> bytes:
    """Return a job as bytes: how many numbers, the numbers, the texts; lone surrogates survive the way."""
    calls = [call for step in job.steps for call in step]
    sources = (job.code, job.setup_code, *job.imports, *(call.source for call in calls))
    texts = [source.encode("utf-8", "surrogatepass") for source in sources]
    flags = [0] * (2 + len(job.imports)) + [_ITERATE * call.iterate for call in calls]
    numbers = [len(job.imports), len(job.steps), *(len(step) for step in job.steps)]
    numbers += [len(text) | flag for text, flag in zip(texts, flags, strict=True)]
    return struct.pack(f"={len(numbers) + 1}I", len(numbers), *numbers) + b"".join(texts)


def parse_job(data: bytes) -> Job:
    """Parse a job.

    Raises:
        ProtocolError: not a job.
    """
    try:
        (n_numbers,) = struct.unpack_from("=I", data)
        numbers = list(memoryview(data)[4 : 4 + 4 * n_numbers].cast("I"))
        n_imports, n_steps = numbers[:2]
        start = 4 + 4 * n_numbers
        texts = []
        for number in numbers[2 + n_steps :]:
            end = start + (number & ~_ITERATE)
            texts.append(str(data[start:end], "utf-8", "surrogatepass"))
            start = end
        position, flags, steps = 2 + n_imports, numbers[2 + n_steps :], []
        for n_calls in numbers[2 : 2 + n_steps]:
            after = position + n_calls
            parts = zip(texts[position:after], flags[position:after], strict=True)
            steps.append(tuple([Call(text, flag >= _ITERATE) for text, flag in parts]))
            position = after
        if start != len(data) or position != len(texts):
            raise ProtocolError(f"a job must fit its {len(data)} bytes, got counts for {start}")
        return Job(tuple(texts[2 : 2 + n_imports]), texts[0], texts[1], tuple(steps))
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise ProtocolError(f"a job must be counts and texts: {error}") from error
