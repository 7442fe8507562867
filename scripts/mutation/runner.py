"""Copies of the tree with a worker in each, and what the tests said of every mutant."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from scripts.mutation.areas import PACKAGES, ROOT, Area, test_files
from scripts.mutation.mutant import Mutant
from scripts.mutation.reach import block_of

MAX_TEST_S = 40.0
"""Seconds of tests, as measured without a mutant, that each mutant has to stand: the quick ones come first."""

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_COPIED = (*PACKAGES, "tests", "scripts", "configs", "docs")


@dataclass(frozen=True)
class Result:
    """What became of one mutant."""

    mutant: Mutant
    fate: str
    """killed, timed out or survived."""
    by: str
    """The test that failed; empty where none did, or where the code could not be imported."""
    seconds: float


class Worker:
    """One process with the libraries loaded, in a copy of the tree."""

    def __init__(self, folder: Path, number: int, *, heavy: bool) -> None:
        """Copy the tree and start the process; `heavy` loads torch and what builds on it."""
        self._tree = folder / f"tree-{number}"
        shutil.rmtree(self._tree, ignore_errors=True)
        self._tree.mkdir(parents=True)
        for name in _COPIED:
            shutil.copytree(
                ROOT / name, self._tree / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, self._tree)
        reading, writing = os.pipe()
        self._errors = self._tree.parent / f"{self._tree.name}.err"
        script = Path(__file__).with_name("worker.py")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, script, self._tree, str(writing), "heavy" if heavy else "light"],
                stdin=subprocess.PIPE,
                stderr=errors,
                text=True,
                pass_fds=[writing],
                env=_environment(self._tree),
            )
        os.close(writing)
        self._answers = os.fdopen(reading)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Have one job done."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"a worker must answer, got nothing; {self._errors} says why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process; remove its tree."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        self._process.wait()
        self._answers.close()
        shutil.rmtree(self._tree, ignore_errors=True)


def _environment(tree: Path) -> dict[str, str]:
    """What is set outside must not decide which mutants live."""
    kept = {
        n: v for n, v in os.environ.items() if not n.startswith(("SDPO_BENCH", "MBPP", "PYTEST"))
    }
    return kept | {
        "PYTHONPATH": str(tree),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip


def in_workers(
    jobs: Sequence[Job],
    work: Callable[[Worker, Job], Answer],
    *,
    folder: Path,
    n_workers: int,
    heavy: bool,
    say: Callable[[Answer], None],
) -> list[Answer]:
    """Have `work` done on every job by some workers; answers in the order of the jobs."""
    answers: dict[int, Answer] = {}
    pending: Queue[tuple[int, Job]] = Queue()
    for place in enumerate(jobs):
        pending.put(place)

    def go(number: int) -> None:
        worker = Worker(folder, number, heavy=heavy)
        try:
            while True:
                index, job = pending.get_nowait()
                answers[index] = work(worker, job)
                say(answers[index])
        except Empty:
            pass
        finally:
            worker.close()

    n_threads = min(n_workers, len(jobs))
    with ThreadPoolExecutor(max(n_threads, 1)) as pool:
        for done in [pool.submit(go, number) for number in range(n_threads)]:
            done.result()
    return [answers[index] for index in range(len(jobs))]


class Reach:
    """Which tests run which blocks, measured once for a state of the tree and kept in a file."""

    def __init__(self, folder: Path) -> None:
        """Keep what was measured in `folder`."""
        self._path = folder / "reach.json"
        self._kept: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self._kept = json.loads(self._path.read_text())
        self._tests: dict[str, dict[str, Any]] = {}

    def measure(
        self,
        files: Sequence[str],
        *,
        folder: Path,
        n_workers: int,
        heavy: bool,
        say: Callable[[str], None],
    ) -> None:
        """Run every test file that changed, or all where the code did, without a mutant."""
        shared = _digest([p for n in (*PACKAGES, "tests") for p in (ROOT / n).rglob("*")
                          if p.suffix in (".py", ".sql") and not p.name.startswith("test_")])  # fmt: skip
        digests = {file: shared + _digest([ROOT / file]) for file in files}
        stale = [f for f in files if self._kept.get(f, {}).get("digest") != digests[f]]

        def record(worker: Worker, file: str) -> tuple[str, dict[str, Any]]:
            job = {"files": {}, "test_files": [file], "record": list(PACKAGES), "timeout_s": 900.0}
            return file, worker.run(job)

        def tell(found: tuple[str, dict[str, Any]]) -> None:
            file, answer = found
            tests = answer.get("tests", {})
            bad = [n for n, t in tests.items() if t["outcome"] == "failed"]
            say(
                f"{file}: {len(tests)} tests, {answer['seconds']:.1f} s"
                + (f", failing: {bad}" if bad else "")
            )
            if tests or answer["status"] == 5:
                self._kept[file] = {"digest": digests[file], "tests": tests}

        if stale:
            try:
                in_workers(stale, record, folder=folder, n_workers=n_workers, heavy=heavy, say=tell)
            finally:
                self._path.write_text(json.dumps(self._kept))
        for file in files:
            self._tests |= self._kept.get(file, {}).get("tests", {})

    def tests_of(self, mutant: Mutant, area: Area, source: str) -> list[str]:
        """The tests that run a mutant's block, or its file where it runs on import; quick files first."""
        path = area.reached_through or mutant.path
        files = set(test_files(area))
        usable = {
            name: test
            for name, test in self._tests.items()
            if test["outcome"] == "passed" and name.split("::")[0] in files
        }
        line = None if area.reached_through else block_of(source, mutant.line)
        apart = area.in_processes.get(mutant.path)
        reaching = [
            n for n, t in usable.items() if _reaches(t, path, line) or n.split("::")[0] == apart
        ]
        # what only other processes run is not seen: then whatever uses the file, or all
        reaching = reaching or [n for n, t in usable.items() if _reaches(t, path, None)]
        found = {name: usable[name]["seconds"] for name in reaching or usable}
        of_file: dict[str, float] = {}
        for name, seconds in found.items():
            file = name.split("::")[0]
            of_file[file] = of_file.get(file, 0.0) + seconds
        order = sorted(found, key=lambda n: (of_file[n.split("::")[0]], n.split("::")[0], found[n]))
        used, taken = 0.0, []
        for name in order:
            used += found[name]
            if taken and used > MAX_TEST_S:
                break
            taken.append(name)
        return taken

    def seconds(self, tests: Sequence[str]) -> float:
        """How long tests took without a mutant."""
        return sum(self._tests[name]["seconds"] for name in tests)


def _reaches(test: dict[str, Any], path: str, line: int | None) -> bool:
    """Whether a test runs the block that begins at a line of a file; for None, any of the file."""
    return any(p == path and line in (None, at) for p, at in test.get("blocks", ()))


def try_one(
    worker: Worker, mutant: Mutant, source: str, tests: list[str], seconds: float
) -> Result:
    """Plant one mutant and run its tests."""
    answer = worker.run(
        {
            "files": {mutant.path: mutant.applied(source)},
            "test_files": list(dict.fromkeys(name.split("::")[0] for name in tests)),
            "tests": tests,
            # other work on the machine must not look like an endless loop
            "timeout_s": 60.0 + 10 * seconds,
        }
    )
    fate = "timed out" if answer["timed_out"] else "survived" if answer["status"] == 0 else "killed"
    return Result(mutant, fate, answer["failed"], answer["seconds"])


def _digest(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]
