"""Several clients at one supervisor, and a machine that has no processor to give: nobody pays for another."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from sandbox.containers.process_backend import ProcessEndpoint
from sandbox.guest.protocol import How
from sandbox.pool import task as exchange
from sandbox.pool.endpoint import Attached, run_socket, status
from sandbox.pool.pool import Pool
from sandbox.program import Program, SandboxError
from tests.sandbox.conftest import honest, verdicts
from tests.scale import scaled

HANGING = "import time\ndef f(x):\n    time.sleep(60)\n"
CANARY = b'["load",null]\n["assert",0,null,[[7,%d]]]\n["end","",false]\n'


def hanging(timeout_s):
    return Program(HANGING, ("assert f(1) == 2",), ("f",), timeout_s=timeout_s)


def attached(endpoint):
    return Pool("attached", [Attached(endpoint.socket_dir)], memory_bytes=512 << 20)


def run_clients(endpoint, n, programs):
    """Run the programs in n clients at once; return each client's verdicts, restarts and losses."""
    seen = {}

    def client(number):
        pool = attached(endpoint)
        seen[number] = (verdicts(pool.run(programs)), pool.health.n_restarts, pool.health.n_lost)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [seen.get(number) for number in range(n)]


# ------------------------------------------------------------------------------------ waiting


def test_a_program_that_waits_for_a_slot_finds_no_dead_supervisor(endpoint, monkeypatch):
    monkeypatch.setattr(exchange, "QUEUE_CHECK_S", 0.1)
    instance = status(endpoint.socket_dir).facts["instance"]
    seen = run_clients(endpoint, 12, [hanging(0.2), *honest()])
    assert seen == [(["timeout", "passed"], 0, 0)] * 12
    assert status(endpoint.socket_dir).facts["instance"] == instance


def test_a_full_queue_is_waited_for(endpoint, monkeypatch):
    monkeypatch.setattr(exchange, "_CONNECT_S", 1)
    monkeypatch.setattr("sandbox.pool.pool._MAX_REFUSED", 0)
    pool = attached(endpoint)
    slots = status(endpoint.socket_dir).facts["slot_pids"]
    with contextlib.ExitStack() as waiting:
        for pid in slots:
            os.kill(pid, signal.SIGSTOP)
        with contextlib.suppress(BlockingIOError):
            while True:
                connection = waiting.enter_context(socket.socket(socket.AF_UNIX))
                connection.setblocking(False)
                connection.connect(run_socket(endpoint.socket_dir))
        # Longer than one try to connect.
        timer = threading.Timer(1.2, lambda: [os.kill(pid, signal.SIGCONT) for pid in slots])
        timer.start()
        threading.Timer(1.1, waiting.pop_all().close).start()
        assert verdicts(pool.run(honest(3))) == ["passed"] * 3
    timer.join()
    assert pool.health.n_restarts == pool.health.n_lost == 0
    assert status(endpoint.socket_dir).facts["slot_pids"] == slots


def test_a_supervisor_that_does_not_answer_is_given_up(endpoint, pool, monkeypatch):
    monkeypatch.setattr(exchange, "QUEUE_CHECK_S", 0.1)
    monkeypatch.setattr("sandbox.pool.endpoint._CONTROL_TIMEOUT_S", 0.1)
    monkeypatch.setattr("sandbox.pool.endpoint.START_TIMEOUT_S", 0.3)
    for pid in (endpoint.pid, *status(endpoint.socket_dir).facts["slot_pids"]):
        os.kill(pid, signal.SIGSTOP)
    assert verdicts(pool.run(honest(3))) == ["passed"] * 3
    assert pool.health.n_restarts == 1


def test_a_program_in_the_queue_of_a_replaced_supervisor_is_not_waited_for(
    endpoint, pool, monkeypatch
):
    # Its slots, stopped, keep the queue open; the fresh supervisor answers for itself alone.
    monkeypatch.setattr(exchange, "QUEUE_CHECK_S", 0.1)
    monkeypatch.setattr("sandbox.pool.endpoint._CONTROL_TIMEOUT_S", 0.1)
    monkeypatch.setattr("sandbox.pool.endpoint.START_TIMEOUT_S", 0.3)
    old = endpoint._process
    stopped = (old.pid, *status(endpoint.socket_dir).facts["slot_pids"])
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(endpoint, "_stop", lambda: None)
    try:
        assert verdicts(pool.run(honest(3))) == ["passed"] * 3
        assert pool.health.n_restarts == 1
    finally:
        monkeypatch.undo()
        old.kill()
        old.wait()


