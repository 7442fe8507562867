"""How much a server takes on, what it counts, how it stops."""

import importlib.util
import re
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from sandbox.guest.protocol import Job
from sandbox.http import openapi
from sandbox.http.server import Limits, Server
from sandbox.program import SandboxError
from sdpo_bench import main
from tests.sandbox.http.conftest import TOKEN, ask, bearer, program

ROOT = Path(__file__).parents[3]


def judge(url, n=1, **others):
    return ask(url, "POST", "/v1/judge", {"programs": [program()] * n}, **others)


class Asking(threading.Thread):
    """A request in a thread of its own."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.got, self._url = None, url
        self.start()

    def run(self):
        self.got = judge(self._url)

    def status(self):
        self.join(20)
        return self.got.status


def at_work(server, scripted):
    """As many requests as run at a time, all of them running."""
    asking = [Asking(server.url) for _ in range(scripted.slots + 2)]
    for _ in asking:
        assert scripted.running.acquire(timeout=20)
    return asking


def waiting(server, n):
    """Requests that wait for their turn, when they do."""
    asking = [Asking(server.url) for _ in range(n)]
    until_waiting(server, n)
    return asking


def until_waiting(server, n):
    deadline = time.monotonic() + 20
    while f"requests_waiting {n}\n" not in ask(server.url, "GET", "/metrics").body.decode():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_is_429_with_a_time_to_come_back_and_504_for_trainers_of_others(scripted):
    with Server(scripted, limits=Limits(n_waiting=2)) as server:
        asking = at_work(server, scripted) + waiting(server, 2)
        refused = judge(server.url)
        assert refused.status == 429 and refused.json["code"] == "busy"
        assert int(refused.headers["retry-after"]) >= 1
        other = ask(server.url, "POST", "/run_code", {"code": "", "language": "python"})
        assert other.status == 504 and int(other.headers["retry-after"]) >= 1
        assert ask(server.url, "GET", "/health").status == 200
        scripted.go_on.set()
        assert [thread.status() for thread in asking] == [200] * 5
        assert judge(server.url).status == 200


def test_bodies_of_all_requests_together_are_bounded(scripted):
    with Server(scripted, limits=Limits(max_bytes=2000)) as server:
        asking = Asking(server.url)
        assert scripted.running.acquire(timeout=20)
        assert judge(server.url, n=60).status == 429
        scripted.go_on.set()
        assert asking.status() == 200
        assert judge(server.url, n=60).status == 200


def test_a_body_over_the_servers_own_bound_is_refused(scripted):
    scripted.go_on.set()
    with Server(scripted, limits=Limits(max_body_bytes=1024)) as server:
        assert judge(server.url, n=60).status == 413
        assert judge(server.url).status == 200


def test_stopping_finishes_what_runs_and_refuses_what_waits_and_what_is_new(scripted):
    server = Server(scripted)
    server.start()
    running = at_work(server, scripted)
    waits = waiting(server, 2)
    server.stop()
    sent_away = [thread.status() for thread in waits]
    assert sent_away == [503, 503] and waits[0].got.json["code"] == "stopping"
    assert int(waits[0].got.headers["retry-after"]) >= 1
    time.sleep(0.3)  # until the port is closed
    with pytest.raises(OSError):
        judge(server.url)
    assert all(thread.got is None for thread in running)
    scripted.go_on.set()
    server.join()
    assert [thread.status() for thread in running] == [200, 200, 200]
    assert scripted.n_programs == 3


def test_a_server_in_a_hurry_does_not_wait_for_what_runs(scripted):
    server = Server(scripted)
    server.start()
    at_work(server, scripted)
    server.stop()
    server.hurry()
    server._thread.join(10)
    assert not server._thread.is_alive()
    scripted.go_on.set()
    server.join()


def test_whoever_has_hung_up_while_waiting_is_not_run_for(scripted):
    import socket

    with Server(scripted) as server:
        running = at_work(server, scripted)
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as link:
            body = b'{"programs":[]}'
            link.sendall(
                b"POST /v1/judge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            until_waiting(server, 1)
        scripted.go_on.set()
        assert [thread.status() for thread in running] == [200] * 3
        deadline = time.monotonic() + 10
        while 'status="408"' not in ask(server.url, "GET", "/metrics").body.decode():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_sandbox_that_fails_is_503_and_never_a_verdict(scripted):
    scripted.go_on.set()
    scripted.error = SandboxError("no engine\x1b[31m answers")
    with Server(scripted) as server:
        for path, content in (
            ("/v1/judge", {"programs": [program()]}),
            ("/run_code", {"code": "", "language": "python"}),
        ):
            got = ask(server.url, "POST", path, content)
            assert (got.status, got.json["code"]) == (503, "sandbox_failed")
            assert set(got.json) == {"error", "code"} and "\x1b" not in got.json["error"]


def test_a_bug_of_ours_is_500_and_the_next_request_is_answered(scripted):
    scripted.go_on.set()
    scripted.error = KeyError("bug")
    with Server(scripted) as server:
        assert judge(server.url).status == 500
        scripted.error = None
        assert judge(server.url).status == 200


# --------------------------------------------------------------------------------- who may ask


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "10.0.0.1"]
)
def test_without_a_token_only_who_means_this_machine_is_answered(scripted, host):
    scripted.go_on.set()
    with Server(scripted) as server:
        assert judge(server.url, headers={"Host": host}).status == 401
        for name in ("localhost", "127.0.0.1:1", "[::1]", "127.0.0.9"):
            assert judge(server.url, headers={"Host": name}).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - to be refused
def test_an_address_of_others_needs_a_token(scripted, host):
    with pytest.raises(SandboxError, match="must have a token"):
        Server(scripted, host=host)
    Server(scripted, host=host, token=TOKEN)._socket.close()


@pytest.mark.parametrize(
    "token", ["", "short", "a" * 15, "with blanks in it, it is long", "ü" * 20, "a\n" * 20]
)
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused(scripted, token):
    with pytest.raises(SandboxError, match="a token must have"):
        Server(scripted, token=token)


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("begun", [b"GET", b"GET /health HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_connection_whose_request_does_not_come_is_closed(scripted, monkeypatch, before, begun):
    monkeypatch.setattr("sandbox.http.server.HEADERS_S", 0.3)
    with Server(scripted) as server:
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as link:
            if before:
                link.sendall(before)
                assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
            link.sendall(begun)
            while link.recv(1 << 16):
                pass  # a time-out is an error here


def test_a_connection_without_a_request_is_closed(scripted, monkeypatch):
    monkeypatch.setattr("sandbox.http.server.HEADERS_S", 0.3)
    with Server(scripted) as server:
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as link:
            assert link.recv(1) == b""


def test_a_request_that_takes_longer_than_its_headers_may_is_answered(scripted, monkeypatch):
    monkeypatch.setattr("sandbox.http.server.HEADERS_S", 0.2)
    with Server(scripted) as server:
        asking = at_work(server, scripted)
        time.sleep(0.5)
        scripted.go_on.set()
        assert [one.status() for one in asking] == [200] * len(asking)


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "a" * 300])
def test_an_address_that_is_none_is_one_line(scripted, host):
    with pytest.raises(SandboxError, match="--host must be"):
        Server(scripted, host=host)


def test_a_port_that_is_taken_is_one_line(scripted):
    with Server(scripted) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(SandboxError, match="port must be free"):
            Server(scripted, port=port)


def test_a_small_answer_is_sent_at_once(scripted):
    # asyncio switches Nagle's algorithm off only where a socket names its protocol; seen: 44 ms an answer, and 0.7
    import socket

    with Server(scripted) as server:
        assert server._socket.proto == socket.IPPROTO_TCP


# ------------------------------------------------------------------------------------ what it says


def test_metrics_have_prometheus_form_and_count_each_answer_once(process_pool):
    with Server(process_pool, token=TOKEN) as server:
        judge(server.url, n=3, headers=bearer())
        judge(server.url)
        ask(server.url, "GET", "/nowhere", headers=bearer())
        ask(server.url, "POST", "/run_code", {"code": "1"}, headers=bearer())
        got = ask(server.url, "GET", "/metrics", headers=bearer())
    assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
    values, kinds = {}, {}
    for line in got.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            found = re.fullmatch(r'([a-z_]+)(\{(?:[a-z]+="[^"\\]*",?)+\})? ([0-9.e+-]+)', line)
            assert found, line
            family = re.sub(r"_(bucket|sum|count)$", "", found[1])
            assert family in kinds or found[1] in kinds
            values[found[1].removeprefix("sdpo_bench_sandbox_") + (found[2] or "")] = float(
                found[3]
            )
    assert values['requests_total{path="/v1/judge",status="200"}'] == 1
    assert values['requests_total{path="/v1/judge",status="401"}'] == 1
    assert values['requests_total{path="other",status="404"}'] == 1
    assert values["programs_total"] == 4
    assert values['verdicts_total{verdict="passed"}'] == 3
    assert values["request_seconds_count"] == 2
    assert values['request_seconds_bucket{le="+Inf"}'] == 2
    assert values["slots"] == 2


def test_the_document_in_docs_is_that_of_the_classes():
    assert (ROOT / "docs" / "openapi.json").read_text() == openapi.text(), (
        "run: python -m sandbox.http.openapi > docs/openapi.json"
    )


def test_every_path_of_the_server_is_in_the_document_and_in_the_page(scripted):
    import json

    from sandbox.http.app import App
    from sandbox.http.door import Door
    from sandbox.http.service import Service

    house = Door(n_at_work=1, n_waiting=1, max_bytes=1)
    app = App(Service(scripted), house, None, token=None)
    served = {
        (route.path, method) for route in app.asgi.routes for method in route.methods - {"HEAD"}
    }
    paths = json.loads(openapi.text())["paths"]
    assert served == {(path, method.upper()) for path in paths for method in paths[path]}
    page = (ROOT / "docs" / "protocol.md").read_text()
    assert all(path in page for path in paths)


# --------------------------------------------------------------------------------------- command


def test_the_command_says_in_one_line_what_it_needs(monkeypatch, tmp_path):
    from sandbox import serve as cli

    monkeypatch.delenv(cli.TOKEN_VARIABLE, raising=False)
    common = ["--backend", "process", "--port", "0"]
    got = CliRunner().invoke(cli.serve, [*common, "--host", "0.0.0.0"])  # noqa: S104 - to be refused
    assert got.exit_code == 1 and "must have a token" in got.output
    (tmp_path / "token").write_text("short\n")
    got = CliRunner().invoke(cli.serve, [*common, "--token-file", str(tmp_path / "token")])
    assert got.exit_code == 1 and "at least 16 characters" in got.output


def test_without_the_extra_the_command_names_it_and_how_to_install_it(monkeypatch):
    class Missing:
        """As if it were not installed."""

        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("starlette", "uvicorn"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    found = importlib.util.find_spec
    for name in [n for n in sys.modules if n.startswith(("sandbox.http", "starlette", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda n, *a: None if n in ("starlette", "uvicorn") else found(n, *a),
    )
    got = CliRunner().invoke(main, ["sandbox", "serve", "--backend", "process"])
    assert got.exit_code == 1, got.output
    line = got.output.strip().splitlines()[-1]
    assert "the extra 'serve' must be installed" in line and "[serve]" in line


def test_a_pool_runs_a_job_without_judging_it(process_pool):
    outcome = process_pool.outcome(Job((), "x = 3", "", ()), timeout_s=1)
    assert outcome.body.startswith(b'["load",null]')
    assert process_pool.outcome(Job((), "x" * (40 << 20), "", ()), timeout_s=1) is None
