"""The supervisor: warms an interpreter up, forks a slot per processor from it, keeps the slots alive.

Run as `python -P -S -m sandbox.guest '<json settings>'`. It holds no secret: an environment with more in it
than an interpreter needs is thrown away by starting over without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any, NamedTuple

from sandbox.guest import child, landlock, memory, root, slot
from sandbox.guest.output import Capture
from sandbox.guest.protocol import (
    VERSION,
    Call,
    Job,
    Kind,
    ProtocolError,
    Reply,
    ResponseHeader,
    dump_job,
    dump_response,
    parse_job,
)

RUN_SOCKET = "run.sock"
CONTROL_SOCKET = "control.sock"
PACKAGES = "/usr/lib/sdpo-bench-packages"
"""Folder of the image with the packages that programs may import beside the library; the bare image has none."""
_KEPT_VARIABLES = {
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "PYTHONPATH",
    "PYTHONHASHSEED",
    "PYTHONDONTWRITEBYTECODE",
    # of an image with packages
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
}
# Constants one by one: words cut from a text become names only where they are used, at twenty pages a child.
_PRELOADED = (
    "bisect",
    "cmath",
    "collections",
    "copy",
    "datetime",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "string",
    "typing",
)
_WARM_UP = """
import re, math, collections
class Pair(object):
    def __init__(self, a, b):
        self.a = a
        self.b = b
def f(items, n=3):
    r = [x * x for x in items if x % 2 == 0]
    d = {}
    for i, x in enumerate(sorted(r)):
        d[x] = d.get(x, 0) + i
    while n > 0:
        n -= 1
    if re.search('a', 'abc'):
        return (tuple(r), d, "%d %s" % (len(r), 'x'.join(str(x) for x in r)), 1.5)
    else:
        return None
"""
_MAX_RESTARTS = 20
"""Slots that may die within a minute by other means than being recycled; more is our own fault."""


class Options(NamedTuple):
    """What the supervisor is started with."""

    socket_dir: str
    slots: int
    uid_base: int = 0
    recycle_after: int = 2000
    seccomp: bool = True
    landlock: bool = True
    owner_uid: int = 0
    """User that may connect; needs CAP_SETUID and CAP_SETGID where it is not our own."""
    image: str = ""
    """Identity of the image, reported by the status."""
    root: str = ""
    """Folder that slots and children see as `/` (`sandbox.guest.root`); needs CAP_SYS_CHROOT. Empty: no such wall."""
    lease_within_s: float = 0.0
    """Exit where nobody has taken a lease for so long: a client that was killed before it could leaves nothing.
    0: stand for everybody."""
    end_with_stdin: bool = False
    """Exit when standard input closes: nothing outlives the process that started us."""


def main() -> None:
    """Run the supervisor until it is told to end."""
    _scrub_environment()
    options = Options(**json.loads(sys.argv[1]))
    _Supervisor(options).run()


class _Supervisor:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = slot.Settings(
            uid_base=options.uid_base,
            seccomp=options.seccomp,
            landlock=options.landlock and landlock.available(),
            recycle_after=options.recycle_after,
            root=options.root,
        )
        if options.root:
            root.check(options.root)
        self._walls = slot.make_walls(self._settings)
        ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        if options.uid_base:
            os.setgroups([])
        self._runs = _listen(os.path.join(options.socket_dir, RUN_SOCKET), options.owner_uid)
        self._control = _listen(os.path.join(options.socket_dir, CONTROL_SOCKET), options.owner_uid)
        self._leases: dict[int, socket.socket] = {}
        self._slots: dict[int, int] = {}
        self._restarts: list[float] = []
        self._n_recycled = 0
        self._start = time.monotonic()
        # Tells two supervisors at the same socket apart; no secret.
        self._instance = os.urandom(8).hex()
        self._packages = _packages()
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def run(self) -> None:
        """Fork the slots, then wait: for dead slots, for control connections, for the end."""
        _warm_up()
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for index in range(self._options.slots):
            self._fork_slot(index)
        poller = select.poll()
        poller.register(wake_read, select.POLLIN)
        poller.register(self._control, select.POLLIN)
        if self._options.end_with_stdin:
            poller.register(0, select.POLLIN)
        while True:
            for fd, _ in poller.poll(self._patience_ms()):
                if fd == wake_read:
                    os.read(wake_read, 4096)
                    self._reap()
                elif fd == self._control.fileno():
                    lease = self._answer()
                    if lease is not None:
                        self._leases[lease.fileno()] = lease
                        poller.register(lease, select.POLLIN)
                elif fd == 0 or fd in self._leases:
                    os._exit(0)

    def _patience_ms(self) -> float | None:
        """How long to wait for somebody's lease, in ms; None: for ever. Exits when that is over."""
        if not self._options.lease_within_s or self._leases:
            return None
        left = self._start + self._options.lease_within_s - time.monotonic()
        if left <= 0:
            os._exit(0)
        return left * 1000 + 1

    def _fork_slot(self, index: int) -> None:
        supervisor = os.getpid()
        pid = os.fork()
        if pid:
            self._slots[pid] = index
            return
        slot.end_with(supervisor)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Our own complaints go where the supervisor's go; a child inherits /dev/null on 0, 1 and 2.
        complaints = os.fdopen(os.dup(2), "w")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            slot.serve(self._runs, index, self._settings, self._walls)
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=complaints)
            complaints.flush()
            raise
        finally:
            os._exit(1)

    def _reap(self) -> None:
        """Replace slots that ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            index = self._slots.pop(pid, None)
            if index is None:
                continue
            if status == 0:
                self._n_recycled += 1
            else:
                now = time.monotonic()
                self._restarts = [t for t in self._restarts if t > now - 60] + [now]
                if len(self._restarts) > _MAX_RESTARTS:
                    sys.exit(f"slots must stay alive, got {_MAX_RESTARTS} ended in a minute")
            self._fork_slot(index)

    def _answer(self) -> socket.socket | None:
        """Answer one control connection; return it where it is a lease to be held."""
        connection, _ = self._control.accept()
        try:
            header = slot.read_header(connection)
            if header.kind == Kind.RECYCLE:
                os._exit(0)
            if header.kind == Kind.LEASE:
                return connection
            if header.kind == Kind.STATUS:
                body = json.dumps(self._facts()).encode()
                head = ResponseHeader(Reply.STATUS, body_bytes=len(body))
                connection.settimeout(slot.HEADER_TIMEOUT_S)
                connection.sendall(dump_response(head) + body)
        except (ProtocolError, TimeoutError, ConnectionError):
            # A client that says nothing sensible is hung up on; nobody else notices.
            pass
        connection.close()
        return None

    def _facts(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "python": platform.python_version(),
            "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
            "uptime_s": round(time.monotonic() - self._start, 3),
            "image": self._options.image,
            "packages": self._packages,
            "instance": self._instance,
            "slots": self._options.slots,
            "slot_pids": sorted(self._slots),
            "memory_bytes": sum(_memory_bytes(pid) for pid in (os.getpid(), *self._slots)),
            "n_children": sum(len(slot.children_of(pid, self._proc)) for pid in self._slots),
            "recycled": self._n_recycled,
            "restarts": len(self._restarts),
            **self._settings._asdict(),
        }


def _memory_bytes(pid: int) -> int:
    """Memory of a process, its part of what it shares included; 0 where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0


