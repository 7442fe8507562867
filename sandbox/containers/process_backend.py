"""The guest in a local subprocess: for tests and development, with what layers an ordinary user has.

Not a wall. There is no container around it: no limit on memory but each child's own, no network namespace,
no read-only file system. The system-call filter and Landlock hold here as they do in a container.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.containers.strays import SocketFolder
from sandbox.guest.__main__ import CONTROL_SOCKET
from sandbox.pool.endpoint import wait_until_ready

WARNING = (
    "sandbox: using the process backend, which is no wall: no container, no network namespace; "
    "for programs of a model use docker"
)
UID_BASE = 21_000


class ProcessEndpoint:
    """A supervisor that this process started and that ends with it."""

    def __init__(
        self,
        *,
        slots: int,
        hash_seed: int = 0,
        recycle_after: int = 2000,
        without: frozenset[str] = frozenset(),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "process"
        self.slots = slots
        # Nothing of our environment: a child inherits the supervisor's memory.
        self._environment = {
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "PYTHONHASHSEED": str(hash_seed),
            **(environment or {}),
        }
        self._options = {
            "slots": slots,
            "uid_base": UID_BASE if "uid" not in without and _others_may_read_library() else 0,
            "seccomp": "seccomp" not in without,
            "landlock": "landlock" not in without,
            "recycle_after": recycle_after,
            "owner_uid": os.geteuid(),
            "end_with_stdin": True,
        }
        self._folder = SocketFolder()
        self.socket_dir = self._folder.path
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        options = json.dumps({"socket_dir": str(self.socket_dir), **self._options})
        self._folder.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-S", "-m", "sandbox.guest", options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,
        )
        wait_until_ready(self.socket_dir, "the process backend")

    def restart(self) -> None:
        """Start a fresh supervisor in the place of this one."""
        self._stop()
        self._start()

    def close(self) -> None:
        """End the supervisor and what it started."""
        self._stop()
        self._folder.close()

    def _stop(self) -> None:
        if self._process is None:
            return
        # The slots end with the supervisor, the children with their slots.
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        if self._process is None:
            raise ValueError(f"the supervisor must run, got none; {CONTROL_SOCKET} is closed")
        return self._process.pid


def _others_may_read_library() -> bool:
    """Whether a child with a user of its own could import from this interpreter's library."""
    if os.geteuid() != 0:
        return False
    library = Path(os.__file__).resolve()
    return all(part.stat().st_mode & 0o005 for part in library.parents) and bool(
        library.stat().st_mode & 0o004
    )
