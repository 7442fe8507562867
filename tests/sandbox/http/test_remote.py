"""The client against servers that are away, busy, broken or hostile: the right verdict, or a SandboxError in time."""

import socket
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from sandbox.http import remote as remotes
from sandbox.http.address import parse_url
from sandbox.http.remote import Remote
from sandbox.program import Program, SandboxError
from tests.sandbox.conftest import verdicts
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
