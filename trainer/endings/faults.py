"""Faults outside the training itself, such as a full disk or a lost sandbox: wait, try again, then stop.

No fault becomes a reward: grading either happens, or the run waits or stops.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from analysis.journal.journal import StoreError
from sandbox.program import SandboxError

Result = TypeVar("Result")

_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}
_LONGEST_WAIT_S = 60.0
_TORCH_WRITER = ("PytorchStreamWriter failed", "unexpected pos", "iostream error")
"""What torch.save says where the disk is full; by the file's size and how much of it could be written."""


class OutsideFault(Exception):
    """A fault outside the training lasted longer than the patience; the message is one line."""


def is_outside(error: BaseException) -> bool:
    """Whether an error is the machine's and may pass: sandbox, results folder, or a full disk."""
    if isinstance(error, SandboxError | StoreError):
        return True
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    # safetensors and torch report a full disk in types of their own
    return "No space left on device" in str(error) or _is_of_torch_writer(error)


def _is_of_torch_writer(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TORCH_WRITER)


def _line(error: BaseException) -> str:
    """What an error says, in one line; torch's writer names no cause."""
    line = " ".join(str(error).split())
    if _is_of_torch_writer(error):
        return f"a file that could not be written whole, as on a full disk ({line})"
    return line


@dataclass(frozen=True)
class Patience:
    """How long to wait for a fault to pass, and whom to tell."""

    total_s: float
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, action: Callable[[], Result], what: str) -> Result:
        """The result of `action`, tried again after 1, 2, 4, ... seconds while faults are outside.

        Raises:
            OutsideFault: the fault lasted for `total_s`.
        """
        for wait_s in self._waits():
            try:
                return action()
            except Exception as error:
                if not is_outside(error):
                    raise
                line = _line(error)
                if wait_s is None:
                    raise OutsideFault(
                        f"{what} must work, got {line} for {self.total_s:.0f} s"
                    ) from error
                self.say(f"{what} failed: {line}; trying again in {wait_s:.0f} s")
                self.sleep(wait_s)
        raise AssertionError("the last wait is None")

    def _waits(self) -> Iterator[float | None]:
        wait_s, waited_s = 1.0, 0.0
        while waited_s < self.total_s:
            wait_s = min(wait_s, _LONGEST_WAIT_S, self.total_s - waited_s)
            yield wait_s
            waited_s += wait_s
            wait_s *= 2
        yield None
