import http.client
import random
import signal
import socket
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

pytest.importorskip("altair")

from analysis.journal.journal import Journal, StoreError
from analysis.report.watch import LivePage, make_server
from benchmarks.synthetic import step_records, synthetic_info
from sdpo_bench import main


class Served:
    """A server over a counter: the page says how often it was built."""

    def __init__(self, runs):
        self.n_built, self.error, self.seconds = 0, None, 0.0
        self.page = LivePage(runs, self.build, clock=lambda: self.seconds)
        self.server = make_server(self.page, 0)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def build(self):
        if self.error:
            raise self.error
        self.n_built += 1
        self.seconds += 1.0
        return f"<p>built {self.n_built}</p>"

    def ask(self, method="GET", path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(
            method, path, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer, body


def add_step(runs, step):
    journal = Journal.resume(runs / "a") if (runs / "a").exists() else None
    with journal or Journal.create(runs, synthetic_info("a")) as journal:
        for record in step_records(random.Random(step), step=step, skill=0.5):
            journal.append(record)


@pytest.fixture
def served(tmp_path):
    runs = tmp_path / "runs"
    add_step(runs, 1)
    served = Served(runs)
    served.runs = runs
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_only_this_machine_is_bound(served):
    assert served.server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST"])
def test_this_machine_gets_the_page(served, name):
    answer, body = served.ask(Host=f"{name}:{served.port}")
    assert (answer.status, body) == (200, "<p>built 1</p>")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "evil.example:{port}", "", "a" * 999]
)
def test_a_page_of_another_host_gets_nothing(served, host):
    """DNS rebinding: a browser is made to believe that evil.example is this machine."""
    answer, body = served.ask(Host=host.format(port=served.port))
    assert answer.status == 421
    assert "built" not in body
    assert served.n_built == 0


def test_a_request_without_a_host_gets_nothing(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"421" in connection.recv(4096).splitlines()[0]


@pytest.mark.parametrize("path", ["/x", "/../etc/passwd", "/?a", "http://evil.example/"])
def test_there_is_only_one_page(served, path):
    answer, body = served.ask(path=path)
    assert answer.status in (404, 421)
    assert "built" not in body


def test_nothing_can_be_sent(served):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert served.ask(method)[0].status == 501


def test_the_page_is_built_anew_only_when_a_run_has_written(served):
    first, _ = served.ask()
    served.seconds += 100
    answer, body = served.ask(If_None_Match=first.headers["ETag"])
    assert (answer.status, body, served.n_built) == (304, "", 1)
    add_step(served.runs, 2)
    answer, body = served.ask(If_None_Match=first.headers["ETag"])
    assert (answer.status, body) == (200, "<p>built 2</p>")


def test_building_takes_at_most_a_tenth_of_the_time(served):
    served.ask()
    add_step(served.runs, 2)
    assert served.ask()[1] == "<p>built 1</p>"
    served.seconds += 8.9
    assert served.ask()[1] == "<p>built 1</p>"
    served.seconds += 0.2
    assert served.ask()[1] == "<p>built 2</p>"


def test_results_that_cannot_be_read_are_said_and_asked_for_again(served):
    served.error = StoreError("the runs folder must exist")
    answer, body = served.ask()
    assert (answer.status, body) == (503, "the runs folder must exist\n")
    served.error = None
    assert served.ask()[1] == "<p>built 1</p>"


def test_head_is_get_without_the_page(served):
    answer, body = served.ask("HEAD")
    assert (answer.status, body) == (200, "")
    assert answer.headers["Content-Length"] == str(len("<p>built 1</p>"))


def test_many_readers_share_one_build(served):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(served.ask()[1])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["<p>built 1</p>"] * 20


def test_a_port_that_is_taken_is_one_line(recorded):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(
            main,
            ["watch", "--port", str(port), "--runs-dir", str(recorded / "runs")]
            + ["--results", str(recorded / "results" / "results.duckdb")],
        )
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"the port must be free, got {port} (Address already in use)" in result.stderr


def test_watching_no_run_of_that_name_is_one_line(recorded):
    result = CliRunner().invoke(
        main,
        ["watch", "no-such-run", "--port", "0", "--runs-dir", str(recorded / "runs")]
        + ["--results", str(recorded / "results" / "results.duckdb")],
    )
    assert result.exit_code == 1
    assert "a run must be in the results, got 'no-such-run'" in result.stderr


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_a_signal_ends_it_at_once(recorded, number, status):
    process = subprocess.Popen(
        [sys.executable, "-m", "sdpo_bench", "watch", "--port", "0"]
        + ["--runs-dir", recorded / "runs", "--results", recorded / "results" / "results.duckdb"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert "Traceback" not in out
    assert process.returncode == status


def test_the_page_of_a_run_that_is_killed_is_written_anew_though_its_journal_stays(tmp_path):
    runs = tmp_path / "runs"
    living = Journal.create(runs, synthetic_info("a"))
    served = Served(runs)
    assert served.ask()[1] == served.ask()[1] == "<p>built 1</p>"
    living._release()  # what the end of its process does
    served.seconds += 100.0
    assert served.ask()[1] == served.ask()[1] == "<p>built 2</p>"
