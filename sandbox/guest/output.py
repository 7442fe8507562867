"""What a program prints: the last part of it, in memory, at a bounded cost."""

from __future__ import annotations

import io
import sys

KEPT_BYTES = 4096


class _Tail(io.RawIOBase):
    """A raw stream that keeps the last bytes written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = b""
        self.n_written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = bytes(data)  # type: ignore[call-overload]
        self.n_written += len(chunk)
        self.kept = (self.kept + chunk[-KEPT_BYTES:])[-KEPT_BYTES:]
        return len(chunk)


class Capture:
    """Standard streams of a program: nothing to read, prints kept in memory."""

    def __init__(self) -> None:
        self._raw = _Tail()
        self._text = io.TextIOWrapper(
            io.BufferedWriter(self._raw), encoding="utf-8", errors="backslashreplace"
        )
        self._empty = io.StringIO()

    def install(self) -> None:
        """Put the streams in the place of Python's own."""
        sys.stdout = sys.__stdout__ = self._text  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._text  # type: ignore[misc]
        sys.stdin = sys.__stdin__ = self._empty  # type: ignore[misc,assignment]

    def tail(self) -> tuple[str, bool]:
        """Return the last part of what was printed, and whether something before it was dropped."""
        try:
            self._text.flush()
        except ValueError:
            # The program closed its own stream: what reached the raw stream is still there.
            pass
        kept = self._raw.kept.decode("utf-8", "replace")
        return kept, self._raw.n_written > len(self._raw.kept)