def test_an_answer_that_came_while_the_client_was_stopped_counts(endpoint):
    # Stopped between looking for answers and looking at the clock, beside a supervisor that says nothing.
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from sandbox.pool import task as exchange\n"
        "from tests.sandbox.conftest import honest, verdicts\n"
        "from tests.sandbox.pool.test_sharing import Attached, Pool, hanging\n"
        f"pool = Pool('a', [Attached(Path({str(endpoint.socket_dir)!r}))], memory_bytes=1 << 29)\n"
        "exchange.QUEUE_CHECK_S = exchange.GRACE_S = 0.1; exchange.STARVATION_FACTOR = 1\n"
        "exchange.answers = lambda _: False\n"
        "pool._revive = lambda *_, **__: None\n"
        "collect, stopped = pool._collect, []\n"
        "def collect_and_stop(batch):\n"
        "    collect(batch)\n"
        "    if batch.active and not stopped:\n"
        "        stopped.append(True)\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "pool._collect = collect_and_stop\n"
        "print(verdicts(pool.run([hanging(0.3), *honest()])), pool.health.n_lost, len(stopped))"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    os.waitid(os.P_PID, client.pid, os.WSTOPPED)
    time.sleep(0.8)
    client.send_signal(signal.SIGCONT)
    assert client.communicate(timeout=20)[0] == "['timeout', 'passed'] 0 1\n"


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.timeout(1800)
@pytest.mark.long
def test_a_hundred_clients_of_hanging_programs_restart_nothing():
    # 400 s of waiting programs for each of two slots.
    from sandbox.containers.docker_backend import DockerEndpoint
    from sandbox.containers.image import current_image

    endpoint = DockerEndpoint(slots=2, number=0, image=current_image())
    try:
        instance = status(endpoint.socket_dir).facts["instance"]
        seen = run_clients(endpoint, scaled(100), [hanging(4.0), *honest(), hanging(4.0)])
        assert seen == [(["timeout", "passed", "timeout"], 0, 0)] * scaled(100)
        assert status(endpoint.socket_dir).facts["instance"] == instance
    finally:
        endpoint.close()


# ------------------------------------------------------------------------------------ restarts


@pytest.mark.docker
def test_a_supervisor_that_one_client_replaced_is_not_replaced_again_by_another(
    tmp_path, monkeypatch
):
    import docker

    from sandbox.containers import docker_backend, image
    from sandbox.containers.limits import Limits

    monkeypatch.setattr(docker_backend, "UP_NAME", f"sdpo-bench-share-{os.getpid()}-")
    (name,) = docker_backend.bring_up(
        tmp_path, containers=1, slots=1, image=image.current_image(), limits=Limits()
    )
    try:
        first, second = Attached(tmp_path / "0"), Attached(tmp_path / "0")
        before = status(tmp_path / "0").facts["instance"]
        first.restart()
        fresh = status(tmp_path / "0").facts["instance"]
        second.restart()
        assert status(tmp_path / "0").facts["instance"] == fresh != before
        second.restart()
        assert status(tmp_path / "0").facts["instance"] != fresh
    finally:
        docker.from_env().containers.get(name).remove(force=True)


def test_a_program_is_not_blamed_for_what_others_do_to_a_shared_supervisor(endpoint, monkeypatch):
    pool = attached(endpoint)
    monkeypatch.setattr(Attached, "restart", lambda self: endpoint.restart())
    code = "import time\ndef f(x):\n    time.sleep(0.5)\n    return 2\n"
    run_once, killed = pool._run_once, []

    def others(worker, task):
        # As if somebody else's program ended the supervisor again, while ours runs alone.
        if b"sleep(0.5)" in task.data and len(killed) < 3:
            killed.append(endpoint.pid)
            os.kill(endpoint.pid, signal.SIGKILL)
        return run_once(worker, task)

    def first():
        while status(endpoint.socket_dir).facts["n_children"] == 0:
            time.sleep(0.01)
        os.kill(endpoint.pid, signal.SIGKILL)

    monkeypatch.setattr(pool, "_run_once", others)
    killer = threading.Thread(target=first)
    killer.start()
    assert verdicts(pool.run([Program(code, ("assert f(1) == 2",), ("f",))])) == ["passed"]
    killer.join()
    assert len(killed) == 3 and pool.health.n_lost == 1


