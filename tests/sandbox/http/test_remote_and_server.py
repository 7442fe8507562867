"""The client and a real server: what comes over HTTP is what the sandbox itself says."""

import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from sandbox.http.remote import CHUNK, Remote
from sandbox.http.server import Limits, Server
from sandbox.program import Case, Comparison, Program, SandboxError
from tests.sandbox.conftest import honest, verdicts
from tests.sandbox.http.conftest import TOKEN

SCRIPTS = [
    "print('é', 1 + 1)",
    "print('x' * 400_000)",
    "1 / 0",
    "import sys\nprint(5)\nsys.exit(3)",
    "import os\nprint(6)\nos._exit(0)",
    "print(__name__ == '__main__', input() if False else '')",
]


def test_a_script_prints_over_http_what_it_prints_here(served, process_pool):
    with Remote(served, token=TOKEN) as remote:
        there = remote.printed(SCRIPTS, timeout_s=5)
    here = process_pool.printed(SCRIPTS, timeout_s=5)
    assert there == here
    assert here[0] == "é 2\n" and len(here[1]) == 400_001
    assert here[2:] == [None, None, None, "True \n"]


def test_results_come_in_order_and_from_one_connection_or_many(served, process_pool):
    programs = honest(2 * CHUNK + 5)
    with Remote(served, token=TOKEN) as remote:
        assert remote.run([]) == []
        found = remote.run(programs)
        threads = [
            threading.Thread(target=lambda: all_found.append(remote.run(honest(CHUNK + 1))))
            for _ in range(4)
        ]
        all_found = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [r.results for r in found] == [r.results for r in process_pool.run(programs)]
    assert [verdicts(each) for each in all_found] == [["passed"] * (CHUNK + 1)] * 4


@pytest.mark.parametrize("token", [None, "x" * 20, TOKEN + "\n", "ü" * 20])
def test_another_token_is_one_line_when_it_is_opened(served, token, monkeypatch):
    monkeypatch.delenv("SDPO_BENCH_SANDBOX_TOKEN", raising=False)
    with pytest.raises(SandboxError, match="token") as caught:
        Remote(served, token=token)
    assert token is None or token not in str(caught.value)


def test_the_token_is_taken_from_the_environment(served, monkeypatch):
    monkeypatch.setenv("SDPO_BENCH_SANDBOX_TOKEN", TOKEN)
    with Remote(served) as remote:
        assert remote.name == "process over http"


@pytest.mark.parametrize(
    "wrong",
    [
        Program("", ("x = 1",), ()),
        Program("", ("assert f(",), ()),
        Program("", ("assert 1",), (), timeout_s=0.0),
        Program("", ("assert 1",), (), timeout_s=1e6),
    ],
)
def test_what_the_sandbox_calls_a_mistake_the_client_does_too(served, process_pool, wrong):
    with pytest.raises(ValueError):
        process_pool.run([wrong])
    with Remote(served, token=TOKEN) as remote:
        with pytest.raises(ValueError):
            remote.run([wrong])


def test_programs_with_cases_have_the_results_that_the_sandbox_gives(served, process_pool):
    add = "a, b = map(float, input().split())\nprint(a + b)"
    cases = (Case("1 2\n", "3.0\n"), Case("0.1 0.2", "0.3"), Case("x", "1"))
    check = "def check(stdin, output, expected):\n    return output.strip() == '3.0'"
    programs = [
        Program(add, (), (), cases=cases),
        *honest(1),
        Program(add, (), (), cases=cases, comparison=Comparison(tolerance=1e-6)),
        Program(add, (), (), cases=cases[:1], comparison=Comparison(checker=check)),
        Program("x = 'a' * 10**9", (), (), cases=cases[:1], memory_bytes=1 << 20),
    ]
    with Remote(served, token=TOKEN) as remote:
        found = [execution.results for execution in remote.run(programs)]
    assert found == [execution.results for execution in process_pool.run(programs)]
    assert verdicts_of(found[0]) == ["passed", "failed", "error"]
    assert verdicts_of(found[2]) == ["passed", "passed", "error"]
    assert verdicts_of(found[3]) == ["passed"]


def verdicts_of(results):
    return [result.verdict.value for result in results]


def test_a_program_that_is_too_large_to_travel_has_its_verdict(process_pool):
    large = Program("x = 1\n" * 1000, ("assert f() == 1", "assert f() == 2"), ("f",))
    with Server(process_pool, limits=Limits(max_body_bytes=2048)) as server:
        with Remote(server.url) as remote:
            found = remote.run([*honest(1), large, *honest(2)])
    assert verdicts(found) == ["passed", "error", "error", "passed", "passed"]
    assert found[1].results[0].exception == "ProgramTooLarge"


def test_bodies_stay_below_what_the_server_takes(process_pool):
    padded = [Program("#" * 1500 + "\n" + p.code, p.asserts, p.callables) for p in honest(9)]
    with Server(process_pool, limits=Limits(max_body_bytes=4096)) as server:
        with Remote(server.url) as remote:
            assert verdicts(remote.run(padded)) == ["passed"] * 9
            assert remote.n_asked_again == 0


def test_a_server_that_stops_and_comes_back_is_waited_for(scripted):
    server = Server(scripted)
    server.start()
    port = int(server.url.rpartition(":")[2])
    with Remote(server.url) as remote:
        found = []
        thread = threading.Thread(target=lambda: found.append(remote.run(honest(100))))
        thread.start()
        assert scripted.running.acquire(timeout=10)
        server.stop()
        time.sleep(0.3)
        scripted.go_on.set()
        server.join()
        with Server(scripted, port=port):
            thread.join(20)
            assert verdicts(found[0]) == ["passed"] * 100
            assert remote.n_asked_again > 0


def test_closing_ends_what_is_asked(scripted):
    with Server(scripted) as server:
        remote = Remote(server.url)
        errors = []

        def ask():
            try:
                remote.run(honest())
            except SandboxError as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert scripted.running.acquire(timeout=10)
        remote.close()
        thread.join(5)
        assert not thread.is_alive() and len(errors) == 1
        scripted.go_on.set()
    with pytest.raises(SandboxError, match="closed"):
        remote.run(honest())
