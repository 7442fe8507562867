"""A server on a port of its own, in a thread of its own, until it is stopped. The one importer of uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.http.app import App
from sandbox.http.door import Door
from sandbox.http.protocol import MAX_BODY_BYTES
from sandbox.http.service import Service
from sandbox.pool.pool import Pool
from sandbox.program import SandboxError

MIN_TOKEN_CHARS = 16
MAX_CONNECTIONS = 4096
HEADERS_S = 30.0
"""In which the headers of a request must have come, from their connection or their first byte on."""
_IDLE_S = 75
_START_S = 20.0


@dataclass(frozen=True)
class Limits:
    """How much a server takes on."""

    n_waiting: int = 256
    """Requests that may wait for their turn; the next is refused."""
    max_body_bytes: int = MAX_BODY_BYTES
    """Of one request."""
    max_bytes: int = 256 << 20
    """Of the bodies of all requests in the house."""
    grace_s: float = 60.0
    """For what runs when the server is stopped, in seconds."""


class Server:
    """Serves a sandbox over HTTP; a context manager. The sandbox stays its owner's."""

    def __init__(
        self,
        sandbox: Pool,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Bind the port; `start` begins to answer.

        Args:
            sandbox: where programs run.
            host: address or name to bind.
            port: port to bind; 0 takes a free one.
            token: what every request must show; needed unless only this machine can connect.
            limits: how much is taken on.

        Raises:
            SandboxError: the port cannot be had, or a token is needed, or is too short.
        """
        limits = limits or Limits()
        if token is not None and (len(token) < MIN_TOKEN_CHARS or not _is_plain(token)):
            raise SandboxError(
                f"a token must have at least {MIN_TOKEN_CHARS} characters of ASCII without blanks, "
                f"got {len(token)} characters; make one with `openssl rand -hex 32`"
            )
        self._socket = _bound(host, port)
        address, port = self._socket.getsockname()[:2]
        if token is None and not ipaddress.ip_address(address).is_loopback:
            self._socket.close()
            raise SandboxError(
                f"an address that others reach must have a token, got none for {address}; name a "
                "file with one by --token-file, or bind 127.0.0.1"
            )
        self.url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        n_at_work = sandbox.slots + 2  # while some parse and answer, the slots have work
        self.service = Service(sandbox, max_body_bytes=limits.max_body_bytes)
        self._door = Door(
            n_at_work=n_at_work, n_waiting=limits.n_waiting, max_bytes=limits.max_bytes
        )
        self._threads = ThreadPoolExecutor(n_at_work, thread_name_prefix="judge")
        app = App(self.service, self._door, self._threads, token=token)
        self._server = uvicorn.Server(_config(app, limits))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="http")

    def start(self) -> None:
        """Begin to answer.

        Raises:
            SandboxError: the server does not start.
        """
        self._thread.start()
        started = threading.Event()
        for _ in range(int(_START_S / 0.01)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            started.wait(0.01)
        raise SandboxError(f"the server must start within {_START_S:g} s, got none; see the log")

    def stop(self) -> None:
        """Refuse what is new and what waits, finish what runs, end."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it ended by itself
                loop.call_soon_threadsafe(self._door.close)
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until everything has ended."""
        self._thread.join()
        self._threads.shutdown()
        self._socket.close()

    def hurry(self) -> None:
        """End without waiting for what runs."""
        self._server.force_exit = True

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])


class _Impatient(H11Protocol):
    """Closes a connection whose request does not come: uvicorn would hold it, and all others with it, for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADERS_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_waiting():
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADERS_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _is_waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_waiting():
            self.transport.close()


def _config(app: App, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app.asgi,
        http=_Impatient,  # h11: the stricter parser, and no compiled one is needed: bodies are few and large
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=int(limits.grace_s),
        backlog=1024,
    )


def _is_plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Only of a socket that names its protocol does asyncio send a small answer at once: 40 ms otherwise.
        bound = socket.socket(family, kind, number)
    except (OSError, UnicodeError) as error:
        raise SandboxError(f"--host must be an address of this machine, got {host!r}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise SandboxError(
            f"the port must be free, got {error.strerror} for {host} port {port}; choose another "
            "with --port"
        ) from error
    return bound
