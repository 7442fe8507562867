"""A program's standard streams: nothing to read, and the last part of what it prints, at a bounded cost."""

from __future__ import annotations

import contextlib
import io
import sys

KEPT_BYTES = 4096


class _Printed:
    """The last bytes that were printed."""

    kept = b""
    n_written = 0


class _Stream(io.RawIOBase):
    """A raw standard stream: empty to read, and what is written to it is printed."""

    def __init__(self, fd: int, name: str, printed: _Printed) -> None:
        super().__init__()
        self.name = name
        self._fd = fd
        self._printed = printed

    def readable(self) -> bool:
        return self._fd == 0

    def writable(self) -> bool:
        return self._fd != 0

    def fileno(self) -> int:
        """The descriptor, which is /dev/null in a child."""
        return self._fd

    def readinto(self, buffer: object) -> int:
        return 0

    def write(self, data: object) -> int:
        chunk = bytes(data)  # type: ignore[call-overload]
        self._printed.n_written += len(chunk)
        self._printed.kept = (self._printed.kept + chunk[-KEPT_BYTES:])[-KEPT_BYTES:]
        return len(chunk)


class Capture:
    """Standard streams of a program, with the encodings that Python gives them in a container."""

    def __init__(self) -> None:
        self._printed = _Printed()
        self._stdin = io.TextIOWrapper(
            io.BufferedReader(_Stream(0, "<stdin>", self._printed)),
            encoding="utf-8",
            errors="surrogateescape",
        )
        self._stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stream(1, "<stdout>", self._printed)),
            encoding="utf-8",
            errors="surrogateescape",
        )
        self._stderr = io.TextIOWrapper(
            io.BufferedWriter(_Stream(2, "<stderr>", self._printed)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def install(self) -> None:
        """Put the streams in the place of Python's own."""
        sys.stdin = sys.__stdin__ = self._stdin  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = self._stdout  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._stderr  # type: ignore[misc]

    def tail(self) -> tuple[str, bool]:
        """Return the last part of what was printed, and whether something before it was dropped."""
        for stream in (self._stdout, self._stderr):
            # A program may have closed it: what reached the raw stream is still there.
            with contextlib.suppress(ValueError):
                stream.flush()
        kept = self._printed.kept.decode("utf-8", "replace")
        return kept, self._printed.n_written > len(self._printed.kept)
