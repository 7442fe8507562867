"""Runs that are killed and resumed, in processes that are forked with everything imported: seconds a kill, not ten.

The trained process itself is killed (SIGKILL) when it has written so many bytes, so kills spread over the whole run,
checkpoints included.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import time
from pathlib import Path

from tests.trainer.outcomes import outcome

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["trainer.training.train", "bitsandbytes"])


def train_in_a_fork(algorithm, config, words):
    """Start a run of a configuration file in a process of its own."""
    process = _FORKS.Process(target=_train, args=(algorithm, str(config), list(words)))
    process.start()
    return process


def resume_in_a_fork(run_dir):
    process = _FORKS.Process(target=_resume, args=(str(run_dir),))
    process.start()
    process.join()
    assert process.exitcode == 0


class TwoProcesses:
    """One run in two processes over gloo, as `accelerate launch` would start them."""

    def __init__(self, target, *args):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._ranks = [
            _FORKS.Process(target=_as_rank, args=(rank, port, target, args)) for rank in range(2)
        ]
        for process in self._ranks:
            process.start()

    @property
    def exitcode(self):
        return self._ranks[0].exitcode

    def is_alive(self):
        return self._ranks[0].is_alive()

    def join(self):
        for process in self._ranks:
            process.join()

    def kill(self):
        for process in self._ranks:
            process.kill()


def train_in_two_forks(algorithm, config, words):
    return TwoProcesses(_train, algorithm, str(config), list(words))


def resume_in_two_forks(run_dir):
    processes = TwoProcesses(_resume, str(run_dir))
    processes.join()
    assert processes.exitcode == 0


def check_kills(start, folder, *, n_kills, seed=11, resume=resume_in_a_fork):
    """`start(runs_dir)` starts one run; each of `n_kills` killed ones must end like one that was not."""
    whole = folder / "whole"
    process = start(whole)
    process.join()
    assert process.exitcode == 0
    expected, n_bytes = outcome(whole), bytes_in(_run_in(whole))
    generator = random.Random(seed)
    n_killed = 0
    for attempt in range(n_kills):
        runs = folder / f"killed-{attempt}"
        killed = kill_when(start(runs), runs, generator.uniform(0.02, 0.97) * n_bytes)
        n_killed += killed
        if killed:
            resume(_run_in(runs))
        check_same(outcome(runs), expected)
    assert n_killed >= 0.6 * n_kills, "most runs must really have been killed"


def kill_when(process, runs, n_bytes):
    """Kill the process once its run has written so much; whether it was alive then."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.is_alive():
        found = [path for path in runs.glob("train-*") if (path / "experiment.json").exists()]
        if found and bytes_in(found[0]) > n_bytes:
            process.kill()
            break
        time.sleep(0.001)
    process.join()
    return process.exitcode == -signal.SIGKILL


def check_same(found, expected):
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert sorted(set(ours) ^ set(theirs), key=str)[:4] == []
        assert len(ours) == len(theirs)
    assert found[2] == expected[2]


def bytes_in(folder):
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # an old checkpoint is being removed
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _run_in(runs):
    (run_dir,) = (path for path in runs.iterdir() if path.is_dir())
    return run_dir


def _as_rank(rank, port, target, args):
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    target(*args)


def _train(algorithm, config, words):
    from trainer.options.config import parse_options
    from trainer.training.train import train

    train(algorithm, parse_options(Path(config), words), say=_silent)


def _resume(run_dir):
    from trainer.training.train import resume

    resume(Path(run_dir), say=_silent)


def _silent(line):
    pass
