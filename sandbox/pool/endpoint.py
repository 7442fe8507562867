"""One supervisor as the host sees it: a folder with two sockets, and a way to get a fresh one."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sandbox.guest.__main__ import CONTROL_SOCKET, RUN_SOCKET
from sandbox.guest.protocol import (
    RESPONSE_BYTES,
    Kind,
    ProtocolError,
    Reply,
    RequestHeader,
    dump_request,
    parse_response,
)
from sandbox.program import SandboxError

START_TIMEOUT_S = 20.0
_CONTROL_TIMEOUT_S = 5.0


class Endpoint(Protocol):
    """A supervisor that this client may use, and perhaps owns."""

    name: str
    socket_dir: Path
    slots: int

    def restart(self) -> None:
        """Bring a fresh supervisor in the place of this one, and wait until it answers.

        Raises:
            SandboxError: none comes.
        """
        ...

    def close(self) -> None:
        """Stop what this client started."""
        ...


def described(facts: Mapping[str, Any]) -> str:
    """Name what runs programs by the word of its supervisor: image and guest, Python, packages."""
    image = facts.get("image") or "of another owner"
    python = f" Python {facts['python']}" if facts.get("python") else ""
    packages = facts.get("packages") or ()
    return f"{image}{python}{' with ' if packages else ''}{', '.join(packages)}"


def run_socket(socket_dir: Path) -> str:
    """Return the path of the socket that takes programs."""
    return f"{socket_dir}/{RUN_SOCKET}"


def ask(socket_dir: Path, kind: Kind) -> socket.socket:
    """Open a control connection and send one request; the caller closes it.

    Raises:
        OSError: nobody answers at that socket.
    """
    connection = connect(str(socket_dir / CONTROL_SOCKET), timeout_s=_CONTROL_TIMEOUT_S)
    try:
        connection.settimeout(_CONTROL_TIMEOUT_S)
        connection.sendall(dump_request(RequestHeader(kind)))
    except OSError:
        connection.close()
        raise
    return connection


def connect(path: str, *, timeout_s: float) -> socket.socket:
    """Connect to a supervisor's socket; where its queue is full, wait for room.

    Raises:
        BlockingIOError: the queue stayed full.
        OSError: nobody listens at that path.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The kernel waits for room itself; with Python's own time-out a full queue is an error at once.
    connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(timeout_s), 0)
    )
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


@dataclass(frozen=True)
class Status:
    """What a supervisor says of itself."""

    slots: int
    facts: dict[str, Any]


def status(socket_dir: Path) -> Status:
    """Ask a supervisor how it is.

    Raises:
        OSError: nobody answers.
        ProtocolError: something else answers.
    """
    with ask(socket_dir, Kind.STATUS) as connection:
        data = b""
        while True:
            part = connection.recv(65536)
            if not part:
                break
            data += part
            if len(data) > 65536:
                raise ProtocolError("a status must be short")
    header = parse_response(data[:RESPONSE_BYTES])
    if header.reply != Reply.STATUS:
        raise ProtocolError(f"a status must be answered by a status, got {header.reply.name}")
    facts = json.loads(data[RESPONSE_BYTES:])
    if not isinstance(facts, dict) or type(facts.get("slots")) is not int:
        raise ProtocolError(f"a status must say its slots, got {str(facts)[:200]!r}")
    return Status(facts["slots"], facts)


def answers(socket_dir: Path) -> bool:
    """Whether a supervisor is there: it says its status, if on a busy machine not at once."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            status(socket_dir)
            return True
        except (TimeoutError, BlockingIOError):
            if time.monotonic() > deadline:
                return False
        except (OSError, ValueError):
            return False


def wait_until_ready(socket_dir: Path, what: str) -> Status:
    """Wait until a supervisor answers at its sockets.

    Raises:
        SandboxError: none does in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    pause = 0.005
    while True:
        try:
            return status(socket_dir)
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{what} must answer at {os.fspath(socket_dir)} within {START_TIMEOUT_S:g} s, "
                    f"got {error!r}; run `sdpo-bench sandbox doctor`"
                ) from error
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)


class Attached:
    """A supervisor that somebody else runs: `sandbox up` or Compose."""

    def __init__(self, socket_dir: Path) -> None:
        self.name = f"attached {socket_dir}"
        self.socket_dir = socket_dir
        found = wait_until_ready(socket_dir, "the sandbox")
        self.slots = found.slots
        self._instance = found.facts.get("instance")

    def restart(self) -> None:
        """Tell the supervisor to end; its restart policy brings a fresh one.

        One that somebody else has brought already is taken as it is: it runs other clients' programs.
        """
        try:
            if status(self.socket_dir).facts.get("instance") == self._instance:
                ask(self.socket_dir, Kind.RECYCLE).close()
        except (OSError, ValueError):
            # Gone already: the policy is at work.
            pass
        self._instance = self._fresh()

    def _fresh(self) -> str | None:
        """Wait for another supervisor than the one we knew; return its name for itself."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            instance: str | None = wait_until_ready(self.socket_dir, "the sandbox").facts.get(
                "instance"
            )
            if instance != self._instance or time.monotonic() > deadline:
                return instance
            time.sleep(0.01)

    def close(self) -> None:
        """Leave it to its owner."""
