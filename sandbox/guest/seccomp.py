"""The child's system-call filter, as data and as the BPF program made of it.

An allow-list on top of the container's own profile: what a Python program computes with. Not in it, so
refused with EPERM: new processes, signals to anyone, sockets but a pair with itself, shared memory,
message queues, io_uring, bpf, ptrace, namespaces, every call that changes a file or a limit.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

# name: (x86_64, aarch64); None where the architecture has no such call.
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "write": (1, 64),
    "read": (0, 63),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mprotect": (10, 226),
    "futex": (202, 98),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "lseek": (8, 62),
    "getdents64": (217, 61),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "exit_group": (231, 94),
    "exit": (60, 93),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "statx": (332, 291),
    "fstatfs": (138, 44),
    "getcwd": (79, 17),
    "fadvise64": (221, 223),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "eventfd2": (290, 19),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "recvfrom": (45, 207),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "alarm": (37, None),
    "pause": (34, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "restart_syscall": (219, 128),
    "rt_sigpending": (127, 136),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "getcpu": (309, 168),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getpgrp": (111, None),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "arch_prctl": (158, None),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
}
_OPEN = (2, None)
_OPENAT = (257, 56)
_IOCTL = (16, 29)
_FCNTL = (72, 25)
_PRCTL = (157, 167)
_PRLIMIT64 = (302, 261)
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_SOCKETPAIR = (53, 199)
_SENDTO = (44, 206)
_OF_A_PROCESS = ((204, 123), (121, 155), (124, 156))
"""sched_getaffinity, getpgid, getsid: the first argument says of which process."""
_GETPRIORITY = (140, 141)
_CLOCKS = ((228, 113), (229, 114), (230, 115))
"""clock_gettime, clock_getres, clock_nanosleep."""
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LD_W_ABS, _JA, _JEQ, _JGE, _JSET, _RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARGS = 0, 4, 16
_INSTRUCTION = struct.Struct("=HBBI")

# Any way to write, create or truncate: O_ACCMODE | O_CREAT | O_TRUNC (the same on both architectures).
_OPEN_FOR_WRITING = 0o3 | 0o100 | 0o1000
# TCGETS, TIOCGWINSZ (isatty and the like), FIONBIO, FIONCLEX, FIOCLEX; not FIOASYNC or FIOSETOWN, which make
# the kernel send signals on the program's behalf.
_IOCTLS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ;
# not F_SETOWN, F_SETSIG, nor locks (a covert channel).
_FCNTLS = (0, 1, 2, 3, 1030, 1032)
_F_SETFL, _O_ASYNC = 4, 0o20000
# PR_SET_NAME shows in /proc for others to read, PR_SET_VMA only names memory: both answered, neither done.
_PRCTLS_IGNORED = (15, 0x53564D41)
# A negative clock is another process' processor time, its number in the upper bits; these eight are one's own.
_CLOCK_OF_A_PROCESS, _OWN_CLOCKS = 0x80000000, 0xFFFFFFF8
_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020000


def _arg(index: int, *, high: bool = False) -> bytes:
    """Load half of argument `index` (both architectures are little-endian)."""
    return _op(_LD_W_ABS, _ARGS + 8 * index + (4 if high else 0))


def _op(code: int, k: int, true: int = 0, false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, true, false, k)


def _errno(number: int) -> bytes:
    return _op(_RET, _ERRNO | number)


_PASS = _op(_RET, _ALLOW)


def _only(argument: int, values: tuple[int, ...], refusal: bytes, answer: bytes = _PASS) -> bytes:
    """Answer `answer`, which lets the call through, if the argument is one of `values`, else `refusal`."""
    tests = b"".join(_op(_JEQ, value, len(values) - i, 0) for i, value in enumerate(values))
    return _arg(argument) + tests + refusal + answer


def _unless_any(argument: int, bits: int, refusal: bytes) -> bytes:
    """Allow the call if the argument has none of `bits`."""
    return _arg(argument) + _op(_JSET, bits, 0, 1) + refusal + _PASS


def _conditional() -> list[tuple[tuple[int | None, int | None], bytes]]:
    """Calls whose arguments decide; each rule ends in a return."""
    eperm, eacces = _errno(errno.EPERM), _errno(errno.EACCES)
    setfl = _arg(1) + _op(_JEQ, _F_SETFL, 0, 4) + _unless_any(2, _O_ASYNC, eperm)
    no_new_limit = (
        _arg(0)
        + _op(_JEQ, 0, 0, 4)  # its own limits
        + _arg(2)
        + _op(_JEQ, 0, 0, 2)  # no new value: low half, then high half of the pointer
        + _arg(2, high=True)
        + _op(_JEQ, 0, 1, 0)
        + eperm
        + _PASS
    )
    thread = (
        _arg(0)
        + _op(_JSET, _CLONE_THREAD, 0, 1)
        + _op(_JSET, _CLONE_NAMESPACES, 0, 1)
        + eperm
        + _PASS
    )
    connected = (
        _arg(4) + _op(_JEQ, 0, 0, 2) + _arg(4, high=True) + _op(_JEQ, 0, 1, 0) + eperm + _PASS
    )
    own_clock = (
        _arg(0)
        + _op(_JGE, _OWN_CLOCKS, 2, 0)
        + _op(_JGE, _CLOCK_OF_A_PROCESS, 0, 1)
        + _errno(errno.EINVAL)
        + _PASS
    )
    return [
        (_OPENAT, _unless_any(2, _OPEN_FOR_WRITING, eacces)),
        (_OPEN, _unless_any(1, _OPEN_FOR_WRITING, eacces)),
        (_IOCTL, _only(1, _IOCTLS, _errno(errno.ENOTTY))),
        (_FCNTL, setfl + _only(1, _FCNTLS, eperm)),
        (_PRCTL, _only(0, _PRCTLS_IGNORED, eperm, _errno(0))),
        (_PRLIMIT64, no_new_limit),
        (_CLONE, thread),
        # glibc falls back to clone, whose flags a filter can see.
        (_CLONE3, _errno(errno.ENOSYS)),
        (_SOCKETPAIR, _only(0, (1,), eperm)),
        (_SENDTO, connected),
        # Of oneself only: they would tell which processes there are.
        *((numbers, _only(0, (0,), eperm)) for numbers in _OF_A_PROCESS),
        (_GETPRIORITY, _only(1, (0,), eperm)),
        *((numbers, own_clock) for numbers in _CLOCKS),
    ]


def program(machine: str) -> bytes:
    """Return the BPF instructions for `x86_64` or `aarch64`.

    The numbers are searched as a binary tree: when a filter is installed the kernel runs it once for every
    system call there is, which for a list of tests takes longer than the fork.

    Raises:
        KeyError: another architecture, for which there is no table.
    """
    column = ("x86_64", "aarch64").index(machine) if machine in _AUDIT_ARCH else -1
    head = [
        _op(_LD_W_ABS, _ARCH),
        _op(_JEQ, _AUDIT_ARCH[machine], 1, 0),
        _op(_RET, _KILL_PROCESS),
        _op(_LD_W_ABS, _NR),
    ]
    allowed = {numbers[column] for numbers in ALLOWED.values()}
    rules = {pair[column]: rule for pair, rule in _conditional() if pair[column] is not None}
    # Runs of numbers with the same answer: (first number, answer).
    runs: list[tuple[int, bytes]] = []
    for number in range(max(n for n in (*allowed, *rules) if n is not None) + 2):
        answer = rules.get(number, _op(_RET, _ALLOW if number in allowed else _ERRNO | errno.EPERM))
        if not runs or runs[-1][1] != answer:
            runs.append((number, answer))
    return b"".join(head) + _search(runs)


def _search(runs: list[tuple[int, bytes]]) -> bytes:
    """Return the instructions that answer for the run which the loaded number is in."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    left, right = _search(runs[:middle]), _search(runs[middle:])
    n_left = len(left) // _INSTRUCTION.size
    if n_left > 255:  # further than a conditional jump reaches
        jump = _op(_JGE, runs[middle][0], 0, 1) + _op(_JA, n_left)
        return jump + left + right
    return _op(_JGE, runs[middle][0], n_left, 0) + left + right


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """A filter made ready before the fork, so that installing it is one system call."""

    def __init__(self) -> None:
        machine = platform.machine()
        if machine not in _SECCOMP:
            raise OSError(errno.ENOSYS, f"no system-call table for {machine}")
        code = program(machine)
        self._buffer = ctypes.create_string_buffer(code, len(code))
        self._program = _Program(len(code) // 8, ctypes.addressof(self._buffer))
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._arguments = (_SECCOMP[machine], 1, 0, ctypes.byref(self._program))

    def install(self) -> None:
        """Put the filter on this process for good.

        Raises:
            OSError: the kernel refuses.
        """
        if self._syscall(*self._arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, "the kernel must accept the system-call filter")
