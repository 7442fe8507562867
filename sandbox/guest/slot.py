"""One slot: takes a connection, forks a child for it, waits, says how the child ended.

A slot serves one execution at a time and holds nothing of it: the child reads its own job, and what the
child wrote passes through a buffer that is wiped before the next fork. So no program finds another's code
or values in the memory it inherits.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import NamedTuple

from sandbox.guest import child, landlock, seccomp
from sandbox.guest.output import Capture
from sandbox.guest.protocol import (
    MAX_BODY_BYTES,
    REQUEST_BYTES,
    How,
    Kind,
    ProtocolError,
    Reply,
    RequestHeader,
    ResponseHeader,
    dump_response,
    parse_request,
)

HEADER_TIMEOUT_S = 1.0
"""A client sends its header with the connection: one that does not is cut off."""
SEND_TIMEOUT_S = 10.0
STARTED_AFTER_S = 0.05
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MIN_PIPE_BYTES = 65_536
_FIONREAD = 0x541B
_CPUCLOCK_SCHED = 2
"""In a clock's number, beside the one of its process: all of its threads' time, in nanoseconds."""
_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Settings(NamedTuple):
    """What every slot is started with."""

    uid_base: int
    """User of slot 0; slot n is uid_base + n. 0: children keep the supervisor's user."""
    seccomp: bool
    landlock: bool
    recycle_after: int
    """Executions after which a slot is replaced by a fresh fork of the zygote."""
    root: str
    """Folder that slots and children see as `/`; empty: they see all that the supervisor sees."""


def make_walls(settings: Settings) -> child.Layers:
    """Make ready what confines every child, once, so that no slot holds a copy; a slot adds whose child it is.

    Raises:
        OSError: this machine has it not.
    """
    return child.Layers(
        uid=0,
        seccomp=seccomp.Filter() if settings.seccomp else None,
        landlock=landlock.Ruleset() if settings.landlock else None,
        threads=0,
    )


def end_with(supervisor: int) -> None:
    """Let the kernel end this process, just forked, with its supervisor; end at once where that is gone already.

    One that stayed would keep the listening socket, and who waits in its queue would never hear of the end.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(1)


def serve(listener: socket.socket, index: int, settings: Settings, walls: child.Layers) -> None:
    """Serve connections until it is time to be replaced."""
    slot = _Slot(index, settings, walls)
    child.leave_room(_n_frames())
    for _ in range(settings.recycle_after):
        connection, _ = listener.accept()
        with connection:
            slot.handle(connection)


def _n_frames() -> int:
    """Frames from the caller's down to the first one."""
    n, frame = 0, sys._getframe(1)
    while frame.f_back is not None:
        n, frame = n + 1, frame.f_back
    return n


class _Slot:
    """What lives as long as the slot's process."""

    def __init__(self, index: int, settings: Settings, walls: child.Layers) -> None:
        uid = settings.uid_base + index if settings.uid_base else 0
        threads = child.MAX_THREADS if _can_limit(resource.RLIMIT_NPROC) else 0
        self._layers = walls._replace(uid=uid, threads=threads)
        # Installed here and not in the child: there the old streams' end would cost as much as the rest.
        self._capture = Capture()
        self._capture.install()
        # What a slot needs beyond its own root; a child closes these before it runs a program.
        self._proc, self._dev = os.open("/proc", _FOLDER), os.open("/dev", _FOLDER)
        self._oom = _open_oom_file()
        self._n_oom = _oom_kills(self._oom)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        # The kernel shall take a child first, and rather this slot than the supervisor.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        limits = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_NOFILE: 64,
        }
        for name, value in limits.items():
            # Message queues are refused by the filter as well; all other limits must hold or we do not start.
            if name != resource.RLIMIT_MSGQUEUE or _can_limit(name):
                resource.setrlimit(name, (value, value))
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if settings.root:
            os.chroot(settings.root)
            os.chdir("/")

    def handle(self, connection: socket.socket) -> None:
        """Answer one connection; a client that breaks the protocol or is gone costs nobody else."""
        try:
            header = read_header(connection)
            if header.kind != Kind.RUN:
                raise ProtocolError(f"only runs are served here, got {header.kind.name}")
            self._run(header, connection)
        except (ProtocolError, TimeoutError, ConnectionError):
            return

    def _run(self, header: RequestHeader, connection: socket.socket) -> None:
        result, write_end = _pipe()
        null = os.open("null", os.O_RDWR, dir_fd=self._dev)
        steps = self._layers.steps(header, result=write_end, null=null)
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child.become(connection.fileno(), header.job_bytes, steps, self._capture)
        os.close(null)
        os.close(write_end)
        try:
            end = _wait(pid, header, start, connection, self._proc)
            wall = time.monotonic() - start
            if self._layers.seccomp is None:
                # With the filter a child cannot have children.
                _end_survivors(self._proc)
            how, code = self._how(end)
            # As large as what is there: a buffer for the largest body would be copied by every fork.
            body = bytearray(min(_readable_bytes(result), MAX_BODY_BYTES))
            n = os.readv(result, [body]) if body else 0
        finally:
            os.close(result)
        ended = ResponseHeader(
            Reply.ENDED,
            how,
            code,
            n,
            int((end.usage.ru_utime + end.usage.ru_stime) * 1e6),
            int(wall * 1e6),
            end.usage.ru_maxrss * 1024,
        )
        try:
            frames = dump_response(ended) if end.started else _STARTED + dump_response(ended)
            connection.settimeout(SEND_TIMEOUT_S)
            with memoryview(body) as view:
                _send_all(connection, frames, view[:n])
        finally:
            # What one program returned must not be in the memory of the next one.
            body[:] = bytes(len(body))

    def _how(self, end: _End) -> tuple[How, int]:
        """Tell the causes apart by evidence that the child cannot write."""
        if end.killed is not None:
            return end.killed, 0
        if os.WIFEXITED(end.status):
            return How.EXITED, os.WEXITSTATUS(end.status)
        number = os.WTERMSIG(end.status)
        if number == signal.SIGXCPU:
            return How.DEADLINE, 0
        if number == signal.SIGKILL:
            before, self._n_oom = self._n_oom, _oom_kills(self._oom)
            if self._n_oom > before:
                return How.OOM, number
        return How.SIGNALED, number


