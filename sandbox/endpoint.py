"""One supervisor as the host sees it: a folder with two sockets, and a way to get a fresh one."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
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


def make_socket_folder() -> Path:
    """Return a fresh folder for sockets; on the host, nobody else comes near it.

    Raises:
        SandboxError: the folder for temporary files takes none.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="sdpo-bench-"))
    except OSError as error:
        raise SandboxError(
            f"the folder for temporary files must take one more, got {error.strerror}: "
            f"{error.filename}; make room, or name another in TMPDIR"
        ) from error


def run_socket(socket_dir: Path) -> str:
    """Return the path of the socket that takes programs."""
    return str(socket_dir / RUN_SOCKET)


def ask(socket_dir: Path, kind: Kind) -> socket.socket:
    """Open a control connection and send one request; the caller closes it.

    Raises:
        OSError: nobody answers at that socket.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONTROL_TIMEOUT_S)
        connection.connect(str(socket_dir / CONTROL_SOCKET))
        connection.sendall(dump_request(RequestHeader(kind)))
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


def wait_until_ready(socket_dir: Path, what: str, *, timeout_s: float = START_TIMEOUT_S) -> Status:
    """Wait until a supervisor answers at its sockets.

    Raises:
        SandboxError: none does in time.
    """
    deadline = time.monotonic() + timeout_s
    pause = 0.005
    while True:
        try:
            return status(socket_dir)
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{what} must answer at {os.fspath(socket_dir)} within {timeout_s:g} s, "
                    f"got {error!r}; run `sdpo-bench sandbox doctor`"
                ) from error
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)


class Attached:
    """A supervisor that somebody else runs: `sandbox up` or Compose."""

    def __init__(self, socket_dir: Path) -> None:
        self.name = f"attached {socket_dir}"
        self.socket_dir = socket_dir
        self.slots = wait_until_ready(socket_dir, "the sandbox").slots

    def restart(self) -> None:
        """Tell the supervisor to end; its restart policy brings a fresh one."""
        try:
            ask(self.socket_dir, Kind.RECYCLE).close()
        except OSError:
            # Gone already: the policy is at work.
            pass
        wait_until_ready(self.socket_dir, "the sandbox")

    def close(self) -> None:
        """Leave it to its owner."""
