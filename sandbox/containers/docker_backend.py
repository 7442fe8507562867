"""Containers of the sandbox, through the Docker engine; the only importer of `docker`.

Whoever may create containers is root on the host. So this runs where a person who owns the machine started
it, and never in a container: a mounted docker.sock is root on the host.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import docker
import docker.errors
import docker.types
import requests.exceptions

from sandbox.containers.limits import (
    SECCOMP_PROFILE,
    SOCKET_DIR,
    Limits,
    container_options,
    guest_options,
)
from sandbox.containers.strays import SocketFolder, is_gone, remove_folders, this_process
from sandbox.guest.__main__ import CONTROL_SOCKET, RUN_SOCKET
from sandbox.guest.protocol import Kind
from sandbox.pool.endpoint import ask, wait_until_ready
from sandbox.program import SandboxError

IMAGE = "sdpo-bench-sandbox"
LABEL = "sdpo-bench.sandbox"
OWNER_LABEL = "sdpo-bench.owner"
"""Holds the process that a container belongs to, so that one which was left behind is known."""
LEASE_WITHIN_S = 30.0
"""Time in which a client takes the lease of a container that it starts; longer than it waits for an answer."""
Engine: TypeAlias = Any
"""A `docker.DockerClient`: docker has no types."""
Container: TypeAlias = Any
"""A `docker.models.containers.Container`."""
Image: TypeAlias = Any
"""A `docker.models.images.Image`."""
SOURCE_LABEL = "sdpo-bench.guest"
"""Holds the digest of the guest's source, so that a stale image is noticed."""
_NO_ENGINE = "a Docker engine must answer, got {error}; start one, or use the process backend, which is no wall"


@contextlib.contextmanager
def engine(*, timeout_s: int = 60) -> Iterator[Any]:
    """A client of the Docker engine (or of Podman's compatible socket, by DOCKER_HOST).

    Raises:
        SandboxError: no engine answers, or it refuses a request made through this client.
    """
    try:
        client = docker.from_env(timeout=timeout_s)
    except docker.errors.DockerException as error:
        raise SandboxError(_NO_ENGINE.format(error=_one_line(error))) from error
    try:
        client.ping()
        yield client
    except docker.errors.BuildError as error:
        raise SandboxError(f"the image must build, got {_one_line(error)}") from error
    except docker.errors.APIError as error:
        raise SandboxError(f"the Docker engine must do as asked, got {_one_line(error)}") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise SandboxError(_NO_ENGINE.format(error=_one_line(error))) from error
    finally:
        client.close()


def answers() -> bool:
    """Whether a Docker engine answers here."""
    try:
        with engine(timeout_s=10):
            return True
    except SandboxError:
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def find_image(client: Engine, name: str) -> Image | None:
    """Return an image of the engine, or None where it has none of that name."""
    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None


def identity(client: Engine, image: str) -> str:
    """Return an image's id and the guest in it, as its supervisors report it: `sha256:... guest 7eff84aec295`."""
    found = find_image(client, image)
    guest = found.labels.get(SOURCE_LABEL) if found is not None else None
    return f"{image} guest {guest[:12]}" if guest else image


def pull_image(client: Engine, name: str) -> Image | None:
    """Return an image from a registry, or None where none can be reached."""
    try:
        return client.images.pull(name)
    except (docker.errors.APIError, requests.exceptions.RequestException):
        return None


def build_context(
    entries: Iterable[tuple[str, Path]],
    change: Callable[[tarfile.TarInfo], tarfile.TarInfo] | None = None,
) -> io.BytesIO:
    """Return files and folders, each under its name, as the engine takes what an image is built of."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, file in entries:
            archive.add(file, arcname=name, filter=change)
    buffer.seek(0)
    return buffer


def _create(
    client: Engine,
    *,
    image: str,
    socket_dir: Path,
    limits: Limits,
    slots: int,
    number: int,
    name: str | None = None,
    without: frozenset[str] = frozenset(),
    hash_seed: int = 0,
    environment: Mapping[str, str] | None = None,
    runtime: str | None = None,
) -> Container:
    """Start one container under the policy's options.

    With a name it stands, and is restarted for ever; without one it goes with this client.
    """
    options = _sdk_options(client, limits)
    restart = options.pop("restart")
    if name is None:
        options |= {"auto_remove": True, "labels": {LABEL: "owned", OWNER_LABEL: this_process()}}
    else:
        options |= {"restart_policy": {"Name": restart}, "labels": {LABEL: "up"}}
    command = guest_options(
        slots=slots,
        container=number,
        owner_uid=os.geteuid(),
        image=identity(client, image),
        without=without,
        lease_within_s=LEASE_WITHIN_S if name is None else 0.0,
    )
    return client.containers.run(
        image,
        [command],
        detach=True,
        name=name,
        environment={"PYTHONHASHSEED": str(hash_seed), **(environment or {})},
        volumes={str(socket_dir): {"bind": SOCKET_DIR, "mode": "rw"}},
        runtime=runtime,
        **options,
    )


def _sdk_options(client: Engine, limits: Limits) -> dict[str, Any]:
    """The policy's options, with what the SDK has types of its own for."""
    options = container_options(limits)
    # Docker's interface takes the profile itself, Podman's the path to it.
    profile = str(SECCOMP_PROFILE) if _is_podman(client) else SECCOMP_PROFILE.read_text()
    options["ulimits"] = [
        docker.types.Ulimit(name=key, soft=value, hard=value)
        for key, value in options["ulimits"].items()
    ]
    options["security_opt"] = [
        f"seccomp={profile}" if entry.startswith("seccomp=") else entry
        for entry in options["security_opt"]
    ]
    options["log_config"] = docker.types.LogConfig(type=options.pop("log_driver"))
    return options


