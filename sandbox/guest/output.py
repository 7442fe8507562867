"""A program's standard streams: nothing to read, and the last part of what it prints, at a bounded cost."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

KEPT_BYTES = 4096
_NAMES = ("<stdin>", "<stdout>", "<stderr>")


class _Raw(io.RawIOBase):
    """A raw standard stream, whose bytes come from a function and go to one."""

    def __init__(
        self, fd: int, read: Callable[[int], bytes], write: Callable[[bytes], object]
    ) -> None:
        super().__init__()
        self.name = _NAMES[fd]
        self._fd, self._read, self._write = fd, read, write

    def readable(self) -> bool:
        return self._fd == 0

    def writable(self) -> bool:
        return self._fd != 0

    def fileno(self) -> int:
        """The descriptor, which is /dev/null in a child."""
        return self._fd

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        part = self._read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def write(self, data: Any) -> int:  # noqa: ANN401
        chunk = bytes(data)
        self._write(chunk)
        return len(chunk)


def stream(
    fd: int, *, read: Callable[[int], bytes], write: Callable[[bytes], object]
) -> io.TextIOWrapper:
    """Return what Python has in a container for standard input (0), output (1) or errors (2), over two functions."""
    raw = _Raw(fd, read, write)
    buffer: Any = io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
    errors = "backslashreplace" if fd == 2 else "surrogateescape"
    return io.TextIOWrapper(buffer, encoding="utf-8", errors=errors, line_buffering=fd == 2)


def _nothing(n: int) -> bytes:
    return b""


class Capture:
    """Standard streams of a program: nothing to read, and the last bytes that were printed."""

    def __init__(self) -> None:
        self._kept, self._n_written = b"", 0
        self._stdin, self._stdout, self._stderr = (
            stream(fd, read=_nothing, write=self._keep) for fd in (0, 1, 2)
        )

    def install(self) -> None:
        """Put the streams in the place of Python's own."""
        sys.stdin = sys.__stdin__ = self._stdin  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = self._stdout  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._stderr  # type: ignore[misc]

    def tail(self) -> tuple[str, bool]:
        """Return the last part of what was printed, and whether something before it was dropped."""
        for printed in (self._stdout, self._stderr):
            # A program may have closed it: what reached the raw stream is still there.
            with contextlib.suppress(ValueError):
                printed.flush()
        return self._kept.decode("utf-8", "replace"), self._n_written > len(self._kept)

    def _keep(self, chunk: bytes) -> None:
        self._n_written += len(chunk)
        self._kept = (self._kept + chunk[-KEPT_BYTES:])[-KEPT_BYTES:]
