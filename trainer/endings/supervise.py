"""Runs training in a child process, so that every way in which it can end is noticed and reported.

The child says over a pipe when all its results are on disk. If it then does not exit, which libraries with
threads of their own are known for, its results are kept and it is ended. Imports nothing heavy.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from trainer.endings.exit_codes import FAILED, INTERRUPTED, KILLED

STATUS_FD = "SDPO_BENCH_STATUS_FD"
"""In the child's environment: the pipe's descriptor. A process that has it is supervised."""
END_GRACE_S = 60.0
"""How long a child may take to exit once its results are on disk."""
STOP_GRACE_S = 10.0
"""How long a child may take to end after a second signal."""
_PR_SET_PDEATHSIG = 1
_TICK_S = 0.2


@dataclass
class _Told:
    """What the child has said so far."""

    exit_code: int | None = None
    """Its exit status, once its results are on disk."""
    run_dir: str | None = None
    handles: bool = False
    """Whether it meets signals itself by now; before, it has only begun to import."""
    doing: str | None = None
    """What it finishes before it stops: `step 12`."""
    since: float = 0.0
    """When that began, by `time.monotonic`, whose clock is the machine's."""
    usual_s: float | None = None
    """How long the one before took."""
    n_signals: int = 0
    """Signals that were passed on to it."""
    give_up_at: float = math.inf


def needs_supervisor() -> bool:
    """Whether this process is neither supervised nor one of several that a launcher looks after."""
    return STATUS_FD not in os.environ and "LOCAL_RANK" not in os.environ


def supervise(
    command: Sequence[str], *, say: Callable[[str], None], end_grace_s: float = END_GRACE_S
) -> int:
    """Run `command` and return its exit status; signals are passed on to it.

    A child killed by signal N gives 128 + N. One that hangs after its end gives the status it announced.
    """
    read_end, write_end = os.pipe()
    told = _Told()
    with _passed_on(told, say) as looks_after, os.fdopen(read_end, "rb", buffering=0) as pipe:
        child = subprocess.Popen(
            command,
            pass_fds=(write_end,),
            env={**os.environ, STATUS_FD: str(write_end)},
            # a terminal's Ctrl-C must reach it once, from here, not twice
            start_new_session=True,
        )
        os.close(write_end)
        looks_after(child)
        while child.poll() is None and told.exit_code is None:
            _listen(pipe.fileno(), told)
            if time.monotonic() > told.give_up_at:
                _kill(child)
        _listen(pipe.fileno(), told)
        if told.exit_code is not None and not _exited(child, end_grace_s):
            say(
                f"the training process ended its work, all results are in {told.run_dir}, but it did not "
                f"exit within {end_grace_s:.0f} s; it was killed and nothing was lost"
            )
            _kill(child)
            return told.exit_code
    status = child.wait()
    resume = f"; `sdpo-bench train --resume {told.run_dir}` goes on" if told.run_dir else ""
    if status == INTERRUPTED or (status < 0 and math.isfinite(told.give_up_at)):
        say(f"stopped{resume or '; nothing was begun'}")
        return INTERRUPTED
    if status >= 0:
        return status
    name = signal.Signals(-status).name
    hint = "; the machine may have run out of memory" if -status == signal.SIGKILL else ""
    say(f"the training process was killed by {name}{hint}{resume}")
    return KILLED - status


def tell(**content: object) -> None:
    """In a supervised process: tell the supervisor; anywhere else nothing happens."""
    if STATUS_FD not in os.environ:
        return
    with suppress(OSError):  # the supervisor is gone; PDEATHSIG is on its way
        os.write(int(os.environ[STATUS_FD]), json.dumps(content).encode() + b"\n")


def die_with_supervisor() -> None:
    """Let the kernel kill this process when its supervisor dies, however that happens."""
    if STATUS_FD in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:  # it died before the line above
            raise SystemExit(FAILED)


@contextmanager
def _passed_on(
    told: _Told, say: Callable[[str], None]
) -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass signals on to the child that is named within; those that come before wait for it."""
    child: subprocess.Popen[bytes] | None = None
    waiting: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        told.n_signals += 1
        with suppress(OSError):  # the terminal may be gone
            say(_answer(told))
        if number == signal.SIGINT and not told.handles:
            told.give_up_at = 0.0
        elif told.n_signals > 1 or told.doing is None:
            told.give_up_at = time.monotonic() + STOP_GRACE_S
        waiting.append(number)
        hand_over()

    def hand_over() -> None:
        while child is not None and waiting:
            number = waiting.pop(0)
            # a closed terminal asks for the same as SIGTERM
            child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    def looks_after(started: subprocess.Popen[bytes]) -> None:
        nonlocal child
        child = started
        hand_over()

    with handled((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), pass_on):
        yield looks_after


@contextmanager
def handled(
    numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Within the block these signals have this handler; afterwards each has its own again."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def _answer(told: _Told) -> str:
    """What a person who asked to stop is told at once."""
    if told.n_signals > 1 or told.doing is None:
        return "stopping now"
    about = ""
    if told.usual_s is not None:
        about = f", about {max(told.since + told.usual_s - time.monotonic(), 1):.0f} s"
    return f"finishing {told.doing}{about}; again to stop now"


def _listen(descriptor: int, told: _Told) -> None:
    """Take in what the child said within a tick; a line is far shorter than what a pipe writes at once."""
    ready, _, _ = select.select([descriptor], [], [], _TICK_S)
    if not ready:
        return
    said = os.read(descriptor, 65_536)
    if not said:  # closed: the child is ending
        time.sleep(_TICK_S)
    for line in said.splitlines():
        for name, value in json.loads(line).items():
            setattr(told, name, value)


def _exited(child: subprocess.Popen[bytes], within_s: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=within_s)
        return True
    return False


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and what is left of its session's process group."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