def _is_podman(client: Engine) -> bool:
    parts = client.version().get("Components") or []
    return any("podman" in str(part.get("Name")).lower() for part in parts)


@contextlib.contextmanager
def plain_container(
    client: Engine, image: str, script: str = "import signal; signal.pause()"
) -> Iterator[Any]:
    """A container under the same options that runs a script of ours, or waits; for measuring only."""
    options = _sdk_options(client, Limits())
    del options["restart"]
    container = client.containers.run(
        image, ["-I", "-c", script], entrypoint=["python3"], detach=True, **options
    )
    try:
        yield container
    finally:
        container.remove(force=True)


class DockerEndpoint:
    """A container that this client started and that ends with it."""

    def __init__(
        self, *, slots: int, number: int, image: str, limits: Limits | None = None, **options: Any
    ) -> None:
        """Start it; `options` are `without`, `hash_seed`, `environment` and `runtime` (e.g. `runsc`)."""
        self.slots = slots
        self._folder = SocketFolder()
        self.socket_dir = self._folder.path
        self._container: Callable[[Engine], Container] = functools.partial(
            _create,
            image=image,
            socket_dir=self.socket_dir,
            limits=limits or Limits(),
            slots=slots,
            number=number,
            **options,
        )
        self._lease: socket.socket | None = None
        self.container_id = ""
        self.facts: dict[str, Any] = {}
        """What the supervisor said of itself when it had started."""
        self.name = f"docker container {number}"
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._folder.clear()
        with engine() as client:
            remove_strays(client)
            self.container_id = self._container(client).id
        self.facts = wait_until_ready(self.socket_dir, "the sandbox's container").facts
        # Held open: when this process is gone, however it went, the container ends.
        try:
            self._lease = ask(self.socket_dir, Kind.LEASE)
        except OSError as error:
            raise SandboxError(
                f"a container must wait {LEASE_WITHIN_S:g} s for its client, got {error!r}; try again"
            ) from error

    def restart(self) -> None:
        """Start a fresh container in the place of this one."""
        self._stop()
        self._start()

    def close(self) -> None:
        """Remove the container."""
        self._stop()
        self._folder.close()

    def _stop(self) -> None:
        if self._lease is not None:
            self._lease.close()
            self._lease = None
        if self.container_id:
            with engine() as client:
                # Gone already where it removed itself when it ended.
                with contextlib.suppress(docker.errors.NotFound):
                    _remove(client.containers.get(self.container_id))
            self.container_id = ""


UP_NAME = "sdpo-bench-sandbox-"


def bring_up(folder: Path, *, containers: int, slots: int, image: str, limits: Limits) -> list[str]:
    """Start standing containers and wait until they answer; return their names."""
    names = [f"{UP_NAME}{number}" for number in range(containers)]
    with engine() as client:
        for number, name in enumerate(names):
            socket_dir = folder / str(number)
            socket_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(docker.errors.NotFound):
                client.containers.get(name).remove(force=True)
            _create(
                client,
                image=image,
                socket_dir=socket_dir,
                limits=limits,
                slots=slots,
                number=number,
                name=name,
            )
    for number, name in enumerate(names):
        wait_until_ready(folder / str(number), name)
    return names


def take_down() -> list[str]:
    """Remove the standing containers, what killed clients left, and their folders; return the containers' names."""
    with engine() as client:
        found = client.containers.list(all=True, filters={"label": f"{LABEL}=up"})
        for container in found:
            _remove(container)
            _remove_socket_folder(container)
        strays = remove_strays(client)
    remove_folders()
    return sorted((*(container.name for container in found), *strays))


def remove_strays(client: Engine) -> list[str]:
    """Remove the containers of clients that are gone; return their names."""
    # Sparse: what the list itself says, without another question for each.
    found = client.containers.list(all=True, filters={"label": f"{LABEL}=owned"}, sparse=True)
    strays = [
        container for container in found if is_gone(container.attrs["Labels"].get(OWNER_LABEL, ""))
    ]
    for container in strays:
        _remove(container)
    return [container.attrs["Names"][0].lstrip("/") for container in strays]


def _remove_socket_folder(container: Container) -> None:
    """Remove what a standing container leaves on the host: its two sockets, and their folder if it is then empty."""
    for mount in container.attrs["Mounts"]:
        if mount["Destination"] == SOCKET_DIR:
            folder = Path(mount["Source"])
            with contextlib.suppress(OSError):
                for name in (RUN_SOCKET, CONTROL_SOCKET):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()


def _remove(container: Container) -> None:
    """Remove a container; one that is gone, or goes just now, is as good."""
    try:
        container.remove(force=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if "already in progress" not in str(error):
            raise
