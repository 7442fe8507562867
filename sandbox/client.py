"""The one way into the sandbox for the rest of the project."""

from __future__ import annotations

import difflib
import functools
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sandbox.containers import shared
from sandbox.containers.process_backend import WARNING, ProcessEndpoint
from sandbox.http.address import is_url, parse_url
from sandbox.pool.endpoint import Attached, described
from sandbox.pool.pool import Pool
from sandbox.program import Execution, Program, SandboxError

BACKENDS = ("auto", "docker", "gvisor", "process")


def check_backend(backend: str, allowed: Sequence[str] = BACKENDS) -> None:
    """Check the name of a backend, or the form of a server's address, before anything is opened.

    Raises:
        SandboxError: it is neither.
    """
    if is_url(backend):
        parse_url(backend)
    elif backend not in allowed:
        close = difflib.get_close_matches(backend, allowed, n=1)
        meant = f"http://{backend}" if ":" in backend else close[0] if close else ""
        advice = f"did you mean {meant!r}?" if meant else "name one of these"
        raise SandboxError(
            f"the sandbox must be one of {', '.join(allowed)}, or http://HOST:PORT of "
            f"`sdpo-bench sandbox serve`, got {backend!r}; {advice}"
        )


class Sandbox(Protocol):
    """Something that judges programs; a context manager that closes what it started."""

    @property
    def name(self) -> str:
        """Backend, image and its packages, as stored with a run: e.g. `docker sha256:...` or `process`."""
        ...

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Judge programs; one result each, in order.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
        """
        ...

    def printed(self, scripts: Sequence[str], *, timeout_s: float) -> list[str | None]:
        """Run whole programs that read nothing; what each printed, None of one that did not end by itself.

        Nothing is judged: what comes back is the program's own word, at most `MAX_PRINTED` bytes of it.

        Raises:
            SandboxError: the sandbox cannot be had or fails its own checks.
        """
        ...

    def close(self) -> None:
        """Stop and remove whatever this client started."""
        ...

    def __enter__(self) -> Sandbox: ...

    def __exit__(self, *exc: object) -> None: ...


def open_sandbox(backend: str = "auto", **options: Any) -> Sandbox:
    """Open a sandbox on this machine, as `open_pool` does, or that of a server at `http://HOST:PORT`.

    Raises:
        SandboxError: it cannot be had, or an option of `open_pool` is given that the server has settled.
    """
    check_backend(backend)
    if not is_url(backend):
        return open_pool(backend, **options)
    if options:
        raise SandboxError(
            f"a server's sandbox must be taken as it is, got {', '.join(options)}; give these to "
            "`sdpo-bench sandbox serve`"
        )
    # Here, not above: whoever uses sockets alone needs no package of others.
    from sandbox.http.remote import Remote

    return Remote(backend)


def open_pool(
    backend: str = "auto",
    *,
    n_workers: int = 2,
    memory_bytes: int = 512 << 20,
    hash_seed: int = 0,
    without: frozenset[str] = frozenset(),
    environment: Mapping[str, str] | None = None,
    own: bool = False,
) -> Pool:
    """Open a sandbox on this machine: `docker`, `gvisor`, `process`, or `auto`.

    `docker` uses the containers of `sandbox up` or Compose where they run, else containers of its own; `auto`
    takes docker where it answers, else the process backend, and says so in one line.

    Args:
        backend: which one.
        n_workers: programs that run at the same time, where the containers are our own.
        memory_bytes: address space that one program may have.
        hash_seed: Python's hash seed inside, which decides the order of sets of strings.
        without: layers to leave out, for measuring what each is for; never for real use.
        environment: more variables for the supervisor, which no program may come to see.
        own: start containers even where some stand ready.

    Raises:
        SandboxError: no Docker engine, image not built, or the guest does not start.
    """
    if backend not in BACKENDS:
        raise SandboxError(
            f"the sandbox must be one of {', '.join(BACKENDS)}, got {backend!r}; name one of these"
        )
    if n_workers < 1:
        raise SandboxError(f"n_workers must be at least 1, got {n_workers}")
    settings = {"hash_seed": hash_seed, "without": without, "environment": environment}
    own = own or bool(without or environment)
    if backend == "process":
        _warn()
        return _process(n_workers, memory_bytes, settings)
    try:
        return _docker(backend, n_workers, memory_bytes, settings, own=own)
    except SandboxError as error:
        if backend != "auto":
            raise
        print(f"sandbox: {error}", file=sys.stderr)
        print(WARNING, file=sys.stderr)
        return _process(n_workers, memory_bytes, settings)


@functools.cache
def _warn() -> None:
    """Once a process: a program that opens one sandbox after another need not repeat itself."""
    print(WARNING, file=sys.stderr)


def _process(n_workers: int, memory_bytes: int, settings: dict[str, Any]) -> Pool:
    endpoint = ProcessEndpoint(slots=n_workers, **settings)
    return Pool("process", [endpoint], memory_bytes=memory_bytes)


def _docker(
    backend: str, n_workers: int, memory_bytes: int, settings: dict[str, Any], *, own: bool
) -> Pool:
    if backend != "gvisor" and not own:
        running = shared.sockets(hash_seed=settings["hash_seed"])
        if running:
            attached = [Attached(found.socket_dir) for found in running]
            name = f"docker {described(running[0].facts)}"
            return Pool(name, attached, memory_bytes=memory_bytes)
    # Here, not above: whoever only connects to sockets needs no Docker SDK.
    from sandbox.containers.docker_backend import DockerEndpoint
    from sandbox.containers.image import current_image
    from sandbox.containers.limits import GVISOR_LIMITS, MAX_SLOTS

    of_runtime: dict[str, Any] = (
        {"limits": GVISOR_LIMITS, "runtime": "runsc"} if backend == "gvisor" else {}
    )
    image = current_image()
    n_containers = max(min(n_workers, 2), math.ceil(n_workers / MAX_SLOTS))
    endpoints: list[DockerEndpoint] = []
    try:
        for number in range(n_containers):
            slots = (n_workers + n_containers - 1 - number) // n_containers
            endpoints.append(
                DockerEndpoint(
                    slots=slots,
                    number=number,
                    image=image,
                    **of_runtime,
                    **settings,
                )
            )
    except BaseException:
        for endpoint in endpoints:
            endpoint.close()
        raise
    name = "gvisor" if backend == "gvisor" else "docker"
    return Pool(f"{name} {described(endpoints[0].facts)}", endpoints, memory_bytes=memory_bytes)
