"""The client against servers that are away, busy, broken or hostile: the right verdict, or a SandboxError in time."""

import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from sandbox.http import remote as remotes
from sandbox.http.address import parse_url
from sandbox.http.remote import CHUNK, Remote
from sandbox.http.server import Server
from sandbox.program import Case, Comparison, Program, SandboxError
from tests.sandbox.conftest import honest, verdicts
from tests.sandbox.http.conftest import TOKEN
from tests.sandbox.http.odd_server import (
    EXECUTION,
    INFO,
    NO_ANSWERS,
    PASSED,
    RIGHT,
    OddServer,
    answer,
    changed,
    executions,
    result,
)

NO_SENSE = {
    "no JSON": answer(b"<html>"),
    "no text": answer(b"\xff\x00"),
    "nests deep": answer(b"[" * 60_000),
    "another kind": answer(INFO),
    "a list": answer([]),
    "no execution": executions(),
    "one too many": executions(EXECUTION, EXECUTION),
    "no result": changed(results=[]),
    "a result too many": changed(results=[PASSED, PASSED]),
    "a verdict of its own": result(verdict="great"),
    "a verdict in capitals": result(verdict="PASSED"),
    "trust in words": result(trusted="true"),
    "a long text": result(got="x" * 3000),
    "a line before the first": result(line=-1),
    "a number as text": changed(cpu_ms="1"),
    "a time without end": changed(cpu_ms=float("inf")),
    "a time that is none": changed(wall_ms=float("nan")),
    "a time before the start": changed(wall_ms=-1.0),
    "memory beyond measure": changed(peak_memory_bytes=1 << 80),
    "a field of its own": changed(extra=1),
    "a long tail": changed(output_tail="x" * 20_000),
}


@pytest.fixture
def quick(monkeypatch):
    """No long waits: a moment for an answer, short pauses."""
    monkeypatch.setattr(remotes, "_WAIT_S", 0.2)
    monkeypatch.setattr(remotes, "_MAX_PAUSE_S", 0.01)


def one():
    return [Program("def f(): pass", ("assert f() is None",), ("f",), timeout_s=0.001)]


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_a_server_that_never_answers_whole_is_a_sandbox_error_in_time(quick, kind):
    with OddServer(NO_ANSWERS[kind]) as server:
        with Remote(server.url, patience_s=0.1) as remote:
            start = time.monotonic()
            with pytest.raises(SandboxError, match="must answer within"):
                remote.run(one())
            assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_a_broken_answer_is_asked_for_again_and_the_whole_one_counts_once(quick, kind):
    with OddServer(NO_ANSWERS[kind], RIGHT) as server, Remote(server.url) as remote:
        assert verdicts(remote.run(one())) == ["passed"]
        assert len(server.asked) == 2 and remote.n_asked_again == 1


@pytest.mark.parametrize("kind", NO_SENSE)
def test_an_answer_that_makes_no_sense_is_never_a_verdict(quick, kind):
    with OddServer(NO_SENSE[kind]) as server, Remote(server.url) as remote:
        with pytest.raises(SandboxError, match="must judge programs"):
            remote.run(one())
        assert len(server.asked) == 3
    with OddServer(NO_SENSE[kind], RIGHT) as server, Remote(server.url) as remote:
        assert verdicts(remote.run(one())) == ["passed"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_server_without_room_is_waited_for(quick, status):
    busy = answer({"error": "later", "code": "busy"}, status)
    with OddServer(busy, busy, busy, busy, RIGHT) as server, Remote(server.url) as remote:
        assert verdicts(remote.run(one())) == ["passed"]
        assert remote.n_asked_again == 4


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


def test_a_script_is_asked_again_after_an_answer_that_makes_no_sense(quick):
    right = answer({"status": "Success", "run_result": dict(FINISHED, stdout="4\n")})
    with OddServer(answer(b"<html>"), right) as server, Remote(server.url) as remote:
        assert remote.printed(["print(4)"], timeout_s=1) == ["4\n"]


FINISHED = {"status": "Finished", "execution_time": 0.1, "return_code": 0, "stderr": ""}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 10_000, b"\xff" * 100_000])
def test_a_proxys_own_words_are_no_reason_to_fail(quick, body):
    with OddServer(answer(body, 502), RIGHT) as server, Remote(server.url) as remote:
        assert verdicts(remote.run(one())) == ["passed"]


@pytest.mark.parametrize(
    "word", ["1", "999999999999", "-1", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "\xb2"]
)
def test_a_time_to_come_back_is_kept_to_and_bounded(quick, monkeypatch, word):
    waits = []
    monkeypatch.setattr(Remote, "_wait", lambda self, why, seconds: waits.append(seconds))
    busy = answer({"error": "", "code": "busy"}, 429, f"Retry-After: {word}")
    with OddServer(busy, RIGHT) as server, Remote(server.url) as remote:
        remote.run(one())
    assert waits == [1.0] if word == "1" else 0 < waits[0] <= 60


