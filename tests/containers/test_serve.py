"""The server in a container, in front of sandboxes in theirs: the protocol's tests and a kill, asked from outside."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.containers.image import current_image
from sandbox.http.remote import Remote
from sandbox.program import Program, SandboxError
from tests.sandbox.http.conftest import TOKEN

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import launch  # noqa: E402

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
PROJECT = "sdpo-serve-test"
IMAGE = os.environ.get("SERVE_IMAGE")
"""Another image than `make train-image` builds."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Compose's files, with the sandbox image of this checkout's own sources."""
    own = tmp_path_factory.mktemp("compose") / "own.yaml"
    services = {name: {"image": current_image()} for name in ("sandbox-0", "sandbox-1")}
    own.write_text(json.dumps({"services": services}))
    return [
        part for file in ("compose.yaml", "compose.serve.yaml", own) for part in ("-f", ROOT / file)
    ]


def compose(files, *words, port=0):
    env = {"HOST_UID": "1234", "HOST_GID": "1234", "SDPO_BENCH_SANDBOX_TOKEN": TOKEN}
    command = [*(launch.find_compose() or []), "--project-name", PROJECT, *files, *words]
    return subprocess.run(
        [*map(str, command)],
        env={**os.environ, **env, "SERVE_PORT": str(port)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def url(files):
    problem = None if IMAGE and launch.find_compose() else launch.container_problem()
    if problem is not None:
        if os.environ.get("SDPO_BENCH_REQUIRE_CONTAINERS") == "1":
            pytest.fail(f"the containers are required here: {problem}")
        pytest.skip(f"no containers: {problem}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        compose(files, "up", "-d", "serve", port=port)
        until_it_answers(f"http://127.0.0.1:{port}", files)
        yield f"http://127.0.0.1:{port}"
    finally:
        compose(files, "down", "--volumes", "--timeout", "1", port=port)


def until_it_answers(url, files):
    deadline = time.monotonic() + 120
    while True:
        try:
            Remote(url, token=TOKEN).close()
            return
        except SandboxError:
            assert time.monotonic() < deadline, compose(files, "logs", "serve")
            time.sleep(0.5)


def test_the_protocols_tests_hold_in_a_container(url):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", ROOT / "tests/sandbox/http/test_protocol.py"],
        cwd=ROOT,
        env={**os.environ, "SDPO_BENCH_TEST_SERVER": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_container_that_is_killed_and_comes_back_costs_no_verdict(url, files):
    import threading

    programs = [
        Program(
            f"import time\ndef f(x):\n    time.sleep(0.02)\n    return x + {i % 3}\n",
            ("assert f(1) == 2",),
            ("f",),
        )
        for i in range(900)
    ]
    found, name = [], compose(files, "ps", "-q", "serve").strip()
    with Remote(url, token=TOKEN) as remote:
        asking = threading.Thread(target=lambda: found.extend(remote.run(programs)))
        asking.start()
        time.sleep(1)
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)
        subprocess.run(["docker", "start", name], check=True, capture_output=True)
        asking.join(120)
        assert remote.n_asked_again > 0
    assert [e.results[0].verdict.value for e in found] == [
        "passed" if i % 3 == 1 else "failed" for i in range(900)
    ]
