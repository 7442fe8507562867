"""The command as a process of its own: stopped, killed in the middle of batches, asked by two hundred."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from sandbox.http.remote import Remote
from sandbox.http.server import Limits, Server
from sandbox.program import Program, SandboxError
from tests.sandbox.conftest import verdicts
from tests.sandbox.http.conftest import TOKEN

pytestmark = pytest.mark.slow


class Serving:
    """`sdpo-bench sandbox serve` in a process of its own."""

    def __init__(self, *options, port=0, backend="process"):
        words = ["-m", "sdpo_bench", "sandbox", "serve", "--backend", backend, "--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, *words, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "SDPO_BENCH_SANDBOX_TOKEN": TOKEN},
        )
        line = self.process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:(\d+));", line)
        assert found, line
        self.url, self.port = found[1], int(found[2])

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(90)
        self.process.stdout.close()
        return self.process.returncode


def numbered(n, *, sleep_s=0.0):
    """Programs of which every third is wrong, each with an answer of its own."""
    return [
        Program(
            f"import time\ndef f(x):\n    time.sleep({sleep_s})\n    return x + {i} + {i % 3 == 2}\n",
            (f"assert f(1) == {i + 1}",),
            ("f",),
        )
        for i in range(n)
    ]


def expected(n):
    return ["failed" if i % 3 == 2 else "passed" for i in range(n)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_runs_and_ends_with_status_0(number):
    server = Serving()
    found = []
    with Remote(server.url, token=TOKEN, patience_s=0.1) as remote:
        asking = threading.Thread(target=lambda: found.append(remote.run(numbered(2, sleep_s=1.5))))
        asking.start()
        time.sleep(0.7)
        assert server.end(number) == 0
        asking.join(10)
        assert verdicts(found[0]) == expected(2)
        with pytest.raises(SandboxError, match="must answer within"):
            remote.run(numbered(1))


@pytest.mark.long
@pytest.mark.parametrize("backend", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_server_killed_in_the_middle_of_batches_costs_time_and_no_verdict(backend):
    n, found = 400, []
    server = Serving(backend=backend)
    with Remote(server.url, token=TOKEN) as remote:
        asking = threading.Thread(
            target=lambda: found.extend(remote.run(numbered(n, sleep_s=0.02)))
        )
        asking.start()
        for pause_s in (0.6, 1.1, 0.9):
            time.sleep(pause_s)
            assert asking.is_alive()
            server.end()
            time.sleep(0.5)
            server = Serving(port=server.port, backend=backend)
        asking.join(100)
        assert server.end(signal.SIGTERM) == 0
        assert verdicts(found) == expected(n)
        assert remote.n_asked_again > 0


def test_two_hundred_clients_all_get_their_own_verdicts(process_pool):
    found, errors = {}, []

    def ask(url, name):
        programs = [
            Program(p.code, p.asserts, p.callables) for p in numbered(200 + name)[name:][:9]
        ]
        try:
            with Remote(url) as remote:
                found[name] = verdicts(remote.run(programs)), remote.n_asked_again
        except SandboxError as error:
            errors.append(error)

    with Server(process_pool, limits=Limits(n_waiting=40)) as server:
        threads = [threading.Thread(target=ask, args=(server.url, name)) for name in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(110)
    assert errors == []
    assert {name: each for name, (each, _) in found.items()} == {
        name: expected(name + 9)[name:] for name in range(200)
    }
    assert sum(again for _, again in found.values()) > 0, "the queue must have been full"
