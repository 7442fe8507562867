"""What goes wrong around containers: no wrong verdict, none lost, recovery without help."""

import os
import threading

import pytest

from sandbox.client import open_sandbox
from sandbox.pool.endpoint import status
from sandbox.pool.pool import Pool
from sandbox.program import Program, SandboxError
from tests.sandbox.conftest import honest, verdicts
from tests.sandbox.test_faults import SPIN


@pytest.fixture
def docker_pool():
    with open_sandbox("docker", own=True) as pool:
        yield pool


@pytest.fixture
def one_container():
    with open_sandbox("docker", own=True, n_workers=1) as pool:
        yield pool


def _client():
    import docker

    return docker.from_env()


@pytest.mark.slow
@pytest.mark.docker
def test_a_removed_container_is_replaced(docker_pool):
    first = docker_pool.endpoints()[0].container_id
    remover = threading.Timer(0.3, lambda: _client().containers.get(first).remove(force=True))
    remover.start()
    programs = [Program(SPIN.format(s=0.03), ("assert f(1) == 2",), ("f",))] * 40
    assert verdicts(docker_pool.run(programs)) == ["passed"] * 40
    remover.join()
    assert verdicts(docker_pool.run(honest(4))) == ["passed"] * 4
    assert docker_pool.endpoints()[0].container_id != first


@pytest.mark.docker
def test_a_killed_container_is_replaced(one_container):
    (endpoint,) = one_container.endpoints()
    _client().containers.get(endpoint.container_id).kill()
    assert verdicts(one_container.run(honest(6))) == ["passed"] * 6
    assert one_container.health.n_restarts == 1


@pytest.mark.docker
def test_an_engine_that_is_gone_is_a_clear_error(one_container, monkeypatch, tmp_path):
    (endpoint,) = one_container.endpoints()
    _client().containers.get(endpoint.container_id).remove(force=True)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxError, match="a Docker engine must answer"):
        one_container.run(honest(2))
    monkeypatch.undo()
    assert verdicts(one_container.run(honest(4))) == ["passed"] * 4


@pytest.mark.docker
def test_a_container_ends_with_its_client():
    from sandbox.containers.docker_backend import DockerEndpoint
    from sandbox.containers.image import current_image

    endpoint = DockerEndpoint(slots=1, number=0, image=current_image())
    container = _client().containers.get(endpoint.container_id)
    endpoint._lease.close()  # what the kernel does when the client is killed
    container.wait(condition="removed", timeout=20)
    endpoint.close()


@pytest.mark.docker
def test_a_memory_bomb_ends_alone():
    from sandbox.containers.docker_backend import DockerEndpoint
    from sandbox.containers.image import current_image
    from sandbox.containers.limits import Limits

    endpoint = DockerEndpoint(
        slots=3, number=0, image=current_image(), limits=Limits(memory_bytes=160 << 20)
    )
    bomb = Program(
        "def f(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 22))\n",
        ("assert f(1) == 2",),
        ("f",),
    )
    calm = Program(SPIN.format(s=0.1), ("assert f(1) == 2",), ("f",))
    with Pool("docker", [endpoint], memory_bytes=1 << 30) as pool:
        before = status(endpoint.socket_dir).facts["slot_pids"]
        executions = pool.run([calm, bomb, calm, calm, bomb, calm])
        after = status(endpoint.socket_dir).facts["slot_pids"]
    wanted = ["passed", "memory", "passed", "passed", "memory", "passed"]
    assert verdicts(executions) == wanted
    assert before == after and pool.health.n_restarts == 0


@pytest.mark.docker
def test_standing_containers_come_back_by_themselves(tmp_path, monkeypatch):
    from sandbox.containers import docker_backend, image, shared
    from sandbox.containers.limits import Limits

    monkeypatch.setenv("SDPO_BENCH_SANDBOX_DIR", str(tmp_path))
    monkeypatch.setattr(docker_backend, "UP_NAME", f"sdpo-bench-test-{os.getpid()}-")
    names = docker_backend.bring_up(
        tmp_path, containers=2, slots=1, image=image.current_image(), limits=Limits()
    )
    try:
        assert len(shared.sockets(hash_seed=0)) == 2
        assert shared.sockets(hash_seed=1) == []
        with open_sandbox("docker") as pool:
            assert pool.endpoints()[0].name.startswith("attached")
            for name in names:
                _client().containers.get(name).exec_run(
                    ["python3", "-c", "import os; os.kill(6, 9)"]
                )
            assert verdicts(pool.run(honest(10))) == ["passed"] * 10
            pool.endpoints()[0].restart()
            assert verdicts(pool.run(honest(4))) == ["passed"] * 4
    finally:
        for name in names:
            _client().containers.get(name).remove(force=True)
