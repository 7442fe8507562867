"""Runs tests in a copy of the tree, each time in a fork of a process that has the heavy libraries loaded.

Started as a process of its own: reads one job a line from standard input, as JSON, and answers each with one
line. A job names files and their text, tests in their order, and seconds; the files are put back afterwards.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIGHT = "numpy scipy.stats duckdb pydantic yaml click rich docker hypothesis pytest".split()
HEAVY = (
    "torch safetensors.torch jaxtyping tokenizers transformers.trainer accelerate"
    " transformers.models.llama.modeling_llama peft datasets trl.trainer.grpo_trainer trl.models.utils"
).split()

LEFT_OUT = ("docker", "gvisor", "slow", "gpu", "models", "containers", "unsloth")
"""Marks of tests that do not run here."""

MAX_BYTES = 8 << 30
"""Memory of one run's process: a mutant may ask for all there is."""


class Selection:
    """A plugin of pytest: the tests that a job names, in its order; without any, all that need no engine."""

    def __init__(self, tests: list[str] | None, answer: Path | None) -> None:
        self._answer = answer
        self._place = None if tests is None else {test: i for i, test in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:  # noqa: ANN401
        """Choose before the suite's own hooks look for an engine."""
        items[:] = [i for i in items if not any(i.get_closest_marker(m) for m in LEFT_OUT)]
        place = self._place
        if place is not None:
            items[:] = [item for item in items if item.nodeid in place]
            items.sort(key=lambda item: place[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401
        """Remember the first failure."""
        if report.failed and not self.failed:
            self.failed = report.nodeid
            if self._answer is not None:  # nothing after it matters, taking things down neither
                self._answer.write_text(json.dumps({"status": 1, "failed": self.failed}))
                os._exit(1)


def main(tree: Path, answers: int, libraries: Sequence[str]) -> None:
    """Work until standard input ends, with these libraries loaded."""
    os.chdir(tree)
    sys.path[0] = str(tree)
    for name in libraries:
        # an optional one may be missing; then the tests that need it skip
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork's collector would go through all of it, and copy every page
    with os.fdopen(answers, "w", buffering=1) as out:
        for line in sys.stdin:
            out.write(json.dumps(_run(tree, json.loads(line))) + "\n")


def _run(tree: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Write the job's files, run its tests in a fork, put the files back."""
    kept = {path: (tree / path).read_bytes() for path in job["files"]}
    for path, text in job["files"].items():
        _write(tree / path, text.encode())
    answer = tree.parent / f"{tree.name}.json"
    answer.unlink(missing_ok=True)
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    child = os.fork()
    if not child:
        _child(tree, job, answer)
    timed_out = _wait(child, job["timeout_s"])
    for path, content in kept.items():
        _write(tree / path, content)
    shutil.rmtree(tree.parent / f"{tree.name}-tmp", ignore_errors=True)
    found = json.loads(answer.read_text()) if answer.exists() else {"status": -1, "failed": ""}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before
    return {**found, "timed_out": timed_out, "seconds": time.monotonic() - began, "cpu_s": cpu_s}


_writes = itertools.count(1)


def _write(path: Path, content: bytes) -> None:
    """Write a file with a time that it never had: what was compiled of it before does not count."""
    path.write_bytes(content)
    at = path.stat().st_mtime + 10 * next(_writes)
    os.utime(path, (at, at))


def _wait(child: int, timeout_s: float) -> bool:
    """Wait for a child and whatever it started; whether it had to be ended."""
    deadline, timed_out = time.monotonic() + timeout_s, False
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            timed_out = True
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return timed_out


def _child(tree: Path, job: dict[str, Any], answer: Path) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has none
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    log = os.open(tree.parent / f"{tree.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = -1
    try:
        status, content = _pytest(tree, job, answer)
        answer.write_text(json.dumps({"status": status, **content}))
    finally:
        os._exit(0 if status == 0 else 1)


def _pytest(tree: Path, job: dict[str, Any], answer: Path) -> tuple[int, dict[str, Any]]:
    import pytest
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    selection = Selection(job.get("tests"), None if job.get("record") else answer)
    plugins: list[Any] = [selection]
    recorder = None
    if job.get("record"):
        # modules are compiled anew, with marks, and are not kept
        sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
        sys.path.insert(0, str(Path(__file__).parent))
        import reach

        recorder = reach.Recorder(reach.watch(tree, tuple(job["record"])))
        plugins.append(recorder)
        sys.path.pop(0)
    options = "-q -p no:cacheprovider -p no:unraisableexception --tb=short --no-header".split()
    options += ["-p", "_hypothesis_pytestplugin", "-p", "pytest_timeout"]
    if (tree / "tests" / "scale.py").exists():
        options += [
            "--hypothesis-profile=long"
        ]  # of a quarter of the examples more mutants would live
    options += [f"--basetemp={tree.parent / (tree.name + '-tmp')}"]
    status = int(pytest.main([*options, *job["test_files"]], plugins=plugins))
    content: dict[str, Any] = {"failed": selection.failed}
    if recorder:
        content["tests"] = recorder.tests
    return status, content


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [*LIGHT, *(HEAVY if sys.argv[3] == "heavy" else ())])