def _packages() -> list[str]:
    """The packages of the image, as `name==version`."""
    folders = os.listdir(PACKAGES) if os.path.isdir(PACKAGES) else []
    names = [name.removesuffix(".dist-info") for name in folders if name.endswith(".dist-info")]
    return sorted(name.replace("-", "==") for name in names)


def _scrub_environment() -> None:
    """Start over without what an interpreter does not need: a child inherits our memory."""
    if set(os.environ) - _KEPT_VARIABLES:
        clean = {name: os.environ[name] for name in os.environ if name in _KEPT_VARIABLES}
        command = [sys.executable, "-P", "-S", "-m", "sandbox.guest", *sys.argv[1:]]
        os.execve(sys.executable, command, clean)  # noqa: S606 - our own command


def _listen(path: str, owner: int) -> socket.socket:
    """Return a listening socket that, but for us, only user `owner` can connect to.

    We have no capability to give files away or to enter other users' folders. In a folder of the owner's we
    act as the owner; in one of our own we let in the group that has the owner's number.
    """
    folder = os.path.dirname(path)
    ours = os.stat(folder).st_uid == os.getuid()
    if not ours:
        os.seteuid(owner)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    listener.bind(path)
    os.umask(before)
    if not ours:
        os.seteuid(os.getuid())
    elif owner != os.getuid():
        os.setgroups([owner])
        for name, mode in ((folder, 0o710), (path, 0o660)):
            os.chown(name, -1, owner)
            os.chmod(name, mode)
        os.setgroups([])
    listener.listen(256)
    return listener


def _warm_up() -> None:
    """Load what programs import and grow the heap once, so that children share instead of copying it."""
    _import_random()
    sys.path += [PACKAGES] if os.path.isdir(PACKAGES) else []
    for name in _PRELOADED:
        importlib.import_module(name)
    # Our own folder is no place for a program to import from.
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) in _library_paths()]
    streams = sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__
    job = dump_job(Job(("import math",), _WARM_UP, "", ((Call("f([1, 2, 3, 4], 5)"),) * 3,) * 3))
    for _ in range(3):
        read_end, write_end = os.pipe()
        capture = Capture()
        capture.install()
        os.write(write_end, job)
        child.run(parse_job(child.receive(read_end, len(job))), write_end, capture)
        os.close(read_end)
        os.close(write_end)
    sys.stdin, sys.stdout, sys.stderr = streams[:3]
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams[3:]  # type: ignore[misc]
    del sys.modules["solution"]
    child.set_stage()
    memory.freeze()


def _import_random() -> None:
    """Import `random` without its hook, which seeds every fork anew: a twentieth of a program's cost.

    So each program starts from the same state, and one that draws numbers gets the same verdict in every run.
    """
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    importlib.import_module("random").seed(0)
    os.register_at_fork = register


def _library_paths() -> set[str]:
    library = os.path.dirname(os.path.realpath(os.__file__))
    return {library, os.path.join(library, "lib-dynload"), PACKAGES}


if __name__ == "__main__":
    main()
