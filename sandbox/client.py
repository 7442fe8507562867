"""The one way into the sandbox for the rest of the project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sandbox.program import Execution, Program


class Sandbox(Protocol):
    """Something that judges programs; a context manager that closes what it started."""

    @property
    def name(self) -> str:
        """Backend and image, as stored with a run: e.g. `docker sha256:...` or `process`."""
        ...

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Judge programs; one result each, in order.

        Raises:
            SandboxError: the sandbox could not be had or failed twice on the same program.
        """
        ...

    def close(self) -> None:
        """Stop and remove whatever this client started."""
        ...

    def __enter__(self) -> Sandbox: ...

    def __exit__(self, *exc: object) -> None: ...


def open_sandbox(backend: str = "auto", *, n_workers: int = 2, memory_bytes: int = 512 << 20) -> Sandbox:
    """Open a sandbox: `docker`, `process`, or `auto` (docker where it answers, else process, said in one line).

    Raises:
        SandboxError: no Docker engine, image not built, or the guest does not start.
    """
    raise NotImplementedError
