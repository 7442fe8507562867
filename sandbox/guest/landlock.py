"""What a child may open: Python's library and a few devices, read-only, and not /proc.

Landlock needs no privilege. It also keeps the child from tracing processes outside, where the kernel is new
enough from signalling them and from abstract sockets, and it denies TCP.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Access rights known to each version of the interface: rights that are handled and not granted are denied.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READABLE = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
    # of the children's own root
    "/usr/dev",
)


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def readable_paths() -> Sequence[str]:
    """What a child may read: the standard library of this interpreter and the system's libraries."""
    library = os.path.dirname(os.path.realpath(os.__file__))
    return (library, *(path for path in _READABLE if os.path.exists(path)))


class Ruleset:
    """A ruleset made ready before the fork, so that a child enters it with one system call."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.version = self._libc.syscall(_CREATE_RULESET, None, 0, 1)
        if self.version < 1:
            raise OSError(errno.ENOSYS, "this kernel has no Landlock")
        rights = (1 << _FS_RIGHTS.get(self.version, 16)) - 1
        attr = _RulesetAttr(rights, 3 if self.version >= 4 else 0, 3 if self.version >= 6 else 0)
        size = 24 if self.version >= 6 else 16 if self.version >= 4 else 8
        fd = self._call(_CREATE_RULESET, ctypes.byref(attr), size, 0)
        # Out of the way of the low descriptors that a child gives a meaning to.
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(fd)
        for path in readable_paths():
            self._allow(path)

    def _allow(self, path: str) -> None:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
            rule = _PathBeneath(rights, fd)
            self._call(_ADD_RULE, self.fd, 1, ctypes.byref(rule), 0)
        finally:
            os.close(fd)

    def restrict(self) -> None:
        """Put this process under the rules for good.

        Raises:
            OSError: the kernel refuses.
        """
        self._call(_RESTRICT_SELF, self.fd, 0)

    def _call(self, number: int, *arguments: object) -> int:
        result: int = self._libc.syscall(number, *arguments)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(
                code, f"the kernel must accept Landlock call {number}: {os.strerror(code)}"
            )
        return result


def available() -> bool:
    """Whether this kernel has Landlock and lets us use it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.close(Ruleset().fd)
    except OSError:
        return False
    return True
