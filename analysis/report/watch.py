"""Serves the report on this machine while runs go on; an open page fetches what has changed.

Only 127.0.0.1 is bound, and a request must name this machine as its host: a page of another site whose
name was pointed here (DNS rebinding) gets nothing. The page is written when somebody looks and
something has changed, and takes at most a tenth of one core.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from analysis.journal.journal import StoreError, is_being_written

ADDRESS = "127.0.0.1"
_LEAST_REST = 9.0
"""Seconds of rest for a second of work."""
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Page(NamedTuple):
    """The page as it was last written."""

    content: bytes
    tag: str
    """Names the content; a browser that has it is sent nothing."""


class LivePage:
    """The page for what the journals have now, written anew when it is asked for and they have grown.

    `build` brings the results up to date and returns the page; `clock` gives seconds that only grow.
    """

    def __init__(
        self,
        runs_dir: Path,
        build: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs_dir, self._build, self._clock = runs_dir, build, clock
        self._lock = threading.Lock()
        self._page: Page | None = None
        self._seen: object = None
        self._rest_until = 0.0

    def current(self) -> Page:
        """Return the page, a moment old at most; one caller builds, the others wait. StoreError: unreadable results."""
        with self._lock:
            seen = state_of_runs(self._runs_dir)
            if self._page is not None and (seen == self._seen or self._clock() < self._rest_until):
                return self._page
            started = self._clock()
            content = self._build().encode()
            ended = self._clock()
            self._rest_until = ended + _LEAST_REST * (ended - started)
            self._seen = seen
            self._page = Page(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
            return self._page


def state_of_runs(runs_dir: Path) -> tuple[tuple[str, int], ...]:
    """Every journal file with its size, every run with whether it is written: differs when one goes on or was killed.

    Raises:
        StoreError: the runs folder cannot be read.
    """
    try:
        files = list(runs_dir.glob("*/segment-*.jsonl"))
        found = [(str(path), path.stat().st_size) for path in files]
        found += [(str(run), is_being_written(run)) for run in {path.parent for path in files}]
    except OSError as error:
        raise StoreError(
            f"the runs folder must be readable, got {str(runs_dir)!r} ({error.strerror}); "
            "check its permissions"
        ) from error
    return tuple(sorted(found))


def make_server(page: LivePage, port: int) -> ThreadingHTTPServer:
    """Bind a port, or any free one for 0, on this machine only; `serve_forever` of what is returned serves the page.

    Raises:
        StoreError: the port is taken or not allowed.
    """
    try:
        server = _Server((ADDRESS, port), _Handler)
    except OSError as error:
        raise StoreError(
            f"the port must be free, got {port} ({error.strerror}); "
            "name another with --port, or 0 for any"
        ) from error
    server.page = page
    return server


class _Server(ThreadingHTTPServer):
    """One thread a connection; they end with the process."""

    daemon_threads = True
    page: LivePage

    def hosts(self) -> Sequence[str]:
        """What a browser of this machine may call us."""
        port = self.server_address[1]
        return (f"{ADDRESS}:{port}", f"localhost:{port}")


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of /."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sdpo-bench", ""
    timeout = 30
    """Seconds that a connection may say nothing."""

    def do_GET(self) -> None:
        """Send the page; to HEAD all but the page itself."""
        if self.headers.get("Host", "").lower() not in self.server.hosts():
            why = f"the host must be {self.server.hosts()[0]}"
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, why)
            return
        if self.path != "/":
            self._refuse(HTTPStatus.NOT_FOUND, "there is only /")
            return
        try:
            page = self.server.page.current()
        except StoreError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        if self.headers.get("If-None-Match") == page.tag:
            self._send(HTTPStatus.NOT_MODIFIED, {"ETag": page.tag}, None)
        else:
            self._send(HTTPStatus.OK, {"ETag": page.tag}, page.content)

    do_HEAD = do_GET

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        plain = {"Content-Type": "text/plain; charset=utf-8"}
        self._send(status, plain, f"{why}\n".encode("utf-8", "backslashreplace"))

    def _send(self, status: HTTPStatus, more: dict[str, str], content: bytes | None) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | more).items():
            self.send_header(name, value)
        if content is not None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if content and self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a request's text is not ours to print on a terminal."""
