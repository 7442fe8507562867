"""Runs tests in a copy of the tree, each time in a fork of a process that has the heavy libraries loaded.

Started as a process of its own: reads one job a line from standard input, as JSON, and answers each with one
line. A job names files and their text, tests in their order, and seconds; the files are put back afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

LIBRARIES = (
    "numpy scipy.stats statsmodels.stats.proportion statsmodels.stats.multitest duckdb pydantic yaml click rich"
    " docker hypothesis pytest _pytest.assertion.rewrite torch safetensors.torch jaxtyping beartype tokenizers"
    " transformers transformers.trainer transformers.models.llama.modeling_llama accelerate peft datasets"
    " trl trl.trainer.grpo_trainer trl.models.utils altair"
).split()

LEFT_OUT = ("docker", "gvisor", "slow", "gpu", "models", "containers", "unsloth")
"""Marks of tests that do not run here."""

MAX_BYTES = 8 << 30
"""Memory of one run's process: a mutant may ask for all there is."""


class Selection:
    """A plugin of pytest: the tests that a job names, in its order; without any, all that need no engine."""

    def __init__(self, tests: list[str] | None) -> None:
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


def main(tree: Path, answers: int) -> None:
    """Work until standard input ends."""
    os.chdir(tree)
    sys.path[0] = str(tree)
    for name in LIBRARIES:
        # an optional one may be missing; then the tests that need it skip
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with os.fdopen(answers, "w", buffering=1) as out:
        for line in sys.stdin:
            out.write(json.dumps(_run(tree, json.loads(line))) + "\n")


def _run(tree: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Write the job's files, run its tests in a fork, put the files back."""
    kept = {path: (tree / path).read_bytes() for path in job["files"]}
    for path, text in job["files"].items():
        (tree / path).write_text(text, encoding="utf-8")
    answer = tree.parent / f"{tree.name}.json"
    answer.unlink(missing_ok=True)
    began = time.monotonic()
    child = os.fork()
    if not child:
        _child(tree, job, answer)
    timed_out = _wait(child, job["timeout_s"])
    for path, content in kept.items():
        (tree / path).write_bytes(content)
    shutil.rmtree(tree.parent / f"{tree.name}-tmp", ignore_errors=True)
    found = json.loads(answer.read_text()) if answer.exists() else {"status": -1, "failed": ""}
    return {**found, "timed_out": timed_out, "seconds": time.monotonic() - began}


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
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    log = os.open(tree.parent / f"{tree.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = -1
    try:
        status, content = _pytest(tree, job)
        answer.write_text(json.dumps({"status": status, **content}))
    finally:
        os._exit(0 if status == 0 else 1)


def _pytest(tree: Path, job: dict[str, Any]) -> tuple[int, dict[str, Any]]:
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
    selection = Selection(job.get("tests"))
    plugins: list[Any] = [selection]
    recorder = None
    if job.get("record"):
        sys.path.insert(0, str(Path(__file__).parent))
        import reach

        recorder = reach.Recorder(reach.watch(tree, tuple(job["record"])))
        plugins.append(recorder)
        sys.path.pop(0)
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "--no-header"]
    options += [f"--basetemp={tree.parent / (tree.name + '-tmp')}"]
    options += [] if recorder else ["-x"]
    status = int(pytest.main([*options, *job["test_files"]], plugins=plugins))
    content: dict[str, Any] = {"failed": selection.failed}
    if recorder:
        content["tests"] = recorder.tests
    return status, content


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
