"""Training across the two containers, as `make train-sdpo` starts it, and what each can reach from inside."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import launch  # noqa: E402

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
USER = 1234
"""A user that is neither root nor the image's own."""
OUTSIDE = "10.213.7.2", 8123
"""A server in a network namespace of the test's own: what a container reaches when it can leave its network."""
LOOK = f"""
import json, os, shutil, socket
def reaches(*address):
    try:
        socket.create_connection(address, timeout=3).close()
    except OSError:
        return False
    return True
routes = [line.split() for line in open("/proc/net/route")][1:]
number = next((int(r[2], 16) for r in routes if r[1] == "00000000"), 0)
host = ".".join(str(number >> shift & 255) for shift in (0, 8, 16, 24))
print(json.dumps({{
    "outside": reaches{OUTSIDE},
    "engine_by_tcp": any(reaches(host, port) for port in (2375, 2376)),
    "engine_by_socket": any(os.path.exists(p) for p in ("/var/run/docker.sock", "/run/docker.sock")),
    "docker_command": shutil.which("docker"),
    "user": os.getuid(),
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")],
}}))
"""


@pytest.fixture(scope="module")
def outside():
    """Put the server up, reachable through this machine's forwarding."""
    ip = ["ip", "netns", "exec", "sdpo-outside"]
    steps = [
        "ip netns add sdpo-outside",
        "ip link add sdpo-out type veth peer name sdpo-in netns sdpo-outside",
        "ip addr add 10.213.7.1/30 dev sdpo-out",
        "ip link set sdpo-out up",
        "ip -n sdpo-outside addr add 10.213.7.2/30 dev sdpo-in",
        "ip -n sdpo-outside link set sdpo-in up",
        "ip -n sdpo-outside route add default via 10.213.7.1",
    ]
    subprocess.run(["ip", "netns", "delete", "sdpo-outside"], capture_output=True, check=False)
    for step in steps:
        subprocess.run(step.split(), check=True)
    server = subprocess.Popen(
        [*ip, sys.executable, "-m", "http.server", str(OUTSIDE[1])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    server.kill()
    server.wait()
    subprocess.run(["ip", "netns", "delete", "sdpo-outside"], check=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout that belongs to an ordinary user, with its containers taken down afterwards."""
    if (problem := launch.container_problem()) is not None:
        if os.environ.get("SDPO_BENCH_REQUIRE_CONTAINERS") == "1":
            pytest.fail(f"the containers are required here: {problem}")
        pytest.skip(f"no containers: {problem}")
    folder = tmp_path_factory.mktemp("containers") / "sdpo-containers"
    made = (".venv*", ".git", "runs", "results", "cache", ".*_cache", "__pycache__", "build")
    kept = shutil.ignore_patterns(*made)
    shutil.copytree(ROOT, folder, ignore=kept, symlinks=True)
    make_tiny_model(folder / "tiny")
    for file in (folder / "tiny").iterdir():
        file.chmod(0o644)
    for name in ("runs", "results", "cache"):
        (folder / name).mkdir()
        os.chown(folder / name, USER, USER)
    for part in [folder, *folder.parents][:4]:
        part.chmod(0o755)
    yield folder
    compose(folder, "down", "--volumes", "--timeout", "1")


def environment():
    return {**os.environ, "HOST_UID": str(USER), "HOST_GID": str(USER), "PYTHONPATH": ""}


def compose(folder, *words):
    command = [*(launch.find_compose() or []), "--project-directory", folder]
    return subprocess.run(
        [*command, "-f", folder / "compose.yaml", *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_two_steps_are_trained_across_the_containers_and_the_results_are_the_users(checkout):
    command = launch.compose_command(
        [
            *("train", "sdpo", "--config", "configs/smoke-cpu.yaml", "--sandbox", "docker"),
            *("--model_name_or_path", str(checkout / "tiny"), "--dataset", "embedded/train"),
            *("--max_steps", "2", "--max_completion_length", "16", "--lora_r", "4"),
        ],
        compose=launch.find_compose(),
        online=False,
    )
    command = [word.replace(str(ROOT), str(checkout)) for word in command]
    threads = ["-e", "OMP_NUM_THREADS=1"]
    at = command.index("--rm") + 1
    done = subprocess.run(
        [*command[:at], *threads, *command[at:]],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "docker of compose.yaml" in done.stdout and "step 2/2" in done.stdout
    (run,) = (checkout / "runs").iterdir()
    assert {path.stat().st_uid for path in run.rglob("*")} == {USER}
    rows = [json.loads(line) for file in run.glob("*.jsonl") for line in file.open()]
    tables = [row["table"] for row in rows]
    assert tables.count("rollouts") == tables.count("executions") == 32  # two steps of 16


def test_a_container_of_an_ordinary_network_does_reach_what_is_outside(checkout, outside):
    # or the tests below would pass for want of a server
    command = ["docker", "run", "--rm", "--entrypoint", "python3", "sdpo-bench-train", "-c", LOOK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["outside"] is True


def test_the_trainer_cannot_leave_its_network_nor_reach_the_engine(checkout, outside):
    said = compose(checkout, "run", "--rm", "--entrypoint", "python3", "train", "-c", LOOK)
    seen = json.loads(said.strip().splitlines()[-1])
    assert seen.pop("user") == USER
    assert seen.pop("capabilities") == ["0000000000000000"]
    assert not any(seen.values()), seen


@pytest.mark.parametrize("name", ["sandbox-0", "sandbox-1"])
def test_a_sandbox_has_no_route_out(checkout, outside, name):
    compose(checkout, "up", "--detach", name)
    said = compose(checkout, "exec", "-T", name, "python3", "-c", LOOK)
    seen = json.loads(said.strip().splitlines()[-1])
    seen.pop("user"), seen.pop("capabilities")
    assert not any(seen.values()), seen
