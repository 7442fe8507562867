"""The filter, run by a small interpreter of BPF: what it answers for each call and argument."""

import errno
import re
import struct
from pathlib import Path

import pytest

from sandbox.guest import seccomp

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "kill": 62,
    "socket": 41,
    "connect": 42,
    "sendmsg": 46,
}


def answer(number, *arguments, machine="x86_64", arch=None):
    code = seccomp.program(machine)
    data = struct.pack(
        "=IIQ6Q", number, arch or ARCH[machine], 0, *(*arguments, *(0,) * (6 - len(arguments)))
    )
    accumulator, position = 0, 0
    while True:
        operation, true, false, k = struct.unpack_from("=HBBI", code, 8 * position)
        position += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x06:
            return k
        elif operation == 0x05:
            position += k
        else:
            holds = {
                0x15: accumulator == k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[operation]
            position += true if holds else false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_exactly_the_calls_of_the_table_are_allowed(machine):
    column = ("x86_64", "aarch64").index(machine)
    allowed = {numbers[column] for numbers in seccomp.ALLOWED.values()} - {None}
    conditional = {pair[column] for pair, _ in seccomp._conditional()} - {None}
    for number in range(600):
        if number not in conditional:
            wanted = ALLOW if number in allowed else ERRNO | errno.EPERM
            assert answer(number, machine=machine) == wanted, number


@pytest.mark.parametrize(
    ("machine", "header", "prefix"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "__NR_"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", "__NR(?:3264)?_"),
    ],
)
def test_the_numbers_are_the_kernels(machine, header, prefix):
    path = Path(header)
    if not path.exists():
        pytest.skip(f"no kernel headers: {header}")
    numbers = {
        name: int(value)
        for name, value in re.findall(rf"#define {prefix}(\w+)\s+(\d+)", path.read_text())
    }
    numbers.setdefault("newfstatat", numbers.get("fstatat"))
    column = ("x86_64", "aarch64").index(machine)
    for name, pair in seccomp.ALLOWED.items():
        if pair[column] is not None:
            assert numbers[name] == pair[column], name
    named = {
        "openat": seccomp._OPENAT,
        "ioctl": seccomp._IOCTL,
        "fcntl": seccomp._FCNTL,
        "prctl": seccomp._PRCTL,
    }
    named |= {"prlimit64": seccomp._PRLIMIT64, "clone": seccomp._CLONE, "clone3": seccomp._CLONE3}
    named |= {"socketpair": seccomp._SOCKETPAIR, "sendto": seccomp._SENDTO}
    named |= zip(("sched_getaffinity", "getpgid", "getsid"), seccomp._OF_A_PROCESS, strict=True)
    named |= zip(("clock_gettime", "clock_getres", "clock_nanosleep"), seccomp._CLOCKS, strict=True)
    named |= {"getpriority": seccomp._GETPRIORITY}
    assert all(numbers[name] == pair[column] for name, pair in named.items())


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_call_of_another_architecture_ends_the_process(machine):
    assert answer(0, machine=machine, arch=0x40000003) == KILL


def test_the_other_numbering_of_x86_is_refused():
    assert answer(0x40000000 + 1) == ERRNO | errno.EPERM


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_what_a_program_could_reach_others_with_is_refused(number):
    assert answer(number) == ERRNO | errno.EPERM


@pytest.mark.parametrize(
    ("call", "arguments", "wanted"),
    [
        (257, (0, 0, 0), ALLOW),  # openat for reading
        (257, (0, 0, 0o2000000), ALLOW),
        (257, (0, 0, 1), ERRNO | errno.EACCES),
        (257, (0, 0, 2), ERRNO | errno.EACCES),
        (257, (0, 0, 0o100), ERRNO | errno.EACCES),
        (257, (0, 0, 0o1000), ERRNO | errno.EACCES),
        (2, (0, 0o101), ERRNO | errno.EACCES),
        (16, (0, 0x5401), ALLOW),  # ioctl
        (16, (0, 0x5452), ERRNO | errno.ENOTTY),
        (16, (0, 0x8901), ERRNO | errno.ENOTTY),
        (72, (3, 1), ALLOW),  # fcntl
        (72, (3, 4, 0o4000), ALLOW),
        (72, (3, 4, 0o20000), ERRNO | errno.EPERM),
        (72, (3, 8), ERRNO | errno.EPERM),
        (72, (3, 10), ERRNO | errno.EPERM),
        (72, (3, 6), ERRNO | errno.EPERM),
        (157, (15,), ERRNO | 0),  # prctl: answered, not done
        (157, (22,), ERRNO | errno.EPERM),
        (157, (1,), ERRNO | errno.EPERM),
        (302, (0, 7, 0, 1), ALLOW),  # prlimit64: reading one's own
        (302, (0, 7, 1, 0), ERRNO | errno.EPERM),
        (302, (0, 7, 1 << 32, 0), ERRNO | errno.EPERM),
        (302, (5, 7, 0, 1), ERRNO | errno.EPERM),
        (56, (0x3D0F00,), ALLOW),  # clone: a thread
        (56, (17,), ERRNO | errno.EPERM),
        (56, (0x3D0F00 | 0x20000000,), ERRNO | errno.EPERM),
        (435, (), ERRNO | errno.ENOSYS),
        *((call, (0,), ALLOW) for call in (204, 121, 124)),  # of oneself
        *((call, (1,), ERRNO | errno.EPERM) for call in (204, 121, 124)),
        (140, (0, 0), ALLOW),  # getpriority
        (140, (0, 1), ERRNO | errno.EPERM),
        *((call, (clock,), ALLOW) for call in (228, 229, 230) for clock in (0, 1, 2, 3, 11)),
        # clocks are counted down from -1; -6 and -2 are one's own process and thread, the next ones process 1
        *((call, (-6 % 2**32,), ALLOW) for call in (228, 229, 230)),
        *((call, (-14 % 2**32,), ERRNO | errno.EINVAL) for call in (228, 229, 230)),
        *((call, (-14 % 2**64,), ERRNO | errno.EINVAL) for call in (228, 229, 230)),
        (53, (1,), ALLOW),  # socketpair
        (53, (2,), ERRNO | errno.EPERM),
        (44, (3, 0, 0, 0, 0), ALLOW),  # sendto without an address
        (44, (3, 0, 0, 0, 1), ERRNO | errno.EPERM),
        (44, (3, 0, 0, 0, 1 << 32), ERRNO | errno.EPERM),
    ],
)
def test_arguments_decide(call, arguments, wanted):
    assert answer(call, *arguments) == wanted


def test_an_unknown_machine_has_no_filter():
    with pytest.raises(KeyError):
        seccomp.program("riscv64")