def test_an_answer_that_waits_to_be_read_is_no_dead_supervisor(endpoint, monkeypatch):
    monkeypatch.setattr(exchange, "QUEUE_CHECK_S", 0.1)
    monkeypatch.setattr(exchange, "answers", lambda _: False)
    pool = attached(endpoint)
    # A client that did something else for so long that the deadline passed before it looked.
    monkeypatch.setattr(pool, "_collect", lambda batch: time.sleep(0.5))
    assert verdicts(pool.run(honest(4))) == ["passed"] * 4
    assert pool.health.n_restarts == pool.health.n_lost == 0


# ---------------------------------------------------------------------------------- starvation


@pytest.fixture
def crowded():
    """A sandbox of one slot that shares one processor with programs that never end."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    with Pool("process", [ProcessEndpoint(slots=1)], memory_bytes=1 << 29) as pool:
        # afterwards: in a crowd a supervisor takes seconds to start
        forever = [sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"]
        # each in a session of its own: Linux may give those of one session one share together
        options = {"stdout": subprocess.PIPE, "start_new_session": True}
        busy = [subprocess.Popen(forever, **options) for _ in range(5)]
        try:
            for process in busy:
                process.stdout.readline()
            yield pool
        finally:
            for process in busy:
                process.kill()
                process.communicate()
    os.sched_setaffinity(0, before)


@pytest.mark.slow
@pytest.mark.alone
def test_a_starved_program_is_run_again_with_more_time_to_wait(crowded, monkeypatch):
    monkeypatch.setattr(exchange, "STARVATION_FACTOR", 1)
    code = "import time\ndef f(x):\n    while time.process_time() < 0.25: pass\n    return 2\n"
    program = Program(code, ("assert f(1) == 2",), ("f",), timeout_s=0.4)
    assert verdicts(crowded.run([program])) == ["passed"]
    assert crowded.health.n_starved == 1 and crowded.health.n_lost == 0


@pytest.mark.slow
def test_a_program_that_never_ends_times_out_on_a_busy_machine_too(crowded):
    code = "def f(x):\n    while True: pass\n"
    program = Program(code, ("assert f(1) == 2",), ("f",), timeout_s=0.2)
    assert verdicts(crowded.run([program])) == ["timeout"]


def test_starvation_is_no_verdict_but_an_error_of_ours(fake):
    def answer(job):
        return How.STARVED if "HUNGRY" in job.code else CANARY % (14 if "n + n" in job.code else 49)

    pool = Pool("fake", [fake(answer)], memory_bytes=1 << 29)
    with pytest.raises(SandboxError, match=r"must get 5 s of a processor, got 0.0 s in 0 s, alone"):
        pool.run([Program("HUNGRY = 1", ("assert f(1) == 2",), ("f",))])


def test_the_second_try_of_a_starved_program_runs_alone(fake, monkeypatch):
    hungry = Program("HUNGRY = 1", ("assert f(1) == [7, 49]",), ("f",))
    other = Program("", ("assert f(1) == [7, 49]",), ("f",))
    tries, nothing_beside, answers = [], [], []

    def answer(job):
        if "HUNGRY" in job.code:
            tries.append(job)
            return How.STARVED if len(tries) == 1 else CANARY % 49
        time.sleep(0.05)
        return CANARY % (14 if "n + n" in job.code else 49)

    pool = Pool("fake", [fake(answer)], memory_bytes=1 << 29)
    run_once = pool._run_once

    def watched(worker, task):
        nothing_beside.append(worker.free == worker.endpoint.slots)
        return run_once(worker, task)

    monkeypatch.setattr(pool, "_run_once", watched)
    beside = threading.Thread(target=lambda: answers.extend(verdicts(pool.run([other] * 20))))
    beside.start()
    assert verdicts(pool.run([hungry])) == ["passed"]
    beside.join()
    assert pool.health.n_starved == 1 and nothing_beside == [True] * 3
    assert answers == ["passed"] * 20
