"""What goes wrong around the programs: no wrong verdict, none lost, recovery without help."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.client import open_sandbox
from sandbox.guest import protocol as p
from sandbox.pool.endpoint import Attached, run_socket, status
from sandbox.pool.pool import Pool
from sandbox.program import Program, SandboxError
from tests.sandbox.conftest import honest, verdicts
from tests.scale import examples

SPIN = """
import time
def f(x):
    t = time.process_time()
    while time.process_time() < t + {s}: pass
    return 2
"""


def connect(endpoint):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(run_socket(endpoint.socket_dir))
    return connection


def request(code, timeout_ms=2000):
    job = p.dump_job(p.Job((), code, "", ()))
    return p.dump_request(p.RequestHeader(p.Kind.RUN, len(job), timeout_ms, 4000, 1 << 29)) + job


def test_a_client_that_goes_away_costs_nobody_else(pool, endpoint):
    for _ in range(4):
        connection = connect(endpoint)
        connection.sendall(request("import time\ntime.sleep(0.2)"))
        connection.close()
    assert verdicts(pool.run(honest(8))) == ["passed"] * 8


def test_a_client_that_goes_away_in_mid_job_costs_nobody_else(pool, endpoint):
    for _ in range(4):
        connection = connect(endpoint)
        connection.sendall(request("x = 1\n" * 1000)[:500])
        connection.close()
    assert verdicts(pool.run(honest(8))) == ["passed"] * 8


def test_half_a_header_and_silence_costs_a_second_at_most(pool, endpoint):
    silent = [connect(endpoint) for _ in range(2)]
    for connection in silent:
        connection.sendall(b"SDBQ\x01")
    assert verdicts(pool.run(honest(4))) == ["passed"] * 4
    for connection in silent:
        assert connection.recv(1) == b""


def test_half_a_job_and_silence_ends_with_its_time(pool, endpoint):
    silent = [connect(endpoint) for _ in range(2)]
    for connection in silent:
        connection.sendall(request("x = 1\n" * 1000, timeout_ms=300)[:500])
    assert verdicts(pool.run(honest(4))) == ["passed"] * 4


def test_a_gigabyte_of_garbage_is_hung_up_on(pool, endpoint):
    connection = connect(endpoint)
    sent = 0
    with pytest.raises(OSError):
        while sent < 1 << 30:
            sent += connection.send(b"\xa5" * 65536)
    assert sent < 1 << 24
    assert verdicts(pool.run(honest(4))) == ["passed"] * 4


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    data=st.binary(max_size=64)
    | st.binary(max_size=40).map(lambda tail: b"SDBQ\x01\x01\0\0" + tail)
)
def test_garbage_never_ends_the_supervisor(endpoint, data):
    before = status(endpoint.socket_dir).facts
    with connect(endpoint) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # hung up on with bytes unread
            while connection.recv(4096):
                pass
    after = status(endpoint.socket_dir).facts
    assert after["slot_pids"] == before["slot_pids"] and after["restarts"] == 0


def test_garbage_on_the_control_socket_never_ends_the_supervisor(pool, endpoint):
    for data in (b"", b"x", b"SDBQ" * 100, request("x"), os.urandom(1000)):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(endpoint.socket_dir / "control.sock"))
            connection.sendall(data)
    assert verdicts(pool.run(honest(2))) == ["passed"] * 2


def test_a_killed_supervisor_loses_and_doubles_nothing(pool, endpoint):
    programs = [
        Program(SPIN.format(s=0.02), (f"assert f({i}) == 2", f"assert f(1) == {i}"), ("f",))
        for i in range(40)
    ]
    killer = threading.Timer(0.3, os.kill, (endpoint.pid, signal.SIGKILL))
    killer.start()
    executions = pool.run(programs)
    killer.join()
    assert pool.health.n_restarts >= 1
    expected = [v for i in range(40) for v in ("passed", "passed" if i == 2 else "failed")]
    assert verdicts(executions) == expected


def test_a_killed_slot_is_replaced_and_its_program_run_again(pool, endpoint):
    pids = status(endpoint.socket_dir).facts["slot_pids"]
    killer = threading.Timer(0.1, os.kill, (pids[0], signal.SIGKILL))
    killer.start()
    programs = [Program(SPIN.format(s=0.1), ("assert f(1) == 2",), ("f",))] * 8
    assert verdicts(pool.run(programs)) == ["passed"] * 8
    killer.join()
    assert pids[0] not in status(endpoint.socket_dir).facts["slot_pids"]


def test_a_killed_slot_takes_its_child_along(pool, endpoint):
    pids = status(endpoint.socket_dir).facts["slot_pids"]
    connections = [connect(endpoint) for _ in pids]
    for connection in connections:
        connection.sendall(request("while True: pass", timeout_ms=3000))
        assert connection.recv(p.RESPONSE_BYTES)
    os.kill(pids[0], signal.SIGKILL)
    for connection in connections[:1]:
        connection.close()
    assert verdicts(pool.run(honest(2))) == ["passed"] * 2


@pytest.mark.slow
def test_sixty_four_clients_at_once_get_their_own_answers(endpoint):
    answers, errors = {}, []

    def client(number):
        try:
            pool = Pool("attached", [Attached(endpoint.socket_dir)], memory_bytes=512 << 20)
            program = Program(
                f"def f(x): return {number}",
                (f"assert f(1) == {number}", "assert f(1) == -1"),
                ("f",),
            )
            answers[number] = verdicts(pool.run([program] * 3))
        except (SandboxError, OSError, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert answers == {n: ["passed", "failed"] * 3 for n in range(64)}


def test_threads_share_a_pool(pool):
    answers = {}

    def client(number):
        answers[number] = verdicts(pool.run(honest(5)))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: ["passed"] * 5 for n in range(8)}


def test_slots_are_recycled_without_anybody_noticing():
    from sandbox.containers.process_backend import ProcessEndpoint

    endpoint = ProcessEndpoint(slots=2, recycle_after=5)
    with Pool("process", [endpoint], memory_bytes=512 << 20) as pool:
        assert verdicts(pool.run(honest(60))) == ["passed"] * 60
        assert status(endpoint.socket_dir).facts["recycled"] >= 10
        assert pool.health.n_lost == pool.health.n_restarts == 0


def test_a_closed_pool_leaves_nothing(endpoint, pool):
    pids = [endpoint.pid, *status(endpoint.socket_dir).facts["slot_pids"]]
    pool.close()
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert not endpoint.socket_dir.exists()


def test_nothing_depends_on_the_wall_clock():
    from pathlib import Path

    import sandbox

    sources = Path(sandbox.__file__).parent.rglob("*.py")
    assert not [s.name for s in sources if "time.time()" in s.read_text()]


# ------------------------------------------------------------------ supervisors that misbehave


def _canary_body(job):
    n = 14 if "n + n" in job.code else 49
    return b'["load",null]\n["assert",0,null,[[7,%d]]]\n["end","",false]\n' % n


def test_a_supervisor_that_passes_everything_is_taken_out(fake):
    supervisor = fake(lambda job: b'["load",null]\n["assert",0,null,[[7,49]]]\n["end","",false]\n')
    with pytest.raises(SandboxError, match="must pass an honest program and fail a wrong one"):
        Pool("fake", [supervisor], memory_bytes=1 << 29)
    assert supervisor.n_restarts == 1


def test_a_supervisor_that_fails_everything_is_taken_out(fake):
    supervisor = fake(lambda job: b"")
    with pytest.raises(SandboxError, match="must pass an honest program"):
        Pool("fake", [supervisor], memory_bytes=1 << 29)


def test_canaries_run_again_and_again(fake, monkeypatch):
    jobs = []

    def answer(job):
        jobs.append(job.code)
        return _canary_body(job)

    monkeypatch.setattr("sandbox.pool.pool.CANARY_EVERY", 10)
    pool = Pool("fake", [fake(answer)], memory_bytes=1 << 29)
    for _ in range(5):
        pool.run(honest(10))
    assert sum("n + n" in code for code in jobs) == 5


def test_a_supervisor_that_goes_bad_is_noticed(fake, monkeypatch):
    bad = []

    def answer(job):
        return b"" if bad else _canary_body(job)

    monkeypatch.setattr("sandbox.pool.pool.CANARY_EVERY", 10)
    supervisor = fake(answer)
    pool = Pool("fake", [supervisor], memory_bytes=1 << 29)
    pool.run(honest(10))
    bad.append(True)
    with pytest.raises(SandboxError):
        pool.run(honest(1))
    assert supervisor.n_restarts == 1 and pool.health.n_canary_failures == 2


def test_a_program_that_takes_two_supervisors_with_it_is_blamed_and_its_neighbours_are_not(fake):
    supervisor = fake(lambda job: None if "KILLER" in job.code else _canary_body(job))
    pool = Pool("fake", [supervisor], memory_bytes=1 << 29)
    killer = Program("KILLER = 1", ("assert f(1) == 2",), ("f",))
    neighbour = Program("", ("assert f(1) == [7, 49]",), ("f",))
    executions = pool.run([neighbour, killer, neighbour])
    assert verdicts(executions) == ["passed", "crashed", "passed"]
    assert pool.health.n_lost == 1


def test_a_supervisor_that_does_not_come_back_is_a_sandbox_error(endpoint, pool):
    endpoint.close()

    def no_restart():
        raise SandboxError("gone")

    endpoint.restart = no_restart
    with pytest.raises(SandboxError):
        pool.run(honest(2))


@pytest.mark.parametrize("name", ["nonsense", "Docker", ""])
def test_an_unknown_backend_is_refused(name):
    with pytest.raises(SandboxError, match="sandbox must be one of"):
        open_sandbox(name)


def test_a_folder_for_temporary_files_that_takes_none_is_said(monkeypatch, tmp_path):
    # a path below a file: full, read-only and missing folders fail at the same call
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "below"))
    with pytest.raises(SandboxError, match=r"temporary files must take one more.*TMPDIR"):
        open_sandbox("process")


def test_no_workers_are_refused():
    with pytest.raises(SandboxError, match="at least 1"):
        open_sandbox("process", n_workers=0)


def test_without_an_engine_auto_says_so_and_goes_on(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("SDPO_BENCH_SANDBOX_DIR", str(tmp_path))
    with pytest.raises(SandboxError, match="a Docker engine must answer"):
        open_sandbox("docker")
    with open_sandbox("auto") as pool:
        assert pool.name == "process"
    said = capsys.readouterr().err
    assert said.count("\n") == 2 and "no wall" in said
