import socket
import threading

import pytest

from sandbox.containers.process_backend import ProcessEndpoint
from sandbox.guest import protocol as p
from sandbox.pool.pool import Pool
from sandbox.program import Program


@pytest.fixture
def endpoint():
    endpoint = ProcessEndpoint(slots=2)
    yield endpoint
    endpoint.close()


@pytest.fixture
def pool(endpoint):
    return Pool("process", [endpoint], memory_bytes=512 << 20)


def honest(n=1):
    """Programs that pass, each with an answer of its own."""
    return [
        Program(f"def f(x):\n    return x + {i}\n", (f"assert f(1) == {i + 1}",), ("f",))
        for i in range(n)
    ]


def verdicts(executions):
    return [result.verdict.value for execution in executions for result in execution.results]


class FakeSupervisor:
    """Answers every job as `answer(job)` says: a body, how it ended, or None to hang up after STARTED."""

    name = "fake"
    slots = 2

    def __init__(self, folder, answer):
        self.socket_dir = folder
        self.n_restarts = 0
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "run.sock"))
        self._listener.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                header = p.parse_request(stream.read(p.REQUEST_BYTES))
                body = self._answer(p.parse_job(stream.read(header.job_bytes)))
                stream.write(p.dump_response(p.ResponseHeader(p.Reply.STARTED)))
                if isinstance(body, p.How):
                    stream.write(p.dump_response(p.ResponseHeader(p.Reply.ENDED, body)))
                elif body is not None:
                    ended = p.ResponseHeader(p.Reply.ENDED, body_bytes=len(body))
                    stream.write(p.dump_response(ended) + body)

    def restart(self):
        self.n_restarts += 1

    def close(self):
        self._listener.close()


@pytest.fixture
def fake(tmp_path):
    made = []

    def make(answer):
        made.append(FakeSupervisor(tmp_path, answer))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.close()
