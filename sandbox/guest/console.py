"""A program's standard input and output, where they are what it is judged by.

Descriptors 0 and 1 are /dev/null in a child, and no file could stand for them. So whatever reads and writes them by
Python's own means is given these streams: `input`, `print`, `sys.stdin` and `sys.stdout` with their buffers, `open(0)`,
`os.read(0, n)`, `os.write(1, data)`, `/dev/stdin`. Hostile code can undo all of it, and only changes what it prints.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
from typing import Any

from sandbox.guest.output import stream

MAX_OUTPUT_BYTES = 1_900_000
"""What is kept of the output; one byte more is kept to show that there was more."""

_NAMES = {"/dev/stdin": 0, "/proc/self/fd/0": 0, "/dev/stdout": 1, "/proc/self/fd/1": 1}


class Console:
    """What a program reads, and what it has printed so far."""

    def __init__(self, stdin: str) -> None:
        self._given = stdin.encode("utf-8", "surrogatepass")
        self._at = 0
        self._printed = bytearray()

    def install(self) -> None:
        """Put the streams in the place of Python's own."""
        sys.stdin = sys.__stdin__ = self._opened(0)  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = self._opened(1)  # type: ignore[misc]
        real_open, real_read, real_write = io.open, os.read, os.write

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            fd = _NAMES.get(file, -1) if isinstance(file, str) else file
            if type(fd) is int and fd in (0, 1):
                return self._opened(fd, binary="b" in mode)
            return real_open(file, mode, *args, **kwargs)

        def read(fd: int, n: int, /) -> bytes:
            return self.read(n) if fd == 0 else real_read(fd, n)

        def write(fd: int, data: Any, /) -> int:  # noqa: ANN401
            return self.write(data) if fd == 1 else real_write(fd, data)

        builtins.open = io.open = opened
        os.read, os.write = read, write

    def read(self, n: int) -> bytes:
        """Take up to `n` bytes of the input."""
        part = self._given[self._at : self._at + n]
        self._at += len(part)
        return part

    def write(self, data: Any) -> int:  # noqa: ANN401
        """Keep what is printed, up to the bound."""
        chunk = bytes(data)
        room = MAX_OUTPUT_BYTES + 1 - len(self._printed)
        self._printed += chunk[: max(room, 0)]
        return len(chunk)

    def output(self) -> str:
        """Return what was printed; bytes that are no text become marks that nothing expects."""
        for printed in (sys.stdout, sys.__stdout__):
            # A program may have closed it, or put something else there.
            with contextlib.suppress(Exception):
                printed.flush()  # type: ignore[union-attr]
        return bytes(self._printed).decode("utf-8", "replace")

    def _opened(self, fd: int, *, binary: bool = False) -> Any:  # noqa: ANN401
        opened = stream(fd, read=self.read, write=self.write)
        return opened.detach() if binary else opened