def test_a_sandbox_that_fails_there_is_an_error_here(quick):
    broken = answer({"error": "no engine\x1b[0m", "code": "sandbox_failed"}, 503)
    with OddServer(broken) as server, Remote(server.url) as remote:
        with pytest.raises(SandboxError, match="no engine") as caught:
            remote.run(one())
        assert "\x1b" not in str(caught.value) and len(server.asked) == 3


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404, 413])
def test_a_refusal_is_an_error_and_no_redirect_is_followed(quick, status):
    there = answer(b"", status, "Location: http://127.0.0.1:1/v1/judge")
    with OddServer(there) as server, Remote(server.url) as remote:
        with pytest.raises(SandboxError, match=f"status {status}"):
            remote.run(one())
        assert len(server.asked) == 1


def test_another_sandbox_than_the_one_that_was_opened_is_refused(quick):
    with OddServer(executions(EXECUTION, sandbox="other")) as server, Remote(server.url) as remote:
        with pytest.raises(SandboxError, match="must keep its sandbox, got 'other' after 'odd'"):
            remote.run(one())


def test_what_a_server_writes_cannot_move_a_terminal(quick):
    with OddServer(result(got="a\x1b[2J\u202eb at 0x7f00")) as server:
        with Remote(server.url) as remote:
            (execution,) = remote.run(one())
    assert execution.results[0].got == "a\ufffd[2J\ufffdb"


@pytest.mark.parametrize(
    "info",
    [
        {**INFO, "protocol": 2},
        {**INFO, "slots": 0},
        {**INFO, "slots": 10**9},
        {**INFO, "max_programs": 0},
        {**INFO, "max_body_bytes": 1},
        {**INFO, "sandbox": "x" * 9999},
        {**INFO, "more": 1},
        {},
        [],
    ],
)
def test_a_server_of_another_protocol_is_refused_when_it_is_opened(info):
    with OddServer(RIGHT, info=info) as server:
        with pytest.raises(SandboxError, match="a server must answer at"):
            Remote(server.url)


def test_an_address_where_nobody_answers_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(SandboxError, match="must answer at .*sandbox serve"):
        Remote(f"http://127.0.0.1:{port}")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "url",
    ["http://", "http://:80", "http://a:b", "http://a:99999", "http://[::1", "ftp://a", "http://a/v1", "http://a?b",
     "http://a:1#c", "http:a", "https://user@a", "http://u:p@a:1"],
)  # fmt: skip
def test_an_address_that_is_none_is_one_line(url):
    with pytest.raises(SandboxError, match="a sandbox's address must") as caught:
        parse_url(url)
    assert "\n" not in str(caught.value) and "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a:1", "http://a:1"),
        ("http://a:1/", "http://a:1"),
        ("http://[::1]:8765", "http://[::1]:8765"),
        ("http://a", "http://a:80"),
        ("https://a", "https://a:443"),
    ],
)
def test_an_address_is_shown_as_it_is_written(url, shown):
    assert parse_url(url).url == shown


# ------------------------------------------------------------------------------- a real server


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
    from sandbox.http.server import Limits

    large = Program("x = 1\n" * 1000, ("assert f() == 1", "assert f() == 2"), ("f",))
    with Server(process_pool, limits=Limits(max_body_bytes=2048)) as server:
        with Remote(server.url) as remote:
            found = remote.run([*honest(1), large, *honest(2)])
    assert verdicts(found) == ["passed", "error", "error", "passed", "passed"]
    assert found[1].results[0].exception == "ProgramTooLarge"


def test_bodies_stay_below_what_the_server_takes(process_pool):
    from sandbox.http.server import Limits

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
                remote.run(one())
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
        remote.run(one())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for localhost that no system knows."""
    import shutil
    import subprocess

    if shutil.which("openssl") is None:
        pytest.skip("no openssl command")
    folder = tmp_path_factory.mktemp("tls")
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key -out cert"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*words.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder


def test_https_is_spoken_with_who_has_a_known_certificate_and_with_nobody_else(
    certificate, monkeypatch, quick
):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    with OddServer(RIGHT, tls=context) as server:
        port = server.url.rpartition(":")[2]
        with pytest.raises(SandboxError, match="must answer at"):
            Remote(f"https://localhost:{port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert"))
        with Remote(f"https://localhost:{port}") as remote:
            assert verdicts(remote.run(one())) == ["passed"]
        with pytest.raises(SandboxError, match="must answer at"):
            Remote(f"https://127.0.0.1:{port}")


def test_a_machine_without_the_servers_packages_can_ask():
    import subprocess
    import sys

    program = (
        "import sys\nfor name in ('starlette', 'uvicorn', 'httpx', 'docker'): sys.modules[name] = None\n"
        "from sandbox.http.remote import Remote"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
