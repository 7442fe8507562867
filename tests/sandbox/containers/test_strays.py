"""What a killed client leaves: nothing, after a while; and nothing at once after `sandbox down`."""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sandbox.client import open_sandbox
from sandbox.containers import strays
from sandbox.guest.protocol import Kind
from sandbox.pool.endpoint import ask, wait_until_ready
from sandbox.program import SandboxError
from tests.sandbox.conftest import honest, verdicts
from tests.scale import scaled


@pytest.fixture
def temporary(monkeypatch):
    """A folder for temporary files with a path that is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start_client(backend):
    """Start a process that opens a sandbox and says so, then waits."""
    script = (
        "import time\nfrom sandbox.client import open_sandbox\n"
        f"with open_sandbox({backend!r}, own=True, n_workers=1):\n    print('open', flush=True)\n    time.sleep(600)"
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def kill(client):
    client.kill()
    client.wait()
    client.stdout.close()


def test_the_folder_of_a_killed_client_goes_with_the_next_one(temporary):
    client = start_client("process")
    assert client.stdout.readline() == "open\n"
    (left,) = temporary.iterdir()
    kill(client)
    assert left.exists()
    with open_sandbox("process") as pool:
        assert not left.exists() and [pool.endpoints()[0].socket_dir] == list(temporary.iterdir())
    assert not list(temporary.iterdir())


def test_folders_of_living_clients_and_of_others_stay(temporary):
    other = temporary / "somebodys"
    other.mkdir()
    link = temporary / "sdpo-socks-link"
    link.symlink_to(other)
    folders = [strays.SocketFolder() for _ in range(3)]
    assert strays.remove_folders() == 0
    assert all(folder.path.exists() for folder in folders) and other.exists() and link.is_symlink()
    for folder in folders:
        folder.close()
        folder.close()
    assert sorted(temporary.iterdir()) == [link, other]


def test_a_folder_that_is_taken_for_a_stray_before_it_is_locked_is_made_again(
    temporary, monkeypatch
):
    flock, swept = fcntl.flock, []

    def sweep_first(fd, how):
        if not swept:
            swept.append(os.readlink(f"/proc/self/fd/{fd}"))
            assert strays.remove_folders() == 1
        flock(fd, how)

    monkeypatch.setattr(
        "sandbox.containers.strays.fcntl.flock",
        lambda fd, how: sweep_first(fd, how) if how == fcntl.LOCK_EX else flock(fd, how),
    )
    folder = strays.SocketFolder()
    assert folder.path.exists() and str(folder.path) != swept[0]
    folder.close()


def test_a_folder_that_is_taken_for_a_stray_before_it_is_open_is_made_again(temporary, monkeypatch):
    made, mkdtemp = [], tempfile.mkdtemp

    def sweep_first(**options):
        made.append(mkdtemp(**options))
        assert len(made) > 1 or strays.remove_folders() == 1
        return made[-1]

    monkeypatch.setattr("sandbox.containers.strays.tempfile.mkdtemp", sweep_first)
    folder = strays.SocketFolder()
    assert [str(folder.path)] == made[1:] and folder.path.exists()
    folder.close()


def test_a_process_is_gone_when_it_has_ended_and_not_before():
    here = strays.this_process()
    assert not strays.is_gone(here)
    machine, boot, space, _, started = here.split()
    assert strays.is_gone(f"{machine} {boot} {space} {os.getpid()} 1")  # its number was given again
    assert strays.is_gone(f"{machine} {boot} {space} 4194999 1")
    assert strays.is_gone(f"{machine} another-start {space} {os.getpid()} {started}")
    # Nothing is known of other machines and other spaces of numbers, nor of those who say nothing.
    for unknown in (
        f"other {boot} {space} 4194999 1",
        f"{machine} {boot} pid:[1] 4194999 1",
        "",
        "x y z",
    ):
        assert not strays.is_gone(unknown)


def test_a_removed_socket_folder_is_a_sandbox_error(pool, endpoint):
    shutil.rmtree(endpoint.socket_dir)
    with pytest.raises(
        SandboxError, match=r"sockets must stay while it is open.*open the sandbox again"
    ):
        pool.run(honest(2))


@pytest.mark.docker
def test_a_removed_socket_folder_is_a_sandbox_error_on_docker():
    with open_sandbox("docker", own=True, n_workers=1) as pool:
        for endpoint in pool.endpoints():
            shutil.rmtree(endpoint.socket_dir)
        with pytest.raises(SandboxError, match="sockets must stay while it is open"):
            pool.run(honest(2))


# ------------------------------------------------------------------------------------- leases


def start_guest(folder, **options):
    """Start a supervisor as a process that looks after itself."""
    root = Path(strays.__file__).parents[2]
    settings = {"socket_dir": str(folder), "slots": 1, "owner_uid": os.geteuid(), **options}
    return subprocess.Popen(
        [sys.executable, "-P", "-S", "-m", "sandbox.guest", json.dumps(settings)],
        env={"PYTHONPATH": str(root)},
    )


def test_a_supervisor_ends_where_nobody_takes_its_lease(temporary):
    guest = start_guest(temporary, lease_within_s=0.5)
    assert wait_until_ready(temporary, "the guest").slots == 1
    assert guest.wait(timeout=5) == 0


def test_a_half_taken_lease_is_none(temporary):
    guest = start_guest(temporary, lease_within_s=0.5)
    wait_until_ready(temporary, "the guest")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(temporary / "control.sock"))
        connection.sendall(b"SDBQ")
        assert guest.wait(timeout=5) == 0


def test_a_supervisor_stays_while_it_has_a_lease_and_ends_with_it(temporary):
    guest = start_guest(temporary, lease_within_s=0.5)
    wait_until_ready(temporary, "the guest")
    lease = ask(temporary, Kind.LEASE)
    with pytest.raises(subprocess.TimeoutExpired):
        guest.wait(timeout=1)
    lease.close()
    assert guest.wait(timeout=5) == 0


# ------------------------------------------------------------------------------------- docker


def _containers():
    """Labels of our containers by id."""
    import docker

    found = docker.from_env().containers.list(
        all=True, filters={"label": "sdpo-bench.sandbox=owned"}, sparse=True
    )
    return {entry.id: entry.attrs["Labels"].get("sdpo-bench.owner", "") for entry in found}


def _of(pid):
    return [key for key, owner in _containers().items() if f" {pid} " in owner]


@pytest.mark.docker
def test_down_removes_what_a_client_left_that_was_killed_while_it_started_containers(temporary):
    from sandbox.containers import docker_backend

    # A container that was made and not started, which no lease ends.
    script = (
        "import docker, os, time\nfrom sandbox.containers import docker_backend\n"
        "docker.models.containers.Container.start = lambda self: print('made', flush=True) or time.sleep(600)\n"
        "from sandbox.client import open_sandbox\nopen_sandbox('docker', own=True)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "made\n"
    with open_sandbox("docker", own=True, n_workers=1) as pool:
        assert len(_of(client.pid)) == 1, "a living client's containers stay"
        kill(client)
        # `down` ends everybody's standing containers, too, and others may use theirs: this part of it alone.
        with docker_backend.engine() as engine:
            assert docker_backend.remove_strays(engine)
        assert strays.remove_folders() == 1 and not _of(client.pid)
        assert verdicts(pool.run(honest(2))) == ["passed"] * 2
        assert set(temporary.iterdir()) == {endpoint.socket_dir for endpoint in pool.endpoints()}


@pytest.mark.docker
def test_the_next_client_removes_what_a_killed_one_left():
    client = start_client("docker")
    assert client.stdout.readline() == "open\n"
    pid = client.pid
    kill(client)
    with open_sandbox("docker", own=True, n_workers=1):
        assert not _of(pid)


@pytest.mark.docker
def test_down_removes_the_folders_of_standing_containers(temporary, monkeypatch):
    from sandbox.containers import docker_backend, image
    from sandbox.containers.limits import Limits

    monkeypatch.setattr(docker_backend, "UP_NAME", f"sdpo-bench-down-{os.getpid()}-")
    names = docker_backend.bring_up(
        temporary, containers=2, slots=1, image=image.current_image(), limits=Limits()
    )
    assert sorted(path.name for path in temporary.iterdir()) == ["0", "1"]
    # `down` ends everybody's standing containers, and others may use theirs: the same, for these alone.
    with docker_backend.engine() as client:
        for name in names:
            container = client.containers.get(name)
            docker_backend._remove(container)
            docker_backend._remove_socket_folder(container)
    assert not list(temporary.iterdir())


@pytest.mark.slow
@pytest.mark.docker
def test_clients_killed_at_random_moments_leave_nothing_after_half_a_minute(temporary):
    chance = random.Random(7)
    pids = []
    for _ in range(scaled(14)):
        client = start_client("docker")
        time.sleep(chance.uniform(0.3, 2.5))
        client.send_signal(signal.SIGKILL)
        kill(client)
        pids.append(client.pid)
    deadline = time.monotonic() + 45
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(1)
        left = [pid for pid in left if _of(pid)]
    # A container that was made and never started waits for the next client, or for `down`.
    with open_sandbox("docker", own=True) as pool:
        assert not [pid for pid in pids if _of(pid)]
        assert set(temporary.iterdir()) == {endpoint.socket_dir for endpoint in pool.endpoints()}
    assert not list(temporary.iterdir())
