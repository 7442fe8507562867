"""Leftovers of a killed client: its folder of sockets, and its own containers.

A folder is locked for as long as its client lives, and a container says whose it is; so whoever comes next can
tell what nobody will come back for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from pathlib import Path

from sandbox.program import SandboxError

_PREFIX = "sdpo-socks-"


class SocketFolder:
    """A fresh folder for sockets; on the host, nobody else comes near it."""

    def __init__(self) -> None:
        """Make the folder, and remove those of clients that are gone.

        Raises:
            SandboxError: the folder for temporary files takes none.
        """
        remove_folders()
        try:
            self.path, self._lock = _locked_folder()
        except OSError as error:
            raise SandboxError(
                f"the folder for temporary files must take one more, got {error.strerror}: "
                f"{error.filename}; make room, or name another in TMPDIR"
            ) from error

    def clear(self) -> None:
        """Remove the sockets of a supervisor that is gone.

        Raises:
            SandboxError: the folder itself is gone.
        """
        try:
            for socket_file in self.path.iterdir():
                socket_file.unlink()
        except OSError as error:
            raise SandboxError(
                f"the folder of the sandbox's sockets must stay while it is open, got {error.strerror}: "
                f"{self.path}; open the sandbox again, and see what cleans {self.path.parent}"
            ) from error

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked_folder() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # somebody took it for a stray before it was open
        # A file system without locks: then nobody takes the folder for a stray, nor removes one.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)  # somebody took it for a stray before it was locked


def remove_folders() -> int:
    """Remove this user's socket folders whose clients are gone; return how many."""
    n = 0
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                    n += 1
            finally:
                os.close(lock)
    return n


def this_process() -> str:
    """Say who we are: machine, its start, space of process numbers, number, and the process' start."""
    return " ".join((*_machine(), str(os.getpid()), _started(os.getpid())))


def is_gone(owner: str) -> bool:
    """Whether the process that `this_process` named has ended; False where that cannot be known from here."""
    machine, boot, space, pid, started = (*owner.split(), *[""] * 5)[:5]
    if machine != _machine()[0] or not pid.isdigit():
        return False
    if boot != _machine()[1]:
        return True
    return space == _machine()[2] and _started(int(pid)) != started


def _machine() -> tuple[str, str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node() or "-", boot, os.readlink("/proc/self/ns/pid")


def _started(pid: int) -> str:
    """When a process was started, in ticks since the machine was; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
