"""What the sandbox needs of a machine, checked one by one."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.client import open_pool
from sandbox.containers.docker_backend import engine
from sandbox.containers.image import current_image
from sandbox.guest import landlock, seccomp
from sandbox.pool.endpoint import status
from sandbox.program import SandboxError


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    ok: bool
    text: str
    needed: bool = True
    """Whether docker cannot be used without it."""


def examine() -> list[Check]:
    """Look at engine, image, kernel and a container at work, in that order."""
    checks = [*_tried(_engine), *_tried(_image)]
    if all(check.ok for check in checks if check.needed):
        checks += _tried(_container)
    return [*checks, *_kernel()]


def _tried(look: Callable[[], list[Check]]) -> list[Check]:
    try:
        return look()
    except SandboxError as error:
        return [Check(False, str(error))]


def _engine() -> list[Check]:
    with engine(timeout_s=10) as client:
        info = client.info()
    security = " ".join(info.get("SecurityOptions") or [])
    runtimes = info.get("Runtimes") or {}
    return [
        Check(True, f"engine {info.get('ServerVersion')} on {info.get('OperatingSystem')}"),
        Check("seccomp" in security, "the engine applies system-call profiles"),
        Check(
            "userns" in security,
            "the engine maps root in a container to an ordinary user (userns-remap); without it the "
            "supervisor is root, with four capabilities",
            needed=False,
        ),
        Check(
            "runsc" in runtimes, "gVisor's runsc is installed, for --backend gvisor", needed=False
        ),
        Check(bool(info.get("MemoryLimit")), "the engine limits memory"),
        Check(bool(info.get("PidsLimit")), "the engine limits processes"),
    ]


def _image() -> list[Check]:
    return [Check(True, f"image {current_image()}")]


def _container() -> list[Check]:
    with open_pool("docker", n_workers=1, own=True) as pool:
        facts = status(pool.endpoints()[0].socket_dir).facts
    layers = [name for name in ("seccomp", "landlock") if facts.get(name)]
    layers += ["a user of its own"] if facts.get("uid_base") else []
    layers += ["a root of its own"] if facts.get("root") else []
    return [Check(True, f"a container passes its canaries; each program has {', '.join(layers)}")]


def _kernel() -> list[Check]:
    machine = platform.machine()
    try:
        seccomp.program(machine)
        filtered = True
    except KeyError:
        filtered = False
    return [
        Check(filtered, f"there is a system-call table for {machine}"),
        Check(
            landlock.available(),
            f"kernel {platform.release()} has Landlock; without it a program can read more than the library",
            needed=False,
        ),
        Check(
            os.path.exists("/proc/self/schedstat"),
            "the kernel counts time spent waiting for a processor, so a busy machine times nobody out",
            needed=False,
        ),
    ]
