"""Servers of one model: where each request goes, when it is made again, and what an answer must be.

A request goes to the server that has the fewest in hands. One that fails rests for a while and its requests go to
the others, so a dead server delays little and is used again when it answers again. An answer counts once, from
whichever server it came first.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

_MAX_RESPONSE_BYTES = 16 << 20
"""A longer response is refused: it is no completion."""

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
"""Statuses after which a later try can succeed."""

_MAX_WAIT_S = 60.0
"""Longest wait between two tries, whatever the server asks for."""

_REST = 10.0
"""A server rests at least so many times as long as its failure took: one that hangs costs a tenth of the time."""

Answered = TypeVar("Answered")


class ApiError(Exception):
    """No server gave a completion; the message says what they gave."""


@dataclass(frozen=True)
class Api:
    """A served model."""

    base_urls: tuple[str, ...]
    """e.g. `http://localhost:8000/v1`; several serve the same model."""
    model: str
    """Name under which each server knows it."""
    key: str | None = None
    """Sent as a bearer token; never stored."""
    timeout_s: float = 300.0
    """Time limit of one request, in seconds."""
    n_tries: int = 6
    """Tries of one request before giving up; each goes round the servers until one answers."""
    wait: Callable[[float], None] = time.sleep
    """Waits so many seconds between two tries."""
    say: Callable[[str], None] = lambda _: None
    """Told in one line when one of several servers fails, and when it answers again."""


class Servers:
    """The servers of an `Api`, as many threads use them."""

    def __init__(self, api: Api) -> None:
        """Ask nothing yet.

        Raises:
            ApiError: an address is none, or names no server of its own.
        """
        check_urls(api.base_urls)
        self._api = api
        self._servers = [_Server(url.rstrip("/")) for url in api.base_urls]
        self._lock = threading.Lock()
        self._ended: ApiError | None = None

    @property
    def n_answered(self) -> Mapping[str, int]:
        """Answers that each server gave, by its address."""
        return {server.url: server.n_answered for server in self._servers}

    def ask(
        self, path: str, content: Mapping[str, Any], read: Callable[[dict[str, Any]], Answered]
    ) -> Answered:
        """Return what `read` makes of a server's response; a ValueError of it refuses the response.

        Raises:
            ApiError: every server refuses, or none answers on any try; now, or for an earlier request.
        """
        if self._ended is not None:
            raise self._ended
        try:
            return self._ask(path, content, read)
        except ApiError as error:
            # What is asked later, by other threads too, would be asked in vain.
            self._ended = error
            raise

    def _ask(
        self, path: str, content: Mapping[str, Any], read: Callable[[dict[str, Any]], Answered]
    ) -> Answered:
        body = json.dumps(content).encode()
        for attempt in range(self._api.n_tries):
            failures: list[_Failure] = []
            asked: list[_Server] = []
            while (server := self._take(asked, failures, attempt)) is not None:
                started = time.monotonic()
                try:
                    answer = read(_post(self._api, f"{server.url}/{path}", body))
                except (_Failure, ValueError) as error:
                    if isinstance(error, ValueError):
                        error = _Failure(str(error), final=True)
                    failures.append(error)
                    self._put_back(server, started, error)
                else:
                    self._put_back(server, started, None)
                    return answer
                asked.append(server)
            refused = [failure for failure in failures if failure.final]
            last = attempt + 1 == self._api.n_tries
            if len(refused) == len(failures) or (refused and last):
                raise ApiError(str(refused[-1]))
            if not last:
                self._api.wait(min(failure.pause_s(attempt) for failure in failures))
        where = " and ".join(f"{server.url}/{path}" for server in self._servers)
        raise ApiError(
            f"the server must answer, got {str(failures[-1])!r} from {where} on each of "
            f"{self._api.n_tries} tries; go on with --resume when it answers again"
        )

    def _take(self, asked: list[_Server], failures: list[_Failure], attempt: int) -> _Server | None:
        """The server to ask next in this try; None where it is time to wait.

        One that rests is asked where no other can be: there is none, all others refused, or it is the last try.
        """
        with self._lock:
            now = time.monotonic()
            left = [server for server in self._servers if server not in asked]
            well = [server for server in left if server.is_well(now)]
            last = attempt + 1 == self._api.n_tries
            if not well and (last or all(failure.final for failure in failures)):
                well = sorted(left, key=lambda server: server.rests_until)[:1]
            if not well:
                return None
            server = min(well, key=lambda server: (server.n_in_hands, server.n_answered))
            server.n_in_hands += 1
            return server

    def _put_back(self, server: _Server, started: float, failure: _Failure | None) -> None:
        """Note how a request ended, unless a later one told more: of those that a server dies with, one counts."""
        with self._lock:
            now = time.monotonic()
            server.n_in_hands -= 1
            server.n_answered += failure is None
            if server.changed_at > started:
                return
            before, server.changed_at = server.n_failed, now
            if failure is None:
                server.n_failed, server.rests_until = 0, 0.0
            else:
                rest_s = max(failure.pause_s(before), _REST * (now - started))
                server.n_failed, server.rests_until = before + 1, now + rest_s
            turned = (before == 0) != (failure is None)
        if turned and len(self._servers) > 1:
            self._api.say(
                f"{server.url} answers again"
                if failure is None
                else f"{server.url} failed ({failure}); its requests go to the others"
            )


def check_urls(base_urls: tuple[str, ...]) -> None:
    """Refuse what is no address of a server, or one that is named twice.

    Raises:
        ApiError: with one line for the user.
    """
    for url in base_urls:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            usable = usable and "," not in url
        except ValueError:
            usable = False
        if not usable:
            raise ApiError(
                f"--api-base must begin with http:// or https:// and name one server, got {url!r}; correct it, or "
                "repeat the option for several"
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise ApiError(
                f"--api-base must be an address alone, got {parts.hostname} with more; the key is read from "
                "OPENAI_API_KEY"
            )
    same = [url.rstrip("/") for url in base_urls]
    twice = next((url for url in same if same.count(url) > 1), None)
    if twice is not None:
        raise ApiError(f"--api-base must name each server once, got {twice!r} twice; leave one out")


@dataclass(eq=False)
class _Server:
    """What is known of one server."""

    url: str
    n_in_hands: int = 0
    n_answered: int = 0
    n_failed: int = 0
    """Failures in a row."""
    rests_until: float = 0.0
    changed_at: float = 0.0
    """When it last answered or failed."""

    def is_well(self, now: float) -> bool:
        """Whether a request may go there; after a failure one at a time finds out."""
        return self.n_failed == 0 or (self.rests_until <= now and self.n_in_hands == 0)


class _Failure(Exception):
    """One request failed."""

    def __init__(self, said: str, *, final: bool = False, retry_after: str | None = None) -> None:
        super().__init__(said)
        self.final = final
        """Whether the server refused, so that a later try there would be refused as well."""
        self._retry_after = retry_after

    def pause_s(self, n_before: int) -> float:
        """Seconds to wait before the next try, after so many others."""
        asked = 0.0
        # It may also be a date, which says no more than that waiting is in order.
        with contextlib.suppress(ValueError):
            asked = float(self._retry_after or 0.0)
        # In this order: max() keeps its first where the other is NaN.
        return min(max(math.ldexp(0.5, min(n_before, 10)), asked), _MAX_WAIT_S)


def _post(api: Api, url: str, body: bytes) -> dict[str, Any]:
    """Send one request once.

    Raises:
        _Failure: no usable answer came.
    """
    headers = {"Content-Type": "application/json"}
    if api.key:
        headers["Authorization"] = f"Bearer {api.key}"
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=api.timeout_s) as response:  # noqa: S310
            body = response.read(_MAX_RESPONSE_BYTES + 1)
            if response.length and len(body) <= _MAX_RESPONSE_BYTES:
                raise _Failure(f"an answer that breaks off after {len(body)} bytes")
            return _decoded(body, url)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error, url) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Failure(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _refusal(error: urllib.error.HTTPError, url: str) -> _Failure:
    if error.code in _RETRIED:
        return _Failure(f"status {error.code}", retry_after=error.headers.get("Retry-After"))
    try:
        said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
    except (OSError, http.client.HTTPException):  # it went away while it explained itself
        said = ""
    return _Failure(
        f"the server must accept the request, got status {error.code} from {url} "
        f"({said!r}); check --api-base, --model and OPENAI_API_KEY",
        final=True,
    )


def _decoded(body: bytes, url: str) -> dict[str, Any]:
    try:
        content = json.loads(body) if len(body) <= _MAX_RESPONSE_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _Failure(
            f"the server must answer with a JSON object, got {body[:60]!r} from {url}; "
            "check that --api-base names the API, often with /v1 at its end",
            # Where it began as an object, it broke off on the way here: another try can succeed.
            final=not body.startswith(b"{") or len(body) > _MAX_RESPONSE_BYTES,
        )
    return content
