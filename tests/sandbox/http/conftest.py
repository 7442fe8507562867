"""Servers to ask: one with real programs for all tests of a file, and one whose sandbox does as it is told."""

import http.client
import json
import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from sandbox.client import open_pool
from sandbox.pool.pool import Health
from sandbox.program import AssertResult, Execution, Verdict

TOKEN = "-".join(["token", "of", "these", "tests"])
"""Nowhere in one piece: a run stores what of the checkout is not committed, and must not store a token."""


@dataclass
class ScriptedSandbox:
    """Says that everything passes, when it is let go on."""

    name: str = "scripted"
    slots: int = 1
    health: Health = field(default_factory=Health)
    go_on: threading.Event = field(default_factory=threading.Event)
    running: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    error: Exception | None = None
    n_programs: int = 0

    def run(self, programs):
        self.running.release()
        assert self.go_on.wait(20)
        if self.error is not None:
            raise self.error
        self.n_programs += len(programs)
        return [
            Execution(tuple(AssertResult(text, Verdict.PASSED) for text in p.asserts), 1.0, 2.0, 3)
            for p in programs
        ]

    def outcome(self, job, *, timeout_s):
        self.run([])

    def close(self):
        self.go_on.set()


@dataclass
class Got:
    """One answer."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def ask(url, method, path, content=None, *, headers=None, raw=None, timeout=30):
    """Send one request on a connection of its own."""
    parts = urlsplit(url)
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    body = json.dumps(content).encode() if raw is None and content is not None else raw
    try:
        given = {"Content-Type": "application/json", **(headers or {})} if body is not None else {}
        link.request(method, path, body, {**given, **(headers or {})})
        answer = link.getresponse()
        return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        link.close()


def program(code="def f(x):\n    return x + 1\n", *asserts, **others):
    return {"code": code, "asserts": list(asserts or ("assert f(1) == 2",)), **others}


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="session")
def process_pool():
    with open_pool("process", own=True) as pool:
        yield pool


@pytest.fixture(scope="session")
def served(process_pool):
    """Address of a server of the process backend, which asks for TOKEN."""
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from sandbox.http.server import Server

    with Server(process_pool, token=TOKEN) as server:
        yield server.url


@pytest.fixture
def scripted():
    """A sandbox that waits until it is told to go on."""
    sandbox = ScriptedSandbox()
    yield sandbox
    sandbox.close()