def _can_limit(name: int) -> bool:
    """Whether this kernel has the limit: Linux has them all, gVisor refuses even to set what is set."""
    try:
        resource.setrlimit(name, resource.getrlimit(name))
    except ValueError:
        return False
    return True


def read_header(connection: socket.socket) -> RequestHeader:
    """Read a request header within its time-out.

    Raises:
        ProtocolError: the client closed too early or sent something else.
        TimeoutError: the client sent too little for too long.
    """
    data = b""
    deadline = time.monotonic() + HEADER_TIMEOUT_S
    while len(data) < REQUEST_BYTES:
        try:
            part = connection.recv(REQUEST_BYTES - len(data), socket.MSG_DONTWAIT)
        except BlockingIOError:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([connection], [], [], left)[0]:
                raise TimeoutError from None
            continue
        if not part:
            raise ProtocolError(f"a request must have a whole header, got {len(data)} bytes")
        data += part
    return parse_request(data)


def _pipe() -> tuple[int, int]:
    """Return a pipe that holds a whole body, so that a child never waits for a reader."""
    read_end, write_end = os.pipe()
    try:
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, MAX_BODY_BYTES)
    except OSError as error:
        # The user's share of pipe memory is spent: large values are refused, ordinary ones fit.
        if fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ) < _MIN_PIPE_BYTES:
            raise OSError(error.errno, "a pipe must hold 64 KiB") from error
    return read_end, write_end


def _send_started(connection: socket.socket) -> bool:
    """Tell the client that its program runs, if it is still there; return True."""
    with contextlib.suppress(OSError):
        connection.send(_STARTED, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    return True


_STARTED = dump_response(ResponseHeader(Reply.STARTED))


def _send_all(connection: socket.socket, frames: bytes, body: memoryview) -> None:
    """Send frames and body, in one call where they fit; the body is never copied."""
    sent = connection.sendmsg([frames, body])
    if sent < len(frames):
        connection.sendall(frames[sent:])
    connection.sendall(body[max(0, sent - len(frames)) :])


class _End(NamedTuple):
    """What the slot saw of a child's end."""

    started: bool
    """Whether the client was told STARTED."""
    killed: How | None
    """Why we killed it; None where it ended by itself."""
    status: int
    usage: resource.struct_rusage


def _wait(
    pid: int, header: RequestHeader, start: float, connection: socket.socket, proc: int
) -> _End:
    """Wait for the child until its time is up.

    Time that the child spent waiting for a processor is not the child's: on a busy machine an honest
    program gets as much of the processor as on an idle one, within `hard_ms`. Threads beside the first one
    count with the time that they used. The client, whose own deadline begins with STARTED, is told so only
    where the end does not come at once: it saves a wake-up.
    """
    allowed, hard = header.timeout_ms / 1000, header.hard_ms / 1000
    deadline = start + min(allowed, STARTED_AFTER_S)
    started = False
    while True:
        now = time.monotonic()
        if now >= deadline:
            if not started:
                started = _send_started(connection)
            used = max(now - start - _run_delay(pid, proc), _processor_time(pid))
            if used >= allowed or now - start >= hard:
                why = How.DEADLINE if used >= allowed else How.STARVED
                killed = why if _kill(pid) else None
                _, status, usage = os.wait4(pid, 0)
                return _End(started, killed, status, usage)
            deadline = min(start + hard, now + max(allowed - used, 0.002))
        signal.sigtimedwait((signal.SIGCHLD,), max(0.0, deadline - now))
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return _End(started, None, status, usage)


def _kill(pid: int) -> bool:
    """Kill a child; say whether it was still there to be killed."""
    waited = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if waited is not None:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def _run_delay(pid: int, proc: int) -> float:
    """Seconds that a process was ready to run and had to wait for a processor."""
    try:
        return int(_read(f"{pid}/schedstat", proc).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _processor_time(pid: int) -> float:
    """Seconds of processor time that all threads of a process have used; 0 where the kernel does not say."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def _read(path: str, folder: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(fd, 65_536)
    finally:
        os.close(fd)


def _end_survivors(proc: int) -> None:
    """Kill what the child left running; orphans are handed to this process (child subreaper)."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for pid in children_of(os.getpid(), proc):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(-1, 0)
        except ChildProcessError:
            return


def children_of(pid: int, proc: int) -> list[int]:
    """Processes whose parent is `pid`, by the open folder /proc; none where the kernel does not say."""
    try:
        return [int(child_pid) for child_pid in _read(f"{pid}/task/{pid}/children", proc).split()]
    except OSError:
        return []


def _open_oom_file() -> int:
    """Open what counts the out-of-memory kills of this cgroup; -1 where there is none."""
    for path in _OOM_FILES:
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return -1


def _oom_kills(fd: int) -> int:
    """Out-of-memory kills that this cgroup has counted."""
    if fd < 0:
        return 0
    fields = dict(line.split() for line in os.pread(fd, 4096, 0).splitlines())
    return int(fields.get(b"oom_kill", 0))


def _readable_bytes(fd: int) -> int:
    size = array.array("i", [0])
    fcntl.ioctl(fd, _FIONREAD, size)
    return size[0]
