"""Containers that several clients share: those of `sandbox up` and of Compose.

A folder holds one subfolder per container, with its sockets. Who may enter the folder may use the sandbox;
that gives no access to the Docker engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.guest.__main__ import CONTROL_SOCKET
from sandbox.pool.endpoint import status

DIRECTORY_VARIABLE = "SDPO_BENCH_SANDBOX_DIR"


def directory() -> Path:
    """Return the folder: SDPO_BENCH_SANDBOX_DIR, else one in the user's runtime folder."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "sdpo-bench"
    if os.geteuid() == 0:
        return Path("/run/sdpo-bench")
    return Path.home() / ".cache" / "sdpo-bench" / "sandbox"


@dataclass(frozen=True)
class Standing:
    """One container that answers."""

    socket_dir: Path
    facts: dict[str, Any]


def sockets(*, hash_seed: int | None = None) -> list[Standing]:
    """Return the containers that answer, with the given hash seed where one is given."""
    found = []
    for control in sorted(directory().glob(f"*/{CONTROL_SOCKET}")):
        try:
            if control.parent.stat().st_uid not in (0, os.geteuid()):
                # Somebody else's folder in a shared place: it could answer what it likes.
                continue
            facts = status(control.parent).facts
        except (OSError, ValueError):
            # Nobody answers, or the folder went away just now.
            continue
        if hash_seed is None or facts.get("hash_seed") == str(hash_seed):
            found.append(Standing(control.parent, facts))
    return found
