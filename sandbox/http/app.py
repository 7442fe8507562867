"""The web around the service: who may ask, how much, how many at a time. The one importer of starlette."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hmac
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.http import openapi
from sandbox.http.door import Closing, Door, Full
from sandbox.http.metrics import CONTENT_TYPE
from sandbox.http.service import RETRY_S, Answer, Service, refusal

BODY_S = 30.0
"""In which a body must have come."""
TURN_S = 60.0
"""After which a request that waits for its turn is sent away."""
RUN_CODE_TURN_S = 8.0
"""The same for `/run_code`: its clients give up ten seconds after the program's own time."""

Handler = Callable[[Request], Awaitable[Answer]]


class App:
    """The application of one service."""

    def __init__(
        self, service: Service, door: Door, threads: ThreadPoolExecutor, *, token: str | None
    ) -> None:
        """Make the application.

        Args:
            service: what the paths do.
            door: how many are let in.
            threads: where the service runs.
            token: what a request must show; None only where nobody but this machine can connect.
        """
        self._service, self._door, self._threads = service, door, threads
        self._token = token
        self.asgi = Starlette(
            routes=[
                self._route("/health", self._health, "GET", open_to_all=True),
                self._route("/metrics", self._metrics, "GET"),
                self._route("/openapi.json", self._openapi, "GET"),
                self._route("/v1/info", self._info, "GET"),
                self._route(
                    "/v1/judge", functools.partial(self._post, service.judge, TURN_S, 429), "POST"
                ),
                self._route(
                    # 504 is what clients of SandboxFusion take for "try again".
                    "/run_code",
                    functools.partial(self._post, service.run_code, RUN_CODE_TURN_S, 504),
                    "POST",
                ),
            ],
            exception_handlers={HTTPException: self._no_such_place},
        )
        # A redirect would be to the Host that was asked for.
        self.asgi.router.redirect_slashes = False

    # -------------------------------------------------------------------------------- answers

    async def _health(self, request: Request) -> Answer:
        if self._door.closing:
            return _stopping()
        return Answer(200, b'{"status":"ok"}')

    async def _metrics(self, request: Request) -> Answer:
        return Answer(200, self._service.metrics_text(self._door).encode())

    async def _openapi(self, request: Request) -> Answer:
        return Answer(200, openapi.text().encode())

    async def _info(self, request: Request) -> Answer:
        return self._service.info()

    async def _post(
        self, work: Callable[[bytes], Answer], turn_s: float, busy: int, request: Request
    ) -> Answer:
        """Let a request in, read its body, wait for its turn, have it answered."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return refusal(415, "bad_request", "a body must be of type application/json")
        n_bytes = self._n_bytes(request)
        if n_bytes > self._service.max_body_bytes:
            return self._too_large()
        try:
            self._door.enter(n_bytes)
            try:
                async with asyncio.timeout(BODY_S):
                    body = await self._body(request)
                if body is None:
                    return self._too_large()
                return await self._in_turn(work, body, turn_s, request)
            finally:
                self._door.leave(n_bytes)
        except Full:
            text = "the queue must have room, got none; try again"
            return refusal(busy, "busy", text, retry_after_s=RETRY_S)
        except Closing:
            return _stopping()
        except TimeoutError:
            return refusal(408, "timeout", f"a body must come within {BODY_S:g} s")

    def _n_bytes(self, request: Request) -> int:
        """Size of a body by its sender's word, else the most that it may have."""
        said = request.headers.get("content-length", "")
        return int(said) if said.isascii() and said.isdigit() else self._service.max_body_bytes

    async def _body(self, request: Request) -> bytes | None:
        """Read a body; None where it is larger than it may be."""
        parts, n = [], 0
        async for part in request.stream():
            n += len(part)
            if n > self._service.max_body_bytes:
                return None
            parts.append(part)
        return b"".join(parts)

    async def _in_turn(
        self, work: Callable[[bytes], Answer], body: bytes, turn_s: float, request: Request
    ) -> Answer:
        await self._door.turn(timeout_s=turn_s)
        try:
            if await request.is_disconnected():
                # Whoever asked has gone, and may ask again: nothing is run for nobody.
                return refusal(408, "timeout", "whoever asked must wait for the answer")
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, body)
        finally:
            self._door.done()

    def _too_large(self) -> Answer:
        limit = self._service.max_body_bytes
        return refusal(413, "too_large", f"a body must have at most {limit} bytes, got more")

    # -------------------------------------------------------------------------------- who asks

    def _route(
        self, path: str, handler: Handler, method: str, *, open_to_all: bool = False
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            try:
                if open_to_all or self._may_ask(request):
                    answer = await handler(request)
                else:
                    text = "a request must carry the server's token, got none or another"
                    answer = refusal(401, "unauthorized", text)
            except ClientDisconnect:
                answer = refusal(408, "timeout", "a body must be complete")
            self._service.metrics.request(path, answer.status, time.perf_counter() - started)
            return _response(answer, CONTENT_TYPE if path == "/metrics" else "application/json")

        return Route(path, endpoint, methods=[method])

    def _may_ask(self, request: Request) -> bool:
        """Whether a request shows the token; without one, whether it was meant for this machine."""
        if self._token is None:
            # A page in a browser can reach this port under a name of its own.
            return _is_local(request.headers.get("host", ""))
        shown = _shown(request.headers.get("authorization", ""))
        return hmac.compare_digest(shown, self._token.encode())

    async def _no_such_place(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        text = "a path must be one of docs/protocol.md, asked by its method"
        self._service.metrics.request("other", status, 0.0)
        return _response(refusal(status, "not_found", text), "application/json")


def _is_local(host: str) -> bool:
    """Whether a Host header names this machine as itself."""
    name = re.sub(r":\d*\Z", "", host)
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _shown(header: str) -> bytes:
    """The token of an Authorization header: after Bearer, or as Basic's password, which fits into a URL."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return rest.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""


def _stopping() -> Answer:
    text = "the server must not be stopping, got a request while it does; try again"
    return refusal(503, "stopping", text, retry_after_s=RETRY_S)


def _response(answer: Answer, content_type: str) -> Response:
    headers = {"Cache-Control": "no-store"}
    if answer.retry_after_s is not None:
        headers["Retry-After"] = str(answer.retry_after_s)
    if answer.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if answer.status in (408, 413):
        # What is left of the body is not read.
        headers["Connection"] = "close"
    return Response(answer.body, answer.status, headers, media_type=content_type)
