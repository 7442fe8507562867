"""The lockdown as data: what a container may use, and the engine's options for it.

`container_options` is pure and compared with a golden file, and compose.yaml is tested to say the same: a
loosened wall is a visible difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.guest.root import ROOT

SECCOMP_PROFILE = Path(__file__).parent / "seccomp.json"
SOCKET_DIR = "/run/sandbox"
UID_BASE = 20_000
UIDS_PER_CONTAINER = 64
MAX_SLOTS = 16
"""Of a client's own container: each slot, its program and some threads must fit `Limits.pids`."""


@dataclass(frozen=True)
class Limits:
    """What one container may use."""

    memory_bytes: int = 2 << 30
    """Of everything in the container; swap is none."""
    cpus: float = 2.0
    """Processors' worth of time."""
    pids: int = 64
    """Processes and threads, the supervisor's included."""
    files: int = 256
    """Open descriptors of one process."""


GVISOR_LIMITS = Limits(pids=1024)
"""gVisor's own threads count, too: with 64 it ended at its first fork. Inside it counts no threads."""


def container_options(limits: Limits) -> dict[str, Any]:
    """Return the options a container is created with, by their names in the Docker SDK.

    The supervisor is root inside with four capabilities: to give each child a user and a root of its own and
    to kill it.
    `--user` together with `cap_add` would leave none effective.
    """
    return {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["SETUID", "SETGID", "KILL", "SYS_CHROOT"],
        "security_opt": ["no-new-privileges", f"seccomp={SECCOMP_PROFILE.name}"],
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "nano_cpus": int(limits.cpus * 1e9),
        # No /dev/shm; and, as there is no tmpfs either, no path that a program could write to.
        "ipc_mode": "none",
        "ulimits": {"core": 0, "nofile": limits.files},
        # The default driver would write what a program prints to the host's disk.
        "log_driver": "none",
        "init": True,
        "restart": "always",
    }


def guest_options(
    *,
    slots: int,
    container: int,
    owner_uid: int,
    image: str = "",
    without: frozenset[str] = frozenset(),
    lease_within_s: float = 0.0,
) -> str:
    """Return the supervisor's settings, as the one argument of the container's command.

    Args:
        slots: programs at a time.
        container: number of the container; no two use the same users.
        owner_uid: user on the host that may connect.
        image: identity of the image, reported back.
        without: layers to leave out: `uid`, `chroot`, `seccomp`, `landlock`; for measuring what each is for.
        lease_within_s: the supervisor ends where nobody takes a lease for so long; 0: never.
    """
    if not 0 < slots < UIDS_PER_CONTAINER:
        raise ValueError(f"slots must lie between 1 and {UIDS_PER_CONTAINER - 1}, got {slots}")
    settings = {
        "socket_dir": SOCKET_DIR,
        "slots": slots,
        "uid_base": 0 if "uid" in without else UID_BASE + UIDS_PER_CONTAINER * container,
        "seccomp": "seccomp" not in without,
        "landlock": "landlock" not in without,
        "root": "" if "chroot" in without else ROOT,
        "lease_within_s": lease_within_s,
        "owner_uid": owner_uid,
        "image": image,
    }
    return json.dumps(settings)
