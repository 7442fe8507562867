"""The one way into the sandbox for the rest of the project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from sandbox.endpoint import Endpoint
from sandbox.pool import Pool
from sandbox.process_backend import WARNING, ProcessEndpoint
from sandbox.program import Execution, Program, SandboxError


class Sandbox(Protocol):
    """Something that judges programs; a context manager that closes what it started."""

    @property
    def name(self) -> str:
        """Backend and image, as stored with a run: e.g. `docker sha256:...` or `process`."""
        ...

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Judge programs; one result each, in order.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
        """
        ...

    def close(self) -> None:
        """Stop and remove whatever this client started."""
        ...

    def __enter__(self) -> Sandbox: ...

    def __exit__(self, *exc: object) -> None: ...


def open_sandbox(
    backend: str = "auto", *, n_workers: int = 2, memory_bytes: int = 512 << 20, hash_seed: int = 0
) -> Pool:
    """Open a sandbox: `docker`, `process`, or `auto` (docker where it answers, else process, said in one line).

    Args:
        backend: which one.
        n_workers: programs that run at the same time.
        memory_bytes: address space that one program may have.
        hash_seed: Python's hash seed inside, which decides the order of sets of strings.

    Raises:
        SandboxError: no Docker engine, image not built, or the guest does not start.
    """
    if n_workers < 1:
        raise SandboxError(f"n_workers must be at least 1, got {n_workers}")
    if backend == "process":
        print(WARNING, file=sys.stderr)
        endpoint: Endpoint = ProcessEndpoint(slots=n_workers, hash_seed=hash_seed)
        return Pool("process", [endpoint], memory_bytes=memory_bytes)
    raise SandboxError(f"backend must be docker, process or auto, got {backend!r}")
