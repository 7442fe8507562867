"""Docker tests run where an engine and the image are there; elsewhere they are skipped in one visible line."""

import atexit
import functools
import gc
import importlib.util
import logging
import os
import signal
import tempfile
from pathlib import Path

import pytest

from tests.alone import room

# Matrices of 32 columns gain nothing from threads, and threads that spin beside a busy process lose a
# hundredfold; one thread also makes every run's sums the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("hypothesis"):  # vLLM's environment is without it
    from tests.scale import register_profiles

    register_profiles()


def pytest_configure(config):
    from tests import turns

    # a shell starts a background job without Ctrl-C, and what the tests start would inherit that
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    config.pluginmanager.register(turns)
    if hasattr(config, "workerinput"):
        # Of one of several processes nobody reads the status, and to free all that it imported takes seconds.
        # What registers later ends before.
        atexit.register(os._exit, 0)


REQUIRE_DOCKER = "SDPO_BENCH_REQUIRE_DOCKER"
"""Set to 1 (CI does) to fail instead of skip."""


@functools.cache
def docker_problem() -> str | None:
    """Why the Docker sandbox cannot be used here, or None where it can."""
    from sandbox.client import open_sandbox
    from sandbox.program import SandboxError

    try:
        open_sandbox("docker", n_workers=1).close()
    except SandboxError as error:
        return str(error)
    return None


@functools.cache
def gvisor_problem() -> str | None:
    """Why gVisor cannot be used here, or None where the engine has it."""
    from sandbox.containers.docker_backend import engine
    from sandbox.program import SandboxError

    try:
        with engine(timeout_s=10) as client:
            found = "runsc" in (client.info().get("Runtimes") or {})
    except SandboxError as error:
        return str(error)
    return None if found else "the engine has no runtime runsc"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Folder of a tiny random model, to be read only."""
    from tests.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


class _Kept(logging.Handler):
    def __init__(self, messages):
        super().__init__()
        self._messages = messages

    def emit(self, record):
        self._messages.append(record.getMessage())


@pytest.fixture
def logged():
    """The messages that are logged during a test, in place of pytest's `caplog` (see pyproject.toml)."""
    messages = []
    handler = _Kept(messages)
    loggers = [logging.getLogger(name) for name in (None, "transformers")]
    for logger in loggers:
        logger.addHandler(handler)
    yield messages
    for logger in loggers:
        logger.removeHandler(handler)


def pytest_collection_finish(session):
    """Leave what was imported out of garbage collections: each run of a trainer asks for a whole one."""
    if any("trainer" in item.path.parts for item in session.items):
        import trainer.training.assemble  # noqa: F401 - and all that it needs of TRL
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    """Let the interpreter end with its usual collection: DuckDB reports what it cannot free as leaks."""
    gc.unfreeze()


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        # last, so that no process waits long for a test of another one to end
        items.sort(key=lambda item: item.get_closest_marker("alone") is not None)
    if not config.option.collectonly:
        for item in items:
            if item.get_closest_marker("gvisor") and gvisor_problem() is not None:
                item.add_marker(pytest.mark.skip(reason=f"no gVisor: {gvisor_problem()}"))
    wanted = [item for item in items if item.get_closest_marker("docker")]
    if not wanted or config.option.collectonly:
        return
    if (problem := docker_problem()) is None:
        return
    if os.environ.get(REQUIRE_DOCKER) == "1":
        raise pytest.UsageError(f"{REQUIRE_DOCKER}=1 needs a working Docker sandbox: {problem}")
    for item in wanted:
        item.add_marker(pytest.mark.skip(reason=f"no Docker sandbox: {problem}"))


CHAIN = "tests/test_docs_run.py::test_a_command_of_the_docs_runs"
"""Tests that need what those before them made."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadscope` the chain goes to one process, every other test by itself.

    xdist's own groups do nothing under pytest 9.2.
    """
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Chained(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return CHAIN if nodeid.startswith(CHAIN) else nodeid

    return Chained(config, log)


@functools.cache
def _doors():
    """A folder that the processes of one run share; it goes with the process that started them."""
    return tempfile.TemporaryDirectory(prefix="sdpo-bench-tests-")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["doors"] = _doors().name


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Beside other test processes, wait for one's turn: outside of the test's time limit."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    folder = Path(item.config.workerinput["doors"])
    with room(folder, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter):
    skipped = [
        r
        for r in terminalreporter.stats.get("skipped", [])
        if "no Docker sandbox" in str(r.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} Docker tests skipped, no engine or image; the process backend was tested"
        )
