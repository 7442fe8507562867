"""One HTTP connection to a server that is not trusted with this process's time and memory.

The one importer of http.client here. Every wait has an end, and every answer a bound: whoever drips bytes, sends
without end or says nothing is hung up on.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.http.address import Address

CONNECT_S = 10.0
_MAX_RETRY_AFTER_S = 60.0


class Unreachable(Exception):
    """No answer, or none that is whole and within its bounds: nothing is known of what was asked."""


@dataclass(frozen=True)
class Reply:
    """An answer that is whole."""

    status: int
    body: bytes
    retry_after_s: float | None


class Connection:
    """A connection that is opened when it is needed and kept while both sides like it."""

    def __init__(self, address: Address, *, token: str | None) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http: http.client.HTTPConnection | None = None

    def exchange(
        self, method: str, path: str, body: bytes | None, *, max_bytes: int, timeout_s: float
    ) -> Reply:
        """Send a request and return the answer.

        Args:
            method: GET or POST.
            path: of the server.
            body: JSON, or None.
            max_bytes: most that the answer may have.
            timeout_s: for all of it, in seconds; connecting has ten more.

        Raises:
            Unreachable: no whole answer in that time, or a longer one.
        """
        headers = {**self._headers, "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            link = self._connected()
            with _hung_up_after(timeout_s, link.sock):
                link.request(method, path, body, headers)
                with link.getresponse() as response:
                    reply = _read(response, max_bytes)
                    if response.will_close:
                        self.close()
            return reply
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            text = " ".join(str(error).split())[:200]
            raise Unreachable(text or type(error).__name__) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up; from another thread, too."""
        link, self._http = self._http, None
        if link is not None:
            if link.sock is not None:
                _hang_up(link.sock)
            link.close()

    def _connected(self) -> http.client.HTTPConnection:
        link = self._http
        if link is not None and link.sock is not None:
            return link
        where = self._address
        if where.scheme == "https":
            link = http.client.HTTPSConnection(
                where.host, where.port, timeout=CONNECT_S, context=ssl.create_default_context()
            )
        else:
            link = http.client.HTTPConnection(where.host, where.port, timeout=CONNECT_S)
        link.connect()
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A machine that lost its power says nothing: it is found out in about a minute.
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                link.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        link.sock.settimeout(None)  # from here on the time is that of the whole exchange
        self._http = link
        return link


@contextlib.contextmanager
def _hung_up_after(seconds: float, link: socket.socket) -> Iterator[None]:
    """Bound the time of what is done on a socket, however many bytes come one by one."""
    passed = threading.Event()

    def hang_up() -> None:
        passed.set()
        _hang_up(link)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if passed.is_set():
            raise TimeoutError(f"no whole answer within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()
    if passed.is_set():
        raise TimeoutError(f"no whole answer within {seconds:.0f} s")


def _hang_up(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which takes the object away that another thread reads from.
        socket.socket.shutdown(link, socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse, max_bytes: int) -> Reply:
    """Read an answer that says its length."""
    if response.length is None or response.chunked:
        raise OSError("an answer must say its length")
    if response.length > max_bytes:
        raise OSError(f"an answer must have at most {max_bytes} bytes, got {response.length}")
    retry_after = response.getheader("Retry-After", "")
    body = response.read()
    return Reply(response.status, body, _seconds(retry_after))


def _seconds(text: str) -> float | None:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return min(float(text), _MAX_RETRY_AFTER_S)
